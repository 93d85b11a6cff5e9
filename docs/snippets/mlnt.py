import torch

import zoo

x, y = torch.randn(256, 64), torch.randint(10, (256,))  # your data; some labels may be wrong
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
method = zoo.create("mlnt", model, num_sets=3, num_samples=len(x))
optimizer = torch.optim.SGD(method.parameters(), lr=0.1)

for _ in range(2):
    for index in torch.randperm(len(x)).split(64):
        loss = method(x[index], y[index], index=index)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step()  # moves the teacher

suspects = method.suspects()  # which labels it doubts, by index
# as a recipe, with checkpoints and evaluation: zoo train digits_small --set method=mlnt
