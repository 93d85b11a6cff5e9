import torch

import zoo

model = zoo.create("resnet18", num_classes=10)
decay = zoo.create("gain_bias_decay", weight_decay=1e-4)  # gains towards 1, shifts towards 0
x, y = torch.randn(4, 3, 64, 64), torch.randint(10, (4,))
loss = torch.nn.functional.cross_entropy(model(x), y) + decay(model)
loss.backward()
