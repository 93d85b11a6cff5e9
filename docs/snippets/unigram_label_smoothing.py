import torch

import zoo

counts = torch.tensor([500, 300, 150, 50])  # samples of each class in the training set
loss = zoo.create("unigram_label_smoothing", counts, label_smoothing=0.1)

logits = torch.randn(8, 4, requires_grad=True)
target = torch.randint(4, (8,))
loss(logits, target).backward()
