import torch
from torch.utils.data import DataLoader, TensorDataset

import zoo

y = torch.tensor([0] * 90 + [1] * 10)  # a long tail
sampler = zoo.create("decoupling", y, mode="class_balanced")  # second stage; the first draws with mode="instance"
loader = DataLoader(TensorDataset(torch.randn(100, 8), y), batch_size=20, sampler=sampler)
for epoch in range(2):
    sampler.set_epoch(epoch)
    for _, labels in loader:
        print(labels.bincount())  # both classes alike
