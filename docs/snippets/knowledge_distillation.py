import torch

import zoo

teacher = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10)).eval()  # trained
student = torch.nn.Linear(64, 10)
method = zoo.create("knowledge_distillation", student, teacher, temperature=4.0, alpha=0.9)
optimizer = torch.optim.SGD(student.parameters(), lr=0.1)

x, y = torch.randn(32, 64), torch.randint(10, (32,))
result = method(x, y)  # loss, output, task_loss, kd_loss
optimizer.zero_grad()
result["loss"].backward()
optimizer.step()
