import torch

import zoo

model = torch.nn.Sequential(
    torch.nn.Conv2d(3, 16, 3),
    torch.nn.BatchNorm2d(16),
    torch.nn.ReLU(),
    torch.nn.Flatten(),
    torch.nn.LazyLinear(10),
)
model(torch.randn(2, 3, 8, 8))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
projection = zoo.create("adaptive_weight_shrink", model, lam=1e-4)

for _ in range(3):
    loss = model(torch.randn(8, 3, 8, 8)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    projection.project()  # after every step
