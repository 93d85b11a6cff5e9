import torch

import zoo

model = zoo.create("gan", features=64, latent=16, hidden=32)
generator = torch.optim.Adam(model.generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
discriminator = torch.optim.Adam(model.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))

real = torch.rand(32, 64)
for optimizer, name in ((discriminator, "d_loss"), (generator, "g_loss")):
    loss = model(real)[name]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
fake = model.sample(16)
