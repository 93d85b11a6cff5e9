"""torchvision's and timm's AutoAugment side by side: which tables are equal, and every magnitude that differs."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from timm.data.auto_augment import LEVEL_TO_ARG, auto_augment_policy
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

TIMM = ("original", "originalr", "v0", "v0r", "3a")
RENAMED = {"PosterizeOriginal": "Posterize", "PosterizeIncreasing": "Posterize", "TranslateYRel": "TranslateY"}
NO_MAGNITUDE = {"AutoContrast", "Equalize", "Invert"}


def theirs(name: str, exact: bool = False) -> list[tuple[tuple[str, float, int | None], ...]]:
    """timm's policy as torchvision writes one; ``exact`` keeps the name of the variant of an operation."""
    return [
        tuple(
            (
                op.name if exact else RENAMED.get(op.name, op.name),
                op.prob,
                None if op.name in NO_MAGNITUDE else op.magnitude,
            )
            for op in pair
        )
        for pair in auto_augment_policy(name, {})
    ]


def ours(policy: AutoAugmentPolicy) -> list[tuple[tuple[str, float, int | None], ...]]:
    return [tuple(pair) for pair in AutoAugment(policy).policies]


def differing(a, b) -> list[int]:
    return [i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]


def test_imagenet_tables_are_equal():
    for name in ("original", "originalr"):
        assert ours(AutoAugmentPolicy.IMAGENET) == theirs(name)


def test_no_other_policy_is_in_both():
    tables = {p.name: ours(p) for p in AutoAugmentPolicy} | {name: theirs(name) for name in TIMM}
    same = {tuple(sorted(pair)) for pair in itertools.combinations(tables, 2) if tables[pair[0]] == tables[pair[1]]}
    # v0r is v0 with another posterize, as originalr is original.
    assert same == {("IMAGENET", "original"), ("IMAGENET", "originalr"), ("original", "originalr"), ("v0", "v0r")}
    assert [len(tables[name]) for name in TIMM] == [25, 25, 25, 25, 3]


@pytest.mark.parametrize(("plain", "reverse"), [("original", "originalr"), ("v0", "v0r")])
def test_variants_differ_in_posterize_only(plain, reverse):
    a, b = theirs(plain, exact=True), theirs(reverse, exact=True)
    changed = differing(a, b)
    assert changed
    for i in range(25):
        for (x, *rest), (y, *others) in zip(a[i], b[i], strict=True):
            assert rest == others
            assert (x != y) == x.startswith("Posterize")
            assert x == y or y == "PosterizeIncreasing"


def magnitude(name: str, level: int, size: int = 331) -> tuple[float, bool]:
    """torchvision's value of a bin, and whether its sign is drawn."""
    values, signed = AutoAugment()._augmentation_space(10, (size, size))[name]
    return float(values[level]), signed


def argument(name: str, level: int) -> float:
    """timm's value of a bin, without its random sign."""
    return abs(LEVEL_TO_ARG[name](level, {"translate_pct": 0.45})[0])


@pytest.mark.parametrize("level", range(10))
def test_same_bin_other_strength(level):
    """Every operation with a magnitude in any of the tables: the two closed forms."""
    share, ninth = level / 10, level / 9
    for name, most in (("Rotate", 30.0), ("ShearX", 0.3), ("ShearY", 0.3)):
        assert magnitude(name, level) == (pytest.approx(most * ninth, abs=1e-5), True)
        assert argument(name, level) == pytest.approx(most * share)
    for name in ("TranslateX", "TranslateY"):
        assert magnitude(name, level) == (pytest.approx(150 * ninth, abs=1e-3), True)  # pixels, of 331
        assert argument(f"{name}Rel", level) == pytest.approx(0.45 * share)  # of the side: 149 pixels at bin 10
    for name in ("Color", "Contrast", "Brightness", "Sharpness"):
        assert magnitude(name, level) == (pytest.approx(0.9 * ninth, abs=1e-6), True)  # factor 1 plus or minus that
        assert argument(name, level) == pytest.approx(0.1 + 1.8 * share)  # the factor itself: 5 changes nothing
    # The two whose strength runs the other way.
    assert magnitude("Solarize", level) == (pytest.approx(255 * (1 - ninth), abs=1e-3), False)
    assert argument("Solarize", level) == int(256 * share)
    assert argument("SolarizeIncreasing", level) == 256 - int(256 * share)
    assert magnitude("Posterize", level) == (8 - round(4 * ninth), False)
    assert argument("PosterizeOriginal", level) == 4 + int(4 * share)
    assert argument("PosterizeIncreasing", level) == 4 - int(4 * share)


def test_solarize_and_posterize_run_opposite_ways():
    def falls(values):
        return all(a >= b for a, b in itertools.pairwise(values)) and values[0] > values[-1]

    for name, other in (("Solarize", "Solarize"), ("Posterize", "PosterizeOriginal")):
        assert falls([magnitude(name, i)[0] for i in range(10)])  # a larger bin is stronger
        assert falls([-argument(other, i) for i in range(10)])  # a larger bin is weaker
    assert magnitude("Solarize", 9)[0] == 0.0  # every pixel inverted
    assert argument("Solarize", 0) == 0
    assert min(argument("PosterizeIncreasing", i) for i in range(10)) == 1  # one bit left
    assert argument("Posterize", 0) == 0  # v0's: a black image


def test_signs():
    """torchvision draws the sign of colour operations, timm of geometric ones only (of those in the tables)."""
    random.seed(0)
    signs = {
        name: {LEVEL_TO_ARG[name](9, {"translate_pct": 0.45})[0] > 0 for _ in range(50)}
        for name in ("Rotate", "ShearX", "TranslateYRel", "Color", "Solarize", "PosterizeOriginal")
    }
    assert {name for name, s in signs.items() if len(s) == 2} == {"Rotate", "ShearX", "TranslateYRel"}
    space = AutoAugment()._augmentation_space(10, (32, 32))
    assert {name for name, (_, signed) in space.items() if signed} == {
        *("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
    }
    assert torch.equal(space["Posterize"][0], torch.tensor([8, 8, 7, 7, 6, 6, 5, 5, 4, 4]))
