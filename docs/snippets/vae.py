import torch

import zoo

model = zoo.create("vae", in_features=64, latent=8, hidden=32)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

x = torch.rand(32, 64)  # values in [0, 1]
result = model(x)
optimizer.zero_grad()
result.loss.backward()  # minus the bound
optimizer.step()
new = model.sample(16)  # decoded draws from the prior
