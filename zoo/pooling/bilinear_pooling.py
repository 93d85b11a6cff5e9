"""Bilinear pooling: the average outer product of local descriptors (Lin, RoyChowdhury and Maji, arXiv 1504.07889)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.numerics import wide, without_autocast
from zoo.pooling._vectorise import isometry, triangle_size, upper_triangle


def signed_sqrt(x: Tensor, eps: float = 1e-5) -> Tensor:
    r""":math:`\operatorname{sign}(x) \sqrt{|x| + \epsilon}`. At 0: value and gradient 0."""
    return x.sign() * (x.abs() + eps).sqrt()


class BilinearPooling(nn.Module):
    r"""B-CNN pooling: outer product over positions, signed square root, L2 normalisation.

    .. math:: B = \tfrac1M X X^\top, \qquad z = \operatorname{sign}(B) \sqrt{|B| + \epsilon}, \qquad
              \hat z = z / \lVert z \rVert_2

    with ``X`` of shape ``(C, M)``, ``M = H W``. Both streams are the same network, which is how the paper's best
    models run after fine-tuning; :func:`bilinear_features` takes two different maps.

    Args:
        in_channels: C.
        reduction: optional number of channels to come down to by a 1 x 1 convolution first (features grow as C^2).
        half: keep the upper triangle only, off-diagonal entries scaled by sqrt(2) after the root: inner products,
            norms and what a linear layer can express stay the same at half the size.
        eps: inside the root (HaoMood's code: 1e-5).

    Attributes:
        out_features: ``C^2``, or ``C (C + 1) / 2`` with ``half``.

    Raises:
        ValueError: sizes below 1, ``eps`` below 0, or an input that is not ``(N, in_channels, H, W)``.
    """

    def __init__(self, in_channels: int, reduction: int | None = None, half: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        if in_channels < 1 or (reduction is not None and reduction < 1) or eps < 0:
            raise ValueError(
                "bilinear_pooling needs in_channels and reduction >= 1 and eps >= 0, received "
                f"{in_channels}, {reduction} and {eps}"
            )
        self.in_channels, self.upper_half, self.eps = in_channels, half, eps  # .half() is a method of every module
        channels = in_channels if reduction is None else reduction
        self.reduce = nn.Identity() if reduction is None else nn.Conv2d(in_channels, reduction, 1, bias=False)
        self.out_features = triangle_size(channels) if half else channels**2

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"bilinear_pooling was made for (N, {self.in_channels}, H, W), received {tuple(x.shape)}")
        features = self.reduce(x)
        with without_autocast(x.device.type):
            b = _outer(features, features)
            if not self.upper_half:
                return F.normalize(signed_sqrt(b.flatten(1), self.eps), dim=1).to(features.dtype)
            # The root is taken on half of the entries, and only then weighted: sqrt(2) counts each of them twice.
            root = signed_sqrt(upper_triangle(b), self.eps)
            return F.normalize(root * isometry(b.shape[-1], root), dim=1).to(features.dtype)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, out_features={self.out_features}, half={self.upper_half}"


def bilinear_features(a: Tensor, b: Tensor, eps: float = 1e-5) -> Tensor:
    """Two streams ``(N, C_a, H, W)`` and ``(N, C_b, H, W)`` to ``(N, C_a C_b)``, normalised.

    Raises:
        ValueError: maps whose batch or spatial size differ.
    """
    if a.dim() != 4 or a.shape[:1] + a.shape[2:] != b.shape[:1] + b.shape[2:]:
        raise ValueError(
            f"bilinear_pooling needs maps of one batch and size, received {tuple(a.shape)}, {tuple(b.shape)}"
        )
    with without_autocast(a.device.type):
        return F.normalize(signed_sqrt(_outer(a, b).flatten(1), eps), dim=1).to(a.dtype)


def _outer(a: Tensor, b: Tensor) -> Tensor:
    a, b = wide(a).flatten(2), wide(b).flatten(2)
    return a @ b.mT / a.shape[-1]
