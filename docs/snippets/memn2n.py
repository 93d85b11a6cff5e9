import torch
from torch.utils.data import DataLoader

import zoo

task = zoo.create("babi", task=1, questions=100)
words = 1 + max(int(part.max()) for sample in task for part in sample)
model = zoo.create("memn2n", words, hops=3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

for story, question, answer in DataLoader(task, batch_size=32):
    loss = torch.nn.functional.cross_entropy(model(story, question), answer, reduction="sum")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
