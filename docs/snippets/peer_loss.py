import torch

import zoo

x, y = torch.randn(256, 64), torch.randint(10, (256,))  # your data; some labels may be wrong
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
method = zoo.create("peer_loss", model, warmup=1)
optimizer = torch.optim.SGD(method.parameters(), lr=0.1)

for epoch in range(2):
    for index in torch.randperm(len(x)).split(64):
        a, b = torch.randint(len(x), (2, len(index)))  # inputs and labels of different samples
        loss = method(x[index], y[index], peer=(x[a], y[b]), epoch=epoch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

# the same loop as a recipe, with checkpoints and evaluation: zoo train digits_small --set method=peer_loss
