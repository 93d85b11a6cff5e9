"""Label noise with exact names, long-tailed subsets and a held-out clean split, all seeded.

"40 % symmetric noise" means two different things in the literature, and "CIFAR-100 asymmetric" three. A generator is
therefore named in full; its rate is the probability in its definition, and :func:`transition_matrix` says what
share of labels it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from zoo.numerics import classes

#: Superclass (0..19) of each alphabetical CIFAR-100 fine label.
CIFAR100_COARSE = (
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7,
    6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10,
    16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16,
    12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
)  # fmt: skip

_CIFAR10_MAP = {9: 1, 2: 0, 3: 5, 5: 3, 4: 7}  # truck->automobile, bird->airplane, cat<->dog, deer->horse
_MNIST_MAP = {7: 1, 2: 7, 5: 6, 6: 5, 3: 8}


def _mapped(num_classes: int, rate: float, mapping: dict[int, int]) -> Tensor:
    matrix = torch.eye(num_classes, dtype=torch.float64)
    for source, target in mapping.items():
        matrix[source, source] = 1 - rate
        matrix[source, target] += rate
    return matrix


def _cycles(groups: Sequence[Sequence[int]]) -> dict[int, int]:
    return {group[i]: group[(i + 1) % len(group)] for group in groups for i in range(len(group))}


def _superclasses() -> list[list[int]]:
    return [[fine for fine in range(100) if CIFAR100_COARSE[fine] == coarse] for coarse in range(20)]


def _symmetric_exclusive(k: int, rate: float, generator: torch.Generator) -> Tensor:
    return torch.full((k, k), rate / (k - 1), dtype=torch.float64).fill_diagonal_(1 - rate)


def _symmetric_inclusive(k: int, rate: float, generator: torch.Generator) -> Tensor:
    return torch.full((k, k), rate / k, dtype=torch.float64) + (1 - rate) * torch.eye(k, dtype=torch.float64)


def _pair(k: int, rate: float, generator: torch.Generator) -> Tensor:
    return _mapped(k, rate, {i: (i + 1) % k for i in range(k)})


def _asym_cifar10(k: int, rate: float, generator: torch.Generator) -> Tensor:
    return _mapped(k, rate, _CIFAR10_MAP)


def _asym_mnist(k: int, rate: float, generator: torch.Generator) -> Tensor:
    return _mapped(k, rate, _MNIST_MAP)


def _asym_cifar100_block(k: int, rate: float, generator: torch.Generator) -> Tensor:
    return _mapped(k, rate, _cycles([range(i, i + 5) for i in range(0, 100, 5)]))


def _asym_cifar100_superclass(k: int, rate: float, generator: torch.Generator) -> Tensor:
    return _mapped(k, rate, _cycles(_superclasses()))


def _asym_cifar100_swap(k: int, rate: float, generator: torch.Generator) -> Tensor:
    pairs = [[group[i] for i in torch.randperm(5, generator=generator)[:2].tolist()] for group in _superclasses()]
    return _mapped(k, rate, _cycles(pairs))


def _flip2(k: int, rate: float, generator: torch.Generator) -> Tensor:
    matrix = (1 - rate) * torch.eye(k, dtype=torch.float64)
    for i in range(k):
        wrong = [j for j in range(k) if j != i]
        for pick in torch.randperm(k - 1, generator=generator)[:2].tolist():
            matrix[i, wrong[pick]] += rate / 2
    return matrix


_MATRICES: dict[str, tuple[Callable[[int, float, torch.Generator], Tensor], int | None]] = {
    "symmetric_exclusive": (_symmetric_exclusive, None),
    "symmetric_inclusive": (_symmetric_inclusive, None),
    "pair": (_pair, None),
    "asym_cifar10": (_asym_cifar10, 10),
    "asym_mnist": (_asym_mnist, 10),
    "asym_cifar100_block": (_asym_cifar100_block, 100),
    "asym_cifar100_superclass": (_asym_cifar100_superclass, 100),
    "asym_cifar100_swap": (_asym_cifar100_swap, 100),
    "flip2": (_flip2, None),
}
#: Every generator that :func:`noisy_labels` knows.
GENERATORS = (*_MATRICES, "instance_dependent")


def transition_matrix(name: str, rate: float, num_classes: int, seed: int = 0) -> Tensor:
    r"""The matrix :math:`T_{ij} = P(\text{given } j \mid \text{true } i)` of a class-conditional generator.

    ============================  =====================================================================
    ``symmetric_exclusive``       every wrong class with ``rate / (K - 1)``; the true one is never drawn
    ``symmetric_inclusive``       a uniform label over all K with probability ``rate``: changes ``rate (K - 1) / K``
    ``pair``                      i to i + 1 mod K
    ``asym_cifar10``              truck to automobile, bird to airplane, cat and dog swapped, deer to horse
    ``asym_mnist``                7 to 1, 2 to 7, 5 and 6 swapped, 3 to 8
    ``asym_cifar100_block``       next label in blocks of five consecutive ids, which are alphabetical
    ``asym_cifar100_superclass``  next label inside the true superclass
    ``asym_cifar100_swap``        two subclasses of each superclass, drawn by ``seed``, are swapped
    ``flip2``                     two wrong classes, drawn by ``seed``, with ``rate / 2`` each
    ============================  =====================================================================

    Args:
        name: one of the names above.
        rate: the probability in the definition, in [0, 1].
        num_classes: K.
        seed: for the generators that draw their target classes.

    Returns:
        ``(K, K)`` float64, rows sum to 1.

    Raises:
        ValueError: unknown name, rate outside [0, 1], a number of classes that the generator is not defined for.
    """
    if name not in _MATRICES:
        raise ValueError(f"unknown class-conditional noise {name!r}; allowed: {', '.join(_MATRICES)}")
    if not 0 <= rate <= 1:
        raise ValueError(f"a noise rate lies in [0, 1], received {rate}")
    make, fixed = _MATRICES[name]
    least = 3 if name == "flip2" else 2
    if (fixed is not None and num_classes != fixed) or num_classes < least:
        raise ValueError(f"{name} is defined for {fixed or f'at least {least}'} classes, received {num_classes}")
    return make(num_classes, rate, torch.Generator().manual_seed(seed))


def _instance_dependent(y: Tensor, rate: float, k: int, x: Tensor, generator: torch.Generator) -> Tensor:
    q = torch.normal(rate, 0.1, (len(y),), generator=generator, dtype=torch.float64)
    while bool(((q < 0) | (q > 1)).any()):  # truncation to [0, 1] by drawing again
        bad = (q < 0) | (q > 1)
        q[bad] = torch.normal(rate, 0.1, (int(bad.sum()),), generator=generator, dtype=torch.float64)
    x = x.flatten(1).double()
    rows = torch.empty(len(y), k, dtype=torch.float64)
    for c in range(k):  # one projection a class keeps the memory at (D, K)
        mine = y == c
        rows[mine] = x[mine] @ torch.randn(x.shape[1], k, generator=generator, dtype=torch.float64)
    rows[torch.arange(len(y)), y] = -torch.inf
    rows = q[:, None] * rows.softmax(1)
    rows[torch.arange(len(y)), y] = 1 - q
    return rows


def noisy_labels(
    labels: Tensor,
    name: str,
    rate: float,
    num_classes: int,
    seed: int = 0,
    features: Tensor | None = None,
    exact: bool = False,
) -> Tensor:
    """Labels with seeded noise; the same arguments give the same labels on every machine.

    Args:
        labels: ``(N,)`` int64, the true classes.
        name: one of :data:`GENERATORS`; the class-conditional ones are defined in :func:`transition_matrix`.
            ``instance_dependent`` follows Xia et al. (NeurIPS 2020, algorithm 2): each sample has its own flip rate,
            normal around ``rate`` with standard deviation 0.1 truncated to [0, 1], and flips by a random linear
            projection of its features.
        rate: see :func:`transition_matrix`.
        num_classes: K.
        seed: of the draw, and of the target classes where a generator draws them.
        features: ``(N, *)``, for ``instance_dependent`` only.
        exact: flip the rounded expected number of each class instead of one Bernoulli draw a sample.

    Returns:
        ``(N,)`` int64, a new tensor.

    Raises:
        ValueError: unknown name, labels out of range, missing or superfluous features.
        TypeError: labels that are not integers.
    """
    labels = torch.as_tensor(labels)
    labels = (classes(labels, "noisy_labels") if labels.numel() else labels.long()).cpu()  # an empty list has no type
    if labels.ndim != 1 or (len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes):
        raise ValueError(f"labels are (N,) in [0, {num_classes}), received shape {tuple(labels.shape)}")
    generator = torch.Generator().manual_seed(seed)
    if name == "instance_dependent":
        if features is None or len(features) != len(labels):
            raise ValueError("instance_dependent noise needs the features of every sample")
        if not 0 <= rate <= 1:
            raise ValueError(f"a noise rate lies in [0, 1], received {rate}")
        if exact:
            raise ValueError("exact counts are defined for class-conditional noise only")
        rows = _instance_dependent(labels, rate, num_classes, features.cpu(), generator)
        return torch.multinomial(rows, 1, generator=generator).squeeze(1)
    if name not in _MATRICES:
        raise ValueError(f"unknown noise {name!r}; allowed: {', '.join(GENERATORS)}")
    matrix = transition_matrix(name, rate, num_classes, seed)
    if not exact:
        return torch.multinomial(matrix[labels], 1, generator=generator).squeeze(1)
    noisy = labels.clone()
    for c in range(num_classes):
        mine = (labels == c).nonzero().squeeze(1)
        mine = mine[torch.randperm(len(mine), generator=generator)]
        ends = (matrix[c].cumsum(0) * len(mine)).round().long()
        for j in range(num_classes):
            noisy[mine[(int(ends[j - 1]) if j else 0) : int(ends[j])]] = j
    return noisy


def long_tail(labels: Tensor, ratio: float, num_classes: int, seed: int = 0, profile: str = "exponential") -> Tensor:
    """Indices of a long-tailed subset: class c keeps ``n_max * ratio ** (-c / (K - 1))`` samples.

    Args:
        labels: ``(N,)`` int64.
        ratio: largest class over smallest class, at least 1.
        num_classes: K; class 0 is the head.
        seed: which samples stay.
        profile: ``exponential``, or ``step`` (the second half of the classes keeps ``n_max / ratio``).

    Returns:
        ``(M,)`` int64, ascending. Every class keeps at least one sample.

    Raises:
        ValueError: ratio below 1, unknown profile, a class without samples.
    """
    if ratio < 1 or profile not in ("exponential", "step"):
        raise ValueError(f"long_tail needs ratio >= 1 and profile exponential or step, received {ratio}, {profile!r}")
    labels = torch.as_tensor(labels).cpu()
    counts = torch.bincount(labels, minlength=num_classes)
    if len(counts) != num_classes or int(counts.min()) == 0:
        raise ValueError("long_tail needs at least one sample of every class and no class beyond them")
    most, kept = int(counts.max()), []
    generator = torch.Generator().manual_seed(seed)
    for c in range(num_classes):
        step = 0.0 if c < (num_classes + 1) // 2 else 1.0
        share = c / max(num_classes - 1, 1) if profile == "exponential" else step
        want = max(1, round(most * ratio**-share))
        mine = (labels == c).nonzero().squeeze(1)
        kept.append(mine[torch.randperm(len(mine), generator=generator)[:want]])
    return torch.cat(kept).sort().values


def clean_split(labels: Tensor, per_class: int, num_classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """``(train, meta)`` indices: a class-balanced clean set that is held out, never a copy of training samples.

    Raises:
        ValueError: a class has no more than ``per_class`` samples.
    """
    labels = torch.as_tensor(labels).cpu()
    generator = torch.Generator().manual_seed(seed)
    meta = []
    for c in range(num_classes):
        mine = (labels == c).nonzero().squeeze(1)
        if len(mine) <= per_class:
            raise ValueError(f"class {c} has {len(mine)} samples, {per_class} were to be held out")
        meta.append(mine[torch.randperm(len(mine), generator=generator)[:per_class]])
    held = torch.cat(meta)
    train = torch.ones(len(labels), dtype=torch.bool)
    train[held] = False
    return train.nonzero().squeeze(1), held
