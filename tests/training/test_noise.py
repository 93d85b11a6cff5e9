"""Noise generators against their definitions: matrices by hand, frequencies, seeds, bad input."""

from __future__ import annotations

import pytest
import torch

from zoo.training.noise import (
    CIFAR100_COARSE,
    GENERATORS,
    clean_split,
    long_tail,
    noisy_labels,
    transition_matrix,
)

CLASSES = {"asym_cifar100_block": 100, "asym_cifar100_superclass": 100, "asym_cifar100_swap": 100}
CONDITIONAL = [g for g in GENERATORS if g != "instance_dependent"]


@pytest.mark.parametrize("name", CONDITIONAL)
def test_frequencies_follow_the_matrix(name):
    k = CLASSES.get(name, 10)
    labels = torch.arange(k).repeat_interleave(40_000 // k)
    noisy = noisy_labels(labels, name, 0.4, k, seed=3)
    matrix = transition_matrix(name, 0.4, k, seed=3)
    assert torch.allclose(matrix.sum(1), torch.ones(k, dtype=torch.float64))
    # Five standard deviations of the overall rate, and no impossible transition anywhere.
    expected = 1 - matrix.diagonal().mean()
    assert abs(float((noisy != labels).double().mean() - expected)) < 5 * (0.25 / len(labels)) ** 0.5
    assert (matrix[labels, noisy] > 0).all()


@pytest.mark.parametrize(
    ("name", "k", "changed"),
    [
        ("symmetric_exclusive", 10, 0.8),
        ("symmetric_inclusive", 10, 0.72),
        ("pair", 10, 0.8),
        ("asym_cifar10", 10, 0.4),
        ("asym_mnist", 10, 0.4),
        ("asym_cifar100_block", 100, 0.8),
        ("asym_cifar100_superclass", 100, 0.8),
        ("asym_cifar100_swap", 100, 0.32),
        ("flip2", 10, 0.8),
    ],
)
def test_share_of_changed_labels(name, k, changed):
    assert float(1 - transition_matrix(name, 0.8, k).diagonal().mean()) == pytest.approx(changed)


def test_named_transitions():
    assert transition_matrix("pair", 0.3, 4)[3, 0] == 0.3
    assert transition_matrix("asym_cifar10", 0.3, 10)[5, 3] == 0.3 == transition_matrix("asym_cifar10", 0.3, 10)[9, 1]
    assert transition_matrix("asym_mnist", 0.3, 10)[2, 7] == 0.3
    assert transition_matrix("asym_cifar100_block", 0.3, 100)[4, 0] == 0.3
    flip2 = transition_matrix("flip2", 0.4, 10)
    assert ((flip2 == 0.2).sum(1) == 2).all()
    coarse = torch.tensor(CIFAR100_COARSE)
    assert (torch.bincount(coarse) == 5).all()
    rows, columns = transition_matrix("asym_cifar100_superclass", 0.3, 100).nonzero().T
    assert (coarse[rows] == coarse[columns]).all()
    # apple and aquarium_fish are neighbours in the alphabet, not in kind
    assert transition_matrix("asym_cifar100_block", 0.3, 100)[0, 1] > 0
    assert coarse[0] != coarse[1]


def test_exclusive_never_draws_the_truth_and_inclusive_does():
    labels = torch.arange(10).repeat(500)
    assert (noisy_labels(labels, "symmetric_exclusive", 1.0, 10) != labels).all()
    assert (noisy_labels(labels, "symmetric_inclusive", 1.0, 10) == labels).double().mean() == pytest.approx(
        0.1, abs=0.03
    )


def test_seeded_and_exact():
    labels = torch.arange(10).repeat(100)
    a, b, c = (noisy_labels(labels, "symmetric_exclusive", 0.4, 10, seed=s) for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    exact = noisy_labels(labels, "symmetric_exclusive", 0.4, 10, exact=True)
    assert all(int((exact[labels == k] != k).sum()) in (39, 40, 41) for k in range(10))
    assert torch.equal(labels, torch.arange(10).repeat(100))


def test_instance_dependent():
    x, y = torch.randn(4000, 6), torch.arange(10).repeat(400)
    noisy = noisy_labels(y, "instance_dependent", 0.4, 10, seed=1, features=x)
    assert float((noisy != y).double().mean()) == pytest.approx(0.4, abs=0.04)
    # The label depends on the instance: equal features flip to one class more often than chance.
    same = noisy_labels(
        torch.zeros(2000, dtype=torch.int64), "instance_dependent", 0.9, 10, features=x[:1].expand(2000, 6)
    )
    counts = torch.bincount(same, minlength=10)[1:]
    assert int(counts.max()) > 2 * int(counts.float().mean())
    with pytest.raises(ValueError, match="features"):
        noisy_labels(y, "instance_dependent", 0.4, 10)


def test_long_tail_and_clean_split():
    labels = torch.arange(10).repeat(200)
    kept = labels[long_tail(labels, 100, 10)]
    counts = torch.bincount(kept)
    assert counts[0] == 200
    assert counts[-1] == 2
    assert (counts.diff() <= 0).all()
    step = torch.bincount(labels[long_tail(labels, 10, 10, profile="step")])
    assert step.tolist() == [200] * 5 + [20] * 5
    train, meta = clean_split(labels, 10, 10)
    assert not set(train.tolist()) & set(meta.tolist())
    assert len(train) + len(meta) == 2000
    assert (torch.bincount(labels[meta]) == 10).all()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: noisy_labels(torch.tensor([0, 9]), "pair", 0.2, 9), "labels"),
        (lambda: noisy_labels(torch.tensor([0]), "symetric", 0.2, 9), "allowed"),
        (lambda: noisy_labels(torch.tensor([0]), "pair", 1.2, 9), "rate"),
        (lambda: noisy_labels(torch.tensor([0]), "asym_cifar10", 0.2, 9), "10 classes"),
        (lambda: long_tail(torch.tensor([0, 2]), 10, 3), "every class"),
        (lambda: clean_split(torch.tensor([0, 1]), 1, 2), "held out"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_labels_that_are_not_integers():
    with pytest.raises(TypeError, match=r"takes integer classes, received torch\.float32"):
        noisy_labels(torch.tensor([0.0, 1.7, 2.0]), "pair", 0.2, 3)
    assert noisy_labels(torch.tensor([], dtype=torch.float32), "pair", 0.2, 3).dtype == torch.int64
    small = torch.arange(9, dtype=torch.uint8) % 3
    assert torch.equal(noisy_labels(small, "pair", 0.4, 3), noisy_labels(small.long(), "pair", 0.4, 3))
