import torch

import zoo

model = zoo.create("resnet18", num_classes=10)  # trained, with batch norm
weigh = zoo.get("inference_example_weighing")
weigh(model, example_weight=0.1).eval()  # in place; choose the weight on validation data
model(torch.randn(2, 3, 64, 64))
