import torch

import zoo

model = torch.nn.Linear(64, 10)  # trained
held_out_x, held_out_y = torch.randn(200, 64), torch.randint(10, (200,))
temperature_scaling = zoo.get("temperature_scaling")
calibrated = temperature_scaling(model, held_out_x, held_out_y)
probability = calibrated(torch.randn(8, 64)).softmax(-1)  # the same classes, other confidence
