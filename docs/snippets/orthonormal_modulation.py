import torch

import zoo

model = zoo.create("resnet18", num_classes=10)
penalty = zoo.create(
    "orthonormal_modulation", lam=1e-4
)  # in place of weight decay: filters of a layer stay orthonormal
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.0)

x, y = torch.randn(4, 3, 64, 64), torch.randint(10, (4,))
loss = torch.nn.functional.cross_entropy(model(x), y) + penalty(model)
optimizer.zero_grad()
loss.backward()
optimizer.step()
