import torch

import zoo

embedding = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 8))
method = zoo.create("prototypical_networks", embedding, num_classes=5, support=2)
optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)

for _ in range(3):
    # each class in a row: 2 examples for its prototype, then 4 queries
    y = torch.arange(5).repeat_interleave(6)
    x = torch.randn(30, 16) + y[:, None]
    loss = method(x, y)["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
