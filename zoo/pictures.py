"""What Pillow leaves to its callers: pixels deeper than 8 bits, and the errors of damaged files."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def eight_bits(image: Image) -> Image:
    """The picture as it is, or grey of 16 bits (mode ``I;16``) divided by 257 and rounded, so that 65535 becomes 255.

    ``convert`` would clip instead.

    Raises:
        ValueError: pixels of 32 bits (modes ``I`` and ``F``), whose range no file states.
    """
    import numpy as np
    from PIL import Image as pil

    if image.mode in ("I", "F"):
        raise ValueError(
            f"mode {image.mode}, 32 bits a pixel, does not say which value is white; store it with 8 or 16 bits"
        )
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        return pil.fromarray(((values + 128) // 257).astype(np.uint8))
    return image


def damage() -> tuple[type[Exception], ...]:
    """What Pillow raises on files that are damaged, or larger than it decodes; no TypeError, which is a column misnamed."""
    from PIL import Image

    bomb = Image.DecompressionBombError
    found = (OSError, SyntaxError, ValueError, IndexError, EOFError, OverflowError)
    return (*found, struct.error, zlib.error, bomb)
