import torch

import zoo

model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(32, 10))
mc_dropout = zoo.get("mc_dropout")
uncertainty = mc_dropout(model, torch.randn(8, 64), passes=20)  # only the dropout layers draw; all modes are put back
