import torch

import zoo

model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
smoothness = zoo.create("virtual_adversarial_training", eps=2.5)

x, y = torch.randn(16, 64), torch.randint(10, (16,))
unlabelled = torch.randn(48, 64)
loss = torch.nn.functional.cross_entropy(model(x), y) + smoothness(model, unlabelled)  # needs no labels
loss.backward()
