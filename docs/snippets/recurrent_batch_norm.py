import torch

import zoo

lstm = zoo.create("recurrent_batch_norm", 16, 32, max_length=20, batch_first=True)
output, (h, c) = lstm(torch.randn(8, 20, 16))  # (8, 20, 32), as nn.LSTM; statistics of its own at every step
