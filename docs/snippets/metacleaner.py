import timm
import torch

import zoo

x, y = torch.randn(40, 3, 32, 32), torch.arange(4).repeat_interleave(10)  # per_class neighbours share a class
backbone = timm.create_model("test_resnet", num_classes=4)
method = zoo.create("metacleaner", backbone, per_class=5)
optimizer = torch.optim.SGD(method.parameters(), lr=0.1)

for index in torch.arange(len(x)).split(20):
    loss = method(x[index], y[index])["loss"]  # one cleaned feature a class stands for its five samples
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
