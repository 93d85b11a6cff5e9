import torch

import zoo

model = zoo.create("i_revnet", num_classes=10, depths=(1, 1), strides=(1, 2)).eval()
x = torch.randn(2, 3, 32, 32)
logits = model(x)
with torch.no_grad():
    again = model.inverse(model.forward_features(x))  # no information is lost before the classifier
print((again - x).abs().max())
