import zoo

model = zoo.create("resnet18", num_classes=10)
zoo.get("bn_only")(model)  # in place: everything frozen at its random start but gamma and beta
trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
print(trained, "of", sum(p.numel() for p in model.parameters()))
