import torch

import zoo

net = zoo.create("siren_net", in_features=2, out_features=1, hidden_features=64, hidden_layers=2)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

axis = torch.linspace(-1, 1, 32)
grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).view(-1, 2)  # coordinates in [-1, 1]
image = (grid.square().sum(-1, keepdim=True) < 0.5).float()
for _ in range(10):
    loss = (net(grid) - image).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
