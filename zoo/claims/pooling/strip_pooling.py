"""Strip pooling: context along whole rows, which small convolutions cannot reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.pooling._dense import dense_scores, images, row_has_ink
from zoo.pooling.strip_pooling import StripPooling


def long_range(seeds: Sequence[int]) -> Outcome:
    """Does every pixel know whether its row holds ink? With and without one strip pooling module."""
    train, _, test, _ = images()
    middles: dict[str, Callable[[int], nn.Module]] = {
        "convolution": lambda c: nn.Conv2d(c, c, 3, padding=1),
        "strip_pooling": StripPooling,
    }
    scores = dense_scores(middles, 2, (train, row_has_ink(train)), (test, row_has_ink(test)), seeds, 5)
    gain = min(a - b for a, b in zip(scores["strip_pooling"], scores["convolution"], strict=True))
    return Outcome(
        verdict(gain >= 5),
        {f"{name}_pixel_accuracy": mean_and_spread(v) for name, v in scores.items()}
        | {"smallest_gain": round(gain, 2)},
        "MNIST (1200 images) at 14 x 14, every pixel is labelled by whether its row holds a bright pixel; "
        "two 3 x 3 convolutions of "
        "16 channels, then the module or a third convolution (9 C^2 weights against 7 C^2), 1 x 1; Adam 1e-2, 5 epochs",
        "strip pooling at least 5 points of pixel accuracy above the third convolution for every seed",
    )
