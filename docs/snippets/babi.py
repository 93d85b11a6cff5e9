from torch.utils.data import DataLoader

import zoo

task = zoo.create("babi", task=1, questions=100)  # generated: where is the person now?
story, question, answer = next(iter(DataLoader(task, batch_size=8)))
print(story.shape, question.shape, answer.shape)
