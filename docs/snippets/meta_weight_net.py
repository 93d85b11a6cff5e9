import torch

import zoo

x, y = torch.randn(256, 64), torch.randint(10, (256,))  # your data; some labels may be wrong
clean_x, clean_y = (
    torch.randn(20, 64),
    torch.arange(20) % 10,
)  # a few samples whose labels are right, all classes alike
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
method = zoo.create("meta_weight_net", model, num_samples=len(x))
optimizer = torch.optim.SGD(method.parameters(), lr=0.1)

for _ in range(2):
    for index in torch.randperm(len(x)).split(64):
        loss = method(x[index], y[index], meta_batch=(clean_x, clean_y), lr=0.1, index=index)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

suspects = method.suspects()  # which labels it doubts, by index
# as a recipe, with checkpoints and evaluation: zoo train digits_small --set method=meta_weight_net
