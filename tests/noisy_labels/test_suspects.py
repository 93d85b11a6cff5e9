"""Every method that ranks suspects finds known flips: average precision well above that of a random ranking."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.noisy_labels.base import Supervised
from zoo.noisy_labels.confident_learning import confident_learning
from zoo.noisy_labels.metacleaner import ClassGroupSampler
from zoo.training.noise import noisy_labels
from zoo.training.report import ranking

CLASSES, SIZE, EPOCHS, BATCH, LR = 5, 500, 16, 50, 0.1


class Network(nn.Module):
    """An MLP with timm's names, so that every method can take it."""

    num_features = 32

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = nn.Sequential(nn.Linear(8, 32), nn.ReLU()), nn.Linear(32, CLASSES)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.body(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return x if pre_logits else self.fc(x)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x))


def data():
    """Five clouds in eight dimensions, 40 % of the training labels wrong, 10 clean samples of each class held out."""
    generator = torch.Generator().manual_seed(0)
    centres = 2.5 * torch.randn(CLASSES, 8, generator=generator)
    truth = torch.arange(SIZE + 10 * CLASSES) % CLASSES
    x = centres[truth] + torch.randn(len(truth), 8, generator=generator)
    given = noisy_labels(truth[:SIZE], "symmetric_exclusive", 0.4, CLASSES, seed=1)
    return x[:SIZE], given, given != truth[:SIZE], (x[SIZE:], truth[SIZE:])


METHODS = {
    "co_teaching": {"forget_rate": 0.4, "ramp": 5},
    "co_teaching_plus": {"forget_rate": 0.4, "ramp": 5, "warmup": 4},
    "jocor": {"forget_rate": 0.4, "ramp": 5},
    "elr": {"num_classes": CLASSES},
    "learning_to_reweight": {},
    "meta_weight_net": {},
    "mlnt": {"num_sets": 1, "ramp": (40, 80)},
    "dividemix": {"warmup": 4},
    "peer_loss": {},
    "metacleaner": {"per_class": 5},
}


def average_precision(task, x: Tensor, y: Tensor, wrong: Tensor, clean: tuple[Tensor, Tensor]) -> float:
    """Percent, after a short training with what the method needs."""
    optimizer = torch.optim.SGD(task.get_trainable_module().parameters(), lr=LR, momentum=0.9)
    for epoch in range(EPOCHS):
        task.train()
        task.start_epoch(epoch, **({"batches": [(x, y, torch.arange(len(x)))]} if "epoch_pass" in task.needs else {}))
        task.train()
        batches = torch.randperm(len(x)).split(BATCH)
        if hasattr(task, "per_class"):
            batches = map(torch.tensor, ClassGroupSampler(y, CLASSES, 5, len(x) // 25, seed=epoch))
        for index in batches:
            peer = (x[torch.randint(SIZE, (BATCH,))], y[torch.randint(SIZE, (BATCH,))])
            given = {"epoch": epoch, "lr": LR, "meta_batch": clean, "peer": peer}
            loss = task(x[index], y[index], index=index, **{k: v for k, v in given.items() if k in task.needs})["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            task.after_step()
    return ranking(task.suspects(), wrong)["average_precision"]


@pytest.mark.parametrize("name", [*METHODS, "cross_entropy"])
def test_ranking_is_far_above_chance(name):
    x, y, wrong, clean = data()
    torch.manual_seed(0)
    net = Network()
    if name == "cross_entropy":
        task = Supervised(net, num_samples=SIZE)
    else:
        task = zoo.create(name, net, num_samples=SIZE, **METHODS[name])
    found = average_precision(task, x, y, wrong, clean)
    print(f"{name}: {found:.1f}")
    assert 38 < 100 * float(wrong.double().mean()) < 43
    # Chance is 41 +- 2. MetaCleaner never scores a sample by itself in training, and ranks the least well.
    assert found > (47 if name == "metacleaner" else 65)


def test_every_method_with_suspects_is_tried():
    """A new algorithm joins the list, or says that it ranks nothing."""
    from zoo.factory.targets import load_target, parameters_of
    from zoo.noisy_labels.base import Algorithm
    from zoo.registry.lookup import registry

    found = set()
    for name, method in registry().raw.methods.items():
        if method["kind"] == "algorithm":
            target = load_target(method["target"])
            if isinstance(target, type) and issubclass(target, Algorithm) and "num_samples" in parameters_of(target):
                found.add(name)
    assert found == set(METHODS)


def test_confident_learning_finds_flips():
    x, y, wrong, _ = data()

    def fit(model: nn.Module, x: Tensor, y: Tensor) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
        for _ in range(30):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    torch.manual_seed(0)
    chosen = confident_learning(Network(), x, y, fit).suspects
    assert float(wrong[chosen].double().mean()) > 0.8
    assert float(wrong[chosen].sum() / wrong.sum()) > 0.6
