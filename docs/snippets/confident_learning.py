import torch

import zoo

x = torch.randn(200, 8)
y = (x[:, 0] > 0).long()
y[:10] = 1 - y[:10]  # ten wrong labels


def fit(model, x, y):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


confident_learning = zoo.get("confident_learning")
issues = confident_learning(torch.nn.Linear(8, 2), x, y, fit)  # folds, thresholds, joint, issues
