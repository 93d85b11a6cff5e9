import torch

import zoo

rnn = zoo.create("batch_norm_rnn", 16, 32, batch_first=True)
lengths = torch.tensor([20, 15, 12, 9, 7, 7, 5, 3])
output, state = rnn(torch.randn(8, 20, 16), lengths=lengths)  # padding takes no part in the statistics
