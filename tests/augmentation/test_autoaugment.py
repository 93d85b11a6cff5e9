"""torchvision's AutoAugment against timm's transcription of the policy and closed forms of its operations."""

from __future__ import annotations

import itertools

import pytest
import torch
from timm.data.auto_augment import auto_augment_policy_original
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

# Operations without magnitude: torchvision says None, timm keeps the number of the paper's table.
NO_MAGNITUDE = {"AutoContrast", "Equalize", "Invert"}


def with_policy(*operations: tuple[str, float, int | None]) -> AutoAugment:
    made = AutoAugment()
    made.policies = [operations]
    return made


def image(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, 12, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_imagenet_policy_and_operations(parity):
    """All 25 sub-policies as timm has them; three operations by their definition. The error counts misses."""
    theirs = [
        [(op.name.replace("PosterizeOriginal", "Posterize"), op.prob, op.magnitude) for op in pair]
        for pair in auto_augment_policy_original({})
    ]
    ours = AutoAugment(AutoAugmentPolicy.IMAGENET).policies
    assert len(ours) == len(theirs) == 25
    misses = 0
    for pair, other in zip(ours, theirs, strict=True):
        for (name, p, level), (other_name, other_p, other_level) in zip(pair, other, strict=True):
            misses += (name, p) != (other_name, other_p)
            misses += (level is None) != (name in NO_MAGNITUDE) or (level is not None and level != other_level)
    x = image().int()
    for level in range(10):
        threshold, bits = 255 * (1 - level / 9), 8 - round(level * 4 / 9)
        solarized = torch.where(x >= threshold, 255 - x, x)
        misses += int((with_policy(("Solarize", 1.0, level))(image()).int() != solarized).sum())
        posterized = x // 2 ** (8 - bits) * 2 ** (8 - bits)
        misses += int((with_policy(("Posterize", 1.0, level))(image()).int() != posterized).sum())
    misses += int((with_policy(("Invert", 1.0, None))(image()).int() != 255 - x).sum())
    parity("autoaugment", misses, 0, oracle="timm's transcription of the policy, closed forms of operations")


@pytest.mark.parametrize("policy", list(AutoAugmentPolicy))
def test_tables_are_in_the_search_space(policy):
    """25 pairs; probabilities are multiples of 0.1 and magnitudes one of 10 bins: 11 x 10 choices an operation."""
    pairs = AutoAugment(policy).policies
    assert len(pairs) == 25
    for name, p, level in itertools.chain(*pairs):
        assert round(p * 10) == pytest.approx(p * 10)
        assert (level is None) if name in NO_MAGNITUDE else level in range(10)


def test_probability_zero_is_the_identity():
    x = image()
    assert torch.equal(with_policy(("Invert", 0.0, None), ("Rotate", 0.0, 9))(x), x)


def test_sub_policy_is_drawn_uniformly():
    transform = AutoAugment()
    transform.policies = [(("Invert", 1.0, None), ("Rotate", 0.0, 0)), (("Rotate", 0.0, 0), ("Rotate", 0.0, 0))]
    x = image()
    inverted = sum(not torch.equal(transform(x), x) for _ in range(400))
    assert 150 < inverted < 250


def test_magnitudes_are_not_timms():
    """Bin 9 is the full range in torchvision, 0.9 of it in timm: one table, two augmentations."""
    space = AutoAugment()._augmentation_space(10, (331, 331))
    assert float(space["Rotate"][0][9]) == 30.0
    rotate = next(op for pair in auto_augment_policy_original({}) for op in pair if op.name == "Rotate")
    assert abs(rotate.level_fn(9, {})[0]) == pytest.approx(27.0)


def test_bad_input():
    with pytest.raises(ValueError, match="not recognized"):
        AutoAugment("imagenet")
    with pytest.raises(TypeError, match="uint8"):
        with_policy(("Posterize", 1.0, 9))(torch.rand(3, 4, 4))
