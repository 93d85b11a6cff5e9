import torch

import zoo

model = zoo.create("autoencoder", in_features=64, latent=8, hidden=(32,))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

x = torch.rand(32, 64)
result = model(x)  # loss, output, code
optimizer.zero_grad()
result["loss"].backward()
optimizer.step()
strange = (model(x)["output"] - x).square().sum(1)  # reconstruction error finds outliers
