import torch

import zoo

layer = zoo.create("meprop", 64, 256, k=30)  # in place of nn.Linear(64, 256)
layer(torch.randn(8, 64)).square().sum().backward()
print((layer.weight.grad.abs().sum(1) > 0).sum())  # 30 rows have a gradient
