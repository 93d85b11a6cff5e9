import torch

import zoo
from zoo.weights.weight_norm import data_dependent_init

model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
weight_norm = zoo.get("weight_norm")
weight_norm(model, init_std=0.05)  # in place: w = g v / |v| in every layer
data_dependent_init(model, torch.randn(128, 64))  # unit variance of every pre-activation, as in the paper
model(torch.randn(8, 64)).sum().backward()
