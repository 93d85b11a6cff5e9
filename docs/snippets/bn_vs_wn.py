import torch

import zoo

model = torch.nn.Sequential(
    torch.nn.Conv2d(3, 16, 3, bias=False),
    torch.nn.BatchNorm2d(16),
    torch.nn.ReLU(),
    torch.nn.Conv2d(16, 32, 3, bias=False),
    torch.nn.BatchNorm2d(32),
)
rival = zoo.get("bn_vs_wn")(model, batch=torch.randn(16, 3, 16, 16), variant="weight_norm")  # in place
rival(torch.randn(2, 3, 16, 16))
