import torch

import zoo

T = torch.full((10, 10), 0.4 / 9).fill_diagonal_(
    0.6
)  # T[i, j] is P(given label j | true label i): 40 % symmetric noise
loss = zoo.create("forward_correction", T)

logits = torch.randn(8, 10, requires_grad=True)
target = torch.randint(10, (8,))
loss(logits, target).backward()
