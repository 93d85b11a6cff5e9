"""The same small network trained on the same wrong labels by four methods: recipe ``digits_compare``, seed 0.

40 % of the training labels are wrong (symmetric_exclusive); what differs is the method, so the four files show what each
of them makes of the flips. Every file holds the network of the last epoch, not the best one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import nn

from zoo.training.data import Data, load_data
from zoo.training.engine import train
from zoo.training.recipe import load

METHODS: dict[str, Any] = {
    "cross_entropy": "cross_entropy",
    "gce": "gce",
    "elr": "elr",
    "co_teaching": {"co_teaching": {"forget_rate": 0.4}},
}


@lru_cache(maxsize=1)
def digits_with_noise() -> Data:
    """Training labels as the four saw them, their truth, and 600 clean test images."""
    return load_data(load("digits_compare"))


@torch.no_grad()
def figures(model: nn.Module) -> dict[str, float]:
    """Percent: test accuracy, and the share of the wrong training labels that the network predicts."""
    data, model = digits_with_noise(), model.eval()
    right = model(data.take(data.test, torch.arange(len(data.test)))).argmax(1) == data.test.labels
    wrong = data.wrong.nonzero().squeeze(1)
    kept = model(data.take(data.train, wrong)).argmax(1) == data.train.labels[wrong]
    return {"accuracy": 100 * float(right.float().mean()), "memorised": 100 * float(kept.float().mean())}


def make(method: str) -> tuple[nn.Module, dict[str, float]]:
    """Train by the recipe with one method; of two networks the first is taken."""
    result = train(load("digits_compare", {"method": METHODS[method]}), device="cpu", show=False)
    network = result.algorithm.get_trainable_module()
    assert network is not None
    model: nn.Module = network.nets[0] if hasattr(network, "nets") else network  # type: ignore[index, assignment]
    return model, figures(model)
