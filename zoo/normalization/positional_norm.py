"""Positional Normalization: standardise each position over its channels (Li et al., arXiv 1907.04312)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def positional_moments(x: Tensor, eps: float = 1e-5, unbiased: bool = True) -> tuple[Tensor, Tensor]:
    r"""Mean and standard deviation over channels at every position.

    .. math:: \mu_{b,h,w} = \frac1C \sum_c X_{b,c,h,w}, \qquad
              \sigma_{b,h,w} = \sqrt{\frac{1}{C - u} \sum_c (X_{b,c,h,w} - \mu_{b,h,w})^2 + \epsilon}

    with ``u = 1`` for ``unbiased``. Computed in float32 at least.

    Args:
        x: ``(N, C, *)``.
        eps: added inside the root.
        unbiased: divide by C - 1 as the authors' PyTorch code does; their TensorFlow code divides by C.

    Returns:
        ``(mean, std)``, each ``(N, 1, *)``.
    """
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    var, mean = torch.var_mean(wide, dim=1, correction=1 if unbiased else 0, keepdim=True)
    return mean, (var + eps).sqrt()


class PositionalNorm(nn.Module):
    r"""PONO: :math:`y = (x - \mu) / \sigma` per position, without learned parameters.

    Args:
        num_channels: C of the input ``(N, C, *)``.
        eps: added to the variance (paper: 1e-5).
        unbiased: sample variance, as in the authors' PyTorch code.
        return_moments: return ``(y, mean, std)`` so that a moment shortcut can re-inject them.

    Raises:
        ValueError: ``num_channels`` below 2 with ``unbiased`` (the sample variance of one value does not exist),
            or an input whose channels differ.
    """

    def __init__(
        self, num_channels: int, eps: float = 1e-5, unbiased: bool = True, return_moments: bool = False
    ) -> None:
        super().__init__()
        if num_channels < (2 if unbiased else 1):
            raise ValueError(f"positional_norm needs num_channels >= {2 if unbiased else 1}, received {num_channels}")
        self.num_channels, self.eps, self.unbiased, self.return_moments = num_channels, eps, unbiased, return_moments

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        if x.shape[1] != self.num_channels:
            raise ValueError(f"positional_norm was made for {self.num_channels} channels, received {tuple(x.shape)}")
        mean, std = positional_moments(x, self.eps, self.unbiased)
        y = ((x - mean) / std).to(x.dtype)
        return (y, mean, std) if self.return_moments else y

    def extra_repr(self) -> str:
        return f"{self.num_channels}, eps={self.eps}, unbiased={self.unbiased}"


class MomentShortcut(nn.Module):
    """MS: scale and shift decoder features with moments that PONO extracted in the encoder: ``x * std + mean``.

    ``x`` is ``(N, C, *)``, ``mean`` and ``std`` are ``(N, 1, *)`` of the same spatial size. Not in place: the authors'
    code writes into ``x``, which breaks autograd where ``x`` is needed again.
    """

    def forward(self, x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        if x.shape[2:] != mean.shape[2:] or mean.shape != std.shape:
            raise ValueError(
                f"moment_shortcut needs moments of the input's size, received {tuple(x.shape)}, "
                f"{tuple(mean.shape)} and {tuple(std.shape)}"
            )
        return (x * std + mean).to(x.dtype)
