"""i-RevNet: a classifier that can be inverted up to its last layer (Jacobsen, Smeulders and Oyallon, arXiv 1802.07088)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.upsampling._phases import depth_to_space, space_to_depth


class IRevBlock(nn.Module):
    r"""One additive coupling: :math:`(x_1, x_2) \mapsto (\psi(x_2),\; \psi(x_1) + \mathcal F(x_2))`.

    ``psi`` is the phase-major space-to-depth where ``stride`` is 2. F is three 3 x 3 convolutions with BatchNorm and
    ReLU before each (not before the first of a network), of a quarter of the output's channels inside.

    Args:
        channels: of ``x_2`` (and of ``x_1``).
        stride: 1 or 2; with 2, channels become four times as many.
        first: leave out the first BatchNorm and ReLU.
        bottleneck: divisor of the inner width (paper: 4).
        dropout: before the second convolution.
    """

    def __init__(
        self, channels: int, stride: int = 1, first: bool = False, bottleneck: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.stride = stride
        out = channels * stride**2
        inner = max(out // bottleneck, 1)
        layers: list[nn.Module] = [] if first else [nn.BatchNorm2d(channels), nn.ReLU()]
        layers += [nn.Conv2d(channels, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
        layers += [nn.Conv2d(inner, inner, 3, 1, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()]
        layers += [nn.Conv2d(inner, out, 3, 1, 1, bias=False)]
        self.residual = nn.Sequential(*layers)

    def psi(self, x: Tensor) -> Tensor:
        """Phase-major space-to-depth, or the identity."""
        return space_to_depth(x, 2, "phase") if self.stride == 2 else x

    def psi_inverse(self, x: Tensor) -> Tensor:
        return depth_to_space(x, 2, "phase") if self.stride == 2 else x

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        return self.psi(x2), self.psi(x1) + self.residual(x2)

    def inverse(self, y1: Tensor, y2: Tensor) -> tuple[Tensor, Tensor]:
        x2 = self.psi_inverse(y1)
        return self.psi_inverse(y2 - self.residual(x2)), x2


@contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    """BatchNorm goes on using batch statistics but leaves its running ones alone."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats and m.training]
    for m in norms:
        m.track_running_stats = False
    try:
        yield
    finally:
        for m in norms:
            m.track_running_stats = True


class _Reversible(torch.autograd.Function):
    """Run blocks and keep their output alone; going back, each block's input is computed from its output."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, x1: Tensor, x2: Tensor, blocks: nn.ModuleList, *_: Tensor
    ) -> tuple[Tensor, Tensor]:
        for block in blocks:
            x1, x2 = block(x1, x2)
        ctx.blocks = blocks  # type: ignore[attr-defined]
        ctx.save_for_backward(x1.detach(), x2.detach())
        return x1, x2

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, g1: Tensor, g2: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        y1, y2 = ctx.saved_tensors  # type: ignore[attr-defined]
        grads: list[Tensor | None] = []
        for block in reversed(ctx.blocks):  # type: ignore[attr-defined]
            parameters = list(block.parameters())
            with _frozen_statistics(block):
                x2 = block.psi_inverse(y1).detach().requires_grad_()
                with torch.enable_grad():
                    residual = block.residual(x2)
                x1 = block.psi_inverse(y2 - residual.detach())
                # One evaluation of F serves the inverse and the gradient.
                wanted = [p for p in parameters if p.requires_grad]
                through, *own = torch.autograd.grad(residual, [x2, *wanted], g2)
            found = iter(own)
            grads = [next(found) if p.requires_grad else None for p in parameters] + grads
            g1, g2 = block.psi_inverse(g2), block.psi_inverse(g1) + through
            y1, y2 = x1, x2.detach()
        return (g1, g2, None, *grads)


class IRevNet(nn.Module):
    r"""i-RevNet: pixels to as many numbers (or, padded, to more), inverted exactly, then a linear classifier.

    The image is brought to ``in_channels init_ds^2`` channels by :math:`\psi` and split in halves; blocks of additive
    couplings follow; the halves are concatenated, normalised, averaged and classified. Everything before the average
    can be inverted by :meth:`inverse` (in evaluation, or with the batch statistics of the same batch).

    Args:
        in_channels: of the image ``(N, C, H, W)``; ``C init_ds^2`` must be even.
        num_classes: outputs; 0 leaves out the classifier and returns the features.
        depths: blocks of each stage (paper, ImageNet: 6, 16, 72, 6).
        strides: of the first block of each stage (paper: 2, 2, 2, 2).
        init_ds: factor of the first space-to-depth (paper: 2).
        bottleneck: divisor of the inner width (paper: 4).
        dropout: inside the blocks. With it the inverse holds in evaluation only.
        memory_saving: keep no activations of the blocks in training; each is recomputed from its output on the way
            back, for about one more forward pass. Without dropout; gradients agree to rounding.
        width: channels of each half at the start. Zero channels follow those of the image up to ``2 width``: the
            network is injective then, not bijective, and :meth:`inverse` leaves the zeros out (paper, CIFAR: 16 with
            ``init_ds`` 1). By default nothing is appended.

    Raises:
        ValueError: an odd number of channels to split, a ``width`` too small for the image, strides other than 1 and 2, lists of different lengths,
            ``memory_saving`` with dropout, or an image whose size the strides do not divide.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        depths: Sequence[int] = (6, 16, 72, 6),
        strides: Sequence[int] = (2, 2, 2, 2),
        init_ds: int = 2,
        bottleneck: int = 4,
        dropout: float = 0.0,
        memory_saving: bool = False,
        width: int | None = None,
    ) -> None:
        super().__init__()
        squeezed = in_channels * init_ds**2
        if width is not None and 2 * width < squeezed:
            raise ValueError(
                f"i_revnet needs 2 * width >= in_channels * init_ds^2 = {squeezed} to hold the image, received {width}"
            )
        split = squeezed if width is None else 2 * width
        self.padding_channels = split - squeezed
        if split % 2 or split < 2:
            raise ValueError(
                f"i_revnet splits channels in halves: in_channels * init_ds^2 must be even (or width= appends "
                f"zero channels), received {in_channels} and {init_ds}"
            )
        if len(depths) != len(strides) or not depths or min(depths) < 1 or not set(strides) <= {1, 2}:
            raise ValueError(
                "i_revnet needs as many strides (1 or 2) as depths (1 or more), received "
                f"{tuple(strides)} and {tuple(depths)}"
            )
        if memory_saving and dropout:
            raise ValueError(f"i_revnet cannot redraw dropout on the way back: memory_saving with dropout {dropout}")
        self.in_channels, self.init_ds, self.memory_saving = in_channels, init_ds, memory_saving
        self.stride = init_ds
        channels = split // 2
        blocks: list[nn.Module] = []
        for depth, stride in zip(depths, strides, strict=True):
            for i in range(depth):
                s = stride if i == 0 else 1
                blocks.append(IRevBlock(channels, s, first=not blocks, bottleneck=bottleneck, dropout=dropout))
                channels *= s**2
            self.stride *= stride
        self.blocks = nn.ModuleList(blocks)
        self.num_features = 2 * channels
        self.norm = nn.BatchNorm2d(self.num_features)
        self.head: nn.Module = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, num_features, H / stride, W / stride)``, a bijection (onto its image, with ``width``)."""
        fits = (
            x.dim() == 4 and x.shape[1] == self.in_channels and all(n > 0 and n % self.stride == 0 for n in x.shape[2:])
        )
        if not fits:
            raise ValueError(
                f"i_revnet was made for (N, {self.in_channels}, H, W) with H and W divisible by {self.stride}, "
                f"received {tuple(x.shape)}"
            )
        squeezed = space_to_depth(x, self.init_ds, "phase")
        x1, x2 = F.pad(squeezed, (0, 0, 0, 0, 0, self.padding_channels)).chunk(2, 1)
        if self.memory_saving and self.training and torch.is_grad_enabled():
            parameters = [p for block in self.blocks for p in block.parameters()]
            x1, x2 = _Reversible.apply(x1, x2, self.blocks, *parameters)
        else:
            for block in self.blocks:
                x1, x2 = block(x1, x2)
        return torch.cat([x1, x2], 1)

    def inverse(self, features: Tensor) -> Tensor:
        """The image that ``forward_features`` maps to ``features``; running statistics stay as they are."""
        if features.dim() != 4 or features.shape[1] != self.num_features or 0 in features.shape[2:]:
            raise ValueError(
                f"i_revnet inverts features (N, {self.num_features}, H, W), received {tuple(features.shape)}"
            )
        y1, y2 = features.chunk(2, 1)
        with _frozen_statistics(self):
            for block in reversed(self.blocks):
                assert isinstance(block, IRevBlock)
                y1, y2 = block.inverse(y1, y2)
        squeezed = torch.cat([y1, y2], 1)
        return depth_to_space(squeezed[:, : squeezed.shape[1] - self.padding_channels], self.init_ds, "phase")

    def forward(self, x: Tensor) -> Tensor:
        features = self.forward_features(x)
        return self.head(F.relu(self.norm(features)).mean((2, 3))) if isinstance(self.head, nn.Linear) else features
