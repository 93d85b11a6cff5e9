import torch

import zoo

model = torch.nn.Sequential(*(m for _ in range(10) for m in (torch.nn.Linear(32, 32), torch.nn.ReLU())))
zoo.get("backward_modulation")(model)  # in place: errors keep their size from layer to layer
model(torch.randn(8, 32)).square().mean().backward()
