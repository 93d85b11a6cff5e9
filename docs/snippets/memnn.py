import torch

import zoo

task = zoo.create("babi", task=2, questions=100)
model = zoo.create("memnn", 1 + len(task.vocabulary), memory=task.memory)
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)

for i in torch.randperm(len(task)).split(32):
    # Strong supervision: the sentences that support an answer are known in training.
    loss = model.loss(task.stories[i], task.questions[i], task.answers[i], task.supports[i]).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# Slots in the order they were read, -1 after the stop, and the score of every word.
facts, scores = model.retrieve(task.stories[:4], task.questions[:4])
