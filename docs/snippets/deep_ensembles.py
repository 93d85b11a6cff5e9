import torch

import zoo

member = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
ensemble = zoo.create("deep_ensembles", member, num_members=5)  # four more, drawn anew
optimizer = torch.optim.Adam(ensemble.parameters(), lr=1e-3)

x, y = torch.randn(32, 64), torch.randint(10, (32,))
result = ensemble(x, y)
optimizer.zero_grad()
result["loss"].backward()
optimizer.step()
probability = result["output"].exp()  # mean over the members
