"""Preprocessing that belongs to the weights, and what a model says about pictures."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import WeightsError
from zoo.pictures import damage, eight_bits

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn

#: Larger pictures are refused before they are decoded.
MAX_PIXELS = 200_000_000


@dataclass(frozen=True, slots=True)
class Guess:
    index: int
    name: str
    probability: float


def transforms(cfg: Mapping[str, Any], *, training: bool = False, **changes: Any) -> Callable[[Image.Image], Tensor]:
    """timm's transform for weights with record ``cfg`` (``input_size``, ``mean``, ``std``, ``interpolation``, ``crop_pct``).

    ``changes`` go to ``timm.data.create_transform`` and win over the record.

    Raises:
        WeightsError: the record does not say what the weights need.
    """
    from timm.data import create_transform, resolve_data_config

    lacking = [k for k in ("input_size", "mean", "std") if not cfg.get(k)]
    if lacking:
        raise WeightsError(f"the weights do not say their {', '.join(lacking)}, so no preprocessing can be right")
    config = resolve_data_config(args={}, pretrained_cfg=dict(cfg))
    transform: Callable[[Image.Image], Tensor] = create_transform(**(config | changes), is_training=training)
    return transform


def class_names(cfg: Mapping[str, Any], classes: int) -> list[str]:
    """Names of the classes: the record's own (``label_names``), ImageNet's for its 1,000 or 21k sets, else numbers."""
    own = cfg.get("label_names")
    if own and len(own) == classes:
        described = cfg.get("label_descriptions") or {}
        return [described.get(n, str(n)) for n in own]
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({**cfg, "num_classes": classes}) if classes >= 1000 else None
    if subset:
        info = ImageNetInfo(subset)
        return [info.index_to_description(i) for i in range(classes)]
    return [f"class {i}" for i in range(classes)]


def open_image(path: Path | str, channels: int = 3) -> Image.Image:
    """A picture as RGB, or grey where the weights take one channel.

    Raises:
        WeightsError: not a picture, damaged, or larger than ``MAX_PIXELS``.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(path)
        if picture.width * picture.height > MAX_PIXELS:
            raise WeightsError(f"{path} has {picture.width} x {picture.height} pixels, more than {MAX_PIXELS:,}")
        return eight_bits(picture).convert("L" if channels == 1 else "RGB")
    except WeightsError:
        raise
    except damage() as error:
        raise WeightsError(f"{path} is not a picture that can be read: {type(error).__name__}") from None


def predict(
    model: nn.Module,
    cfg: Mapping[str, Any],
    images: Sequence[Path | str],
    top: int = 5,
    names: Sequence[str] | None = None,
) -> list[list[Guess]]:
    """The ``top`` classes of each picture with their probabilities (softmax over the logits).

    Raises:
        WeightsError: an unreadable picture, or a model that gives no logits ``(N, classes)``.
    """
    import torch

    transform = transforms(cfg)
    channels = int(cfg["input_size"][0])
    batch = torch.stack([transform(open_image(p, channels)) for p in images])
    training = model.training
    try:
        with torch.no_grad():
            logits = model.eval()(batch)
    finally:
        model.train(training)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
        raise WeightsError("the model gives no logits over classes, so there is nothing to name")
    known = list(names) if names is not None else class_names(cfg, logits.shape[1])
    values, indices = logits.float().softmax(-1).topk(min(top, logits.shape[1]))
    return [
        [Guess(int(i), known[int(i)], float(v)) for v, i in zip(row, places, strict=True)]
        for row, places in zip(values, indices, strict=True)
    ]
