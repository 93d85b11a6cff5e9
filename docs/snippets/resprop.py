import torch

import zoo

layer = zoo.create("resprop", 64, 256, reuse=0.5)  # in place of nn.Linear(64, 256)
for _ in range(3):  # from the second step on half of the gradient is the stored one
    layer(torch.randn(8, 64)).square().sum().backward()
