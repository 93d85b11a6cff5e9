"""The held-out digits that come with the package."""

from __future__ import annotations

from torch import Tensor

from zoo.registry.files import PACKAGE


def digits_heldout() -> tuple[Tensor, Tensor, Tensor]:
    """360 digits that ``gn_resnet8_digits`` never saw.

    Returns:
        ``(images, labels, x)``: images ``(360, 1, 8, 8)`` uint8 from 0 to 16, labels ``(360,)`` int64, and the images as the
        network wants them, float32 with mean and deviation taken off.
    """
    from safetensors.torch import load_file

    from zoo.training.normalise import digits_input

    data = load_file(PACKAGE / "models" / "weights" / "digits_heldout.safetensors")
    return data["images"], data["labels"].long(), digits_input(data["images"].float() / 16)
