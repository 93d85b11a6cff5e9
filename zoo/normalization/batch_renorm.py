"""Batch Renormalization: batch statistics, corrected towards the running ones (Ioffe, arXiv 1702.03275)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.normalization._affine import observe, scale_shift
from zoo.normalization._statistics import channel_moments, check_input, check_statistics, kept, recomputing

#: Steps at which the clips start to open, and at which r_max and d_max reach their final value (paper, experiments).
PAPER_STEPS = (5000.0, 40000.0, 25000.0)


def batch_renorm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_std: Tensor,
    r_max: Tensor | float,
    d_max: Tensor | float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Normalise a training batch with corrected batch statistics.

    .. math:: r = \mathrm{clip}_{[1/r_{max}, r_{max}]}\Big(\mathrm{sg}\frac{\sigma_B}{\sigma}\Big), \quad
              d = \mathrm{clip}_{[-d_{max}, d_{max}]}\Big(\mathrm{sg}\frac{\mu_B - \mu}{\sigma}\Big), \quad
              y = \gamma \Big(\frac{x - \mu_B}{\sigma_B} r + d\Big) + \beta

    with :math:`\sigma_B = \sqrt{\epsilon + \mathrm{Var}_B}` (biased). ``r`` and ``d`` are constants for the gradient
    (``sg``), which therefore is that of batch normalization with gain :math:`\gamma r` and shift
    :math:`\beta + \gamma d`; so it is computed.

    Args:
        x: ``(N, C, *)``.
        weight, bias, running_mean, running_std: ``(C,)``.
        r_max, d_max: clips, numbers or 0-d tensors.
        eps: added to the batch variance.

    Returns:
        ``(y, mean, std)`` with the batch's mean and standard deviation, detached.
    """
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        # Compiled, torch's batch norm would take the moments once more; an affine map takes these.
        x, mean, var = observe(x, each_sample=False)
        moments = mean[0], (var[0] + eps).sqrt()
        mean, std = (v.detach() for v in moments)
        r, d = _corrections(mean, std, running_mean, running_std, r_max, d_max)
        scale = weight * r / moments[1]
        shift = torch.addcmul(torch.addcmul(bias, weight, d), moments[0], scale, value=-1)
        return scale_shift(x, scale[None], shift[None]), mean, std
    with torch.no_grad():
        mean, var = channel_moments(x)
        std = (var + eps).sqrt()
        r, d = _corrections(mean, std, running_mean, running_std, r_max, d_max)
    y = F.batch_norm(x, None, None, weight * r, bias + weight * d, training=True, eps=eps)
    return y, mean, std


def _corrections(
    mean: Tensor, std: Tensor, running_mean: Tensor, running_std: Tensor, r_max: Tensor | float, d_max: Tensor | float
) -> list[Tensor]:
    """r and d of :func:`batch_renorm`."""
    with torch.no_grad():
        r_max, d_max = torch.as_tensor(r_max, device=mean.device), torch.as_tensor(d_max, device=mean.device)
        r = (std / running_std).clamp(1 / r_max, r_max)
        d = ((mean - running_mean) / running_std).clamp(-d_max, d_max)
        return kept(r, d)


class _BatchRenorm(nn.Module):
    r"""Batch Renormalization over ``(N, C, *)``; see :func:`batch_renorm`.

    Running values move by :math:`\mu \mathrel{+}= \alpha (\mu_B - \mu)` and
    :math:`\sigma \mathrel{+}= \alpha (\sigma_B - \sigma)`: the standard deviation is averaged, not the variance, so
    BatchNorm's ``running_var`` does not fit.
    Evaluation normalises with the running values. The clips are closed (plain BatchNorm) until the first entry of the
    schedule, then open linearly until ``r_max`` is reached at the second and ``d_max`` at the third.

    Args:
        num_channels: C.
        eps: added to the batch variance.
        momentum: alpha above (paper: 0.01).
        r_max, d_max: final clips (paper: 3 and 5).
        schedule: ``(start, r_end, d_end)``; in steps, or as fractions of ``total_steps``. Default: the paper's
            5000, 40000, 25000 steps, or with ``total_steps`` the fractions 1/32, 1/4, 5/32 (in the same proportion).
        total_steps: length of the training run in steps of this layer, for a schedule in fractions.
        affine: learn gain and shift.

    State: ``running_mean``, ``running_std`` ``(C,)`` and ``num_batches_tracked``. One step is one training forward
    pass: with gradient accumulation count the micro-batches. A repeated forward pass of activation checkpointing moves
    nothing and sees the values of the first one. Each process of DDP has its own statistics; buffers of rank 0 win.

    Raises:
        ValueError: clips below 1 / 0, a schedule that does not rise, fractions without ``total_steps``, steps with it;
            input of another shape; one value per channel in training.
        TypeError: integer input.
    """

    ndims: tuple[int, ...] = (2, 3, 4, 5)
    running_mean: Tensor
    running_std: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-5,
        momentum: float = 0.01,
        r_max: float = 3.0,
        d_max: float = 5.0,
        schedule: tuple[float, float, float] | None = None,
        total_steps: int | None = None,
        affine: bool = True,
    ) -> None:
        super().__init__()
        if r_max < 1 or d_max < 0:
            raise ValueError(f"batch_renorm needs r_max >= 1 and d_max >= 0, received {r_max} and {d_max}")
        if not 0 < momentum <= 1:
            raise ValueError(f"batch_renorm needs a momentum in (0, 1], received {momentum}")
        self.num_channels, self.eps, self.momentum, self.r_max, self.d_max = num_channels, eps, momentum, r_max, d_max
        self.set_schedule(schedule, total_steps)
        self.weight = nn.Parameter(torch.ones(num_channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_channels)) if affine else None
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_std", torch.ones(num_channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def set_schedule(self, schedule: tuple[float, float, float] | None, total_steps: int | None) -> None:
        """Fix ``(start, r_end, d_end)`` in steps; see the class for the two ways to say it."""
        if total_steps is None:
            steps = PAPER_STEPS if schedule is None else tuple(map(float, schedule))
            if any(0 < s < 1 for s in steps):
                raise ValueError(f"batch_renorm: schedule {schedule} in fractions needs total_steps, received None")
        else:
            fractions = tuple(s / 160_000 for s in PAPER_STEPS) if schedule is None else tuple(schedule)
            if total_steps < 1 or not all(0 <= f <= 1 for f in fractions):
                raise ValueError(
                    f"batch_renorm: with total_steps the schedule holds fractions in [0, 1], received "
                    f"schedule={schedule}, total_steps={total_steps}"
                )
            steps = tuple(f * total_steps for f in fractions)
        if len(steps) != 3 or not 0 <= steps[0] <= min(steps[1:]):
            raise ValueError(
                f"batch_renorm: schedule is (start, r_end, d_end) with 0 <= start <= both ends, received {steps}"
            )
        self.schedule = steps

    def limits(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """``(r_max, d_max)`` in force at ``step``, a 0-d tensor."""
        start, r_end, d_end = self.schedule
        passed = step.float() - start
        r = (passed / max(r_end - start, 1e-3)).clamp(0, 1)
        d = (passed / max(d_end - start, 1e-3)).clamp(0, 1)
        return 1 + r * (self.r_max - 1), d * self.d_max

    def forward(self, x: Tensor) -> Tensor:
        check_input("batch_renorm", x, self.num_channels, self.ndims)
        if not self.training:
            return F.batch_norm(
                x, self.running_mean, (self.running_std.square() - self.eps).clamp(min=0), self.weight, self.bias,
                training=False, eps=self.eps,
            )  # fmt: skip
        check_statistics("batch_renorm", x)
        weight = self.running_mean.new_ones(self.num_channels) if self.weight is None else self.weight
        bias = self.running_mean.new_zeros(self.num_channels) if self.bias is None else self.bias
        if recomputing():
            return self._again(x, weight, bias)
        # `r` and `d` are those of the state before this batch.
        r_max, d_max = self.limits(self.num_batches_tracked)
        y, mean, std = batch_renorm(x, weight, bias, self.running_mean, self.running_std, r_max, d_max, self.eps)
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_std.lerp_(std.to(self.running_std.dtype), self.momentum)
            self.num_batches_tracked.add_(1)
        return y

    def _again(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The same forward pass once more: take this batch's share out of the running values, and leave them alone."""
        with torch.no_grad():
            mean, var = channel_moments(x)
            keep = max(1 - self.momentum, 1e-12)
            before_mean = (self.running_mean - self.momentum * mean) / keep
            before_std = (self.running_std - self.momentum * (var + self.eps).sqrt()) / keep
            r_max, d_max = self.limits(self.num_batches_tracked - 1)
        return batch_renorm(x, weight, bias, before_mean, before_std, r_max, d_max, self.eps)[0]

    def eval_affine(self) -> tuple[Tensor, Tensor]:
        """``(scale, shift)`` of the evaluation form ``x * scale + shift``, for folding into the layer before."""
        scale = 1 / self.running_std if self.weight is None else self.weight / self.running_std
        shift = -self.running_mean * scale
        return scale, shift if self.bias is None else self.bias + shift

    def extra_repr(self) -> str:
        return f"{self.num_channels}, eps={self.eps}, momentum={self.momentum}, schedule={self.schedule}"


class BatchRenorm1d(_BatchRenorm):
    """Batch Renormalization of ``(N, C)`` or ``(N, C, L)``."""

    __doc__ = f"{__doc__}\n\n{_BatchRenorm.__doc__}"
    ndims = (2, 3)


class BatchRenorm2d(_BatchRenorm):
    """Batch Renormalization of ``(N, C, H, W)``."""

    __doc__ = f"{__doc__}\n\n{_BatchRenorm.__doc__}"
    ndims = (4,)


class BatchRenorm3d(_BatchRenorm):
    """Batch Renormalization of ``(N, C, D, H, W)``."""

    __doc__ = f"{__doc__}\n\n{_BatchRenorm.__doc__}"
    ndims = (5,)
