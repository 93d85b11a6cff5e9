"""Labels of any integer type mean the same; what is no class is an error and never a silent number."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import zoo
from zoo.noisy_labels.base import Supervised
from zoo.training.names import CLASSIFYING, of_kind

N = K = 4
LOSSES = of_kind("loss", categories=CLASSIFYING)
ARGUMENTS = {
    "forward_correction": {"T": (torch.eye(K) * 0.6 + 0.1).tolist()},
    "backward_correction": {"T": (torch.eye(K) * 0.6 + 0.1).tolist()},
    "unigram_label_smoothing": {"prior": torch.ones(K)},
}
#: torch's own loss, with torch's own rules.
TORCH = {"label_smoothing"}
ALGORITHMS = {
    "elr": {"num_samples": 9, "num_classes": K}, "co_teaching": {"forget_rate": 0.2}, "jocor": {"forget_rate": 0.2},
    "peer_loss": {}, "mixup": {}, "learning_to_reweight": {}, "meta_weight_net": {},
}  # fmt: skip


def logits():
    return torch.randn(N, K, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", [n for n in LOSSES if n not in TORCH])
def test_losses(name):
    loss = zoo.create(name, **ARGUMENTS.get(name, {})).double()
    labels = torch.tensor([1, 0, 1, 3])
    wanted = loss(logits(), labels)
    for dtype in (torch.int32, torch.int16, torch.uint8):
        torch.testing.assert_close(loss(logits(), labels.to(dtype)), wanted, rtol=0, atol=0)
    for wrong in (labels.double(), labels > 0):
        with pytest.raises(TypeError, match="takes integer classes"):
            loss(logits(), wrong)
    for label in (-1, -100, K):
        with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
            loss(logits(), torch.tensor([label, 0, 1, 2]))


def step(task, labels, dtype=torch.int64):
    torch.manual_seed(0)
    x, clean = torch.randn(N, 6), (torch.randn(5, 6), (torch.arange(5) % K).to(dtype))
    given = {"epoch": 0.0, "lr": 0.1, "index": torch.arange(N), "meta_batch": clean, "peer": clean}
    return task(x, labels, **{k: v for k, v in given.items() if k in (*task.needs, "index")})["loss"]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_algorithms(name):
    torch.manual_seed(0)
    task = zoo.create(name, nn.Linear(6, K), **ALGORITHMS[name])
    labels = torch.tensor([1, 0, 1, 3])
    wanted = step(copy.deepcopy(task), labels)
    for dtype in (torch.int32, torch.uint8):
        torch.testing.assert_close(step(copy.deepcopy(task), labels.to(dtype), dtype), wanted, rtol=0, atol=0)
    if {"meta_batch", "peer"} & task.needs:
        with pytest.raises(TypeError, match=r"(meta_batch|peer) of .* takes integer classes"):
            step(task, labels, torch.float32)
    with pytest.raises(TypeError, match=r"takes integer classes, received torch\.float32"):
        step(task, labels.float())


def test_the_criterion_decides_about_soft_targets():
    task = Supervised(nn.Linear(6, K))
    soft = torch.eye(K)
    torch.testing.assert_close(task(torch.ones(N, 6), soft)["loss"], task(torch.ones(N, 6), torch.arange(K))["loss"])


def test_elr_names_both_numbers_of_classes():
    with pytest.raises(ValueError, match="targets of 5 classes, the network gives 4"):
        step(zoo.create("elr", nn.Linear(6, K), num_samples=9, num_classes=5), torch.arange(N))


def test_a_method_that_does_not_rank_says_so():
    with pytest.raises(RuntimeError, match="Mixup does not tell which labels it distrusts"):
        zoo.create("mixup", nn.Linear(6, K)).suspects()
    with pytest.raises(RuntimeError, match="construct it with num_samples"):
        Supervised(nn.Linear(6, K)).suspects()
