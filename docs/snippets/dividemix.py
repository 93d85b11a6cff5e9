import torch

import zoo

x, y = torch.randn(256, 64), torch.randint(10, (256,))  # your data; some labels may be wrong
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
method = zoo.create("dividemix", model, num_samples=len(x), warmup=1)
optimizer = torch.optim.SGD(method.parameters(), lr=0.1)

for epoch in range(2):
    method.start_epoch(epoch, ((x[i], y[i], i) for i in torch.arange(len(x)).split(64)))  # divides the samples
    for index in torch.randperm(len(x)).split(64):
        loss = method(x[index], y[index], index=index, epoch=epoch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

suspects = method.suspects()  # which labels it doubts, by index
# as a recipe, with checkpoints and evaluation: zoo train digits_small --set method=dividemix
