"""Streaming Normalization: one set of statistics for all samples and steps (Liao et al., arXiv 1610.06160)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.utils.hooks import RemovableHandle

from zoo.normalization._affine import affine, combine, sample_moments, scale_shift, sums
from zoo.normalization._statistics import check_batch, kept, recomputing
from zoo.numerics import wide

#: Averages over updates and sums over passes, both ``(rows, C)``, passes ``(rows, 1)``, updates ``()``.
_Store = tuple[Tensor, Tensor, Tensor, Tensor]


def _open(store: _Store, of_long: float, of_short: float, moves: bool = True) -> tuple[Tensor, Tensor]:
    """Count a pass; ``of_long * long + of_short * sum / count`` will be ``past + share * current``, of both rows.

    Before the first update ``long`` is ``sum / count``. Without ``moves`` the sums have seen the current pass before, and
    ``past`` is all of it. ``past`` is ``(rows, C)``, ``share`` ``(rows, 1)``.
    """
    long, total, count, rolls = store
    if moves:
        count.add_(1)
    long, count = wide(long), wide(count if moves else count.clamp_min(1))
    rolled = (rolls > 0).to(long.dtype) * of_long
    share = (of_long + of_short - rolled) / count
    return torch.addcmul(long * rolled, total, share), share


class _StreamedStatistic(Function):
    """Put the streamed value in the place of the current one; stream the gradient on the way back."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, value: Tensor, beta: tuple[float, float, float], *store: Tensor) -> Tensor:
        ctx.store, ctx.beta = store, beta  # written in backward, so autograd must not check its version
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        past, share = _open(ctx.store, *ctx.beta[:2])
        ctx.store[1].add_(grad)
        return torch.addcmul(past[0], share[0] + ctx.beta[2], grad), *[None] * 6


class _StreamedBatchNorm(Function):
    r""":math:`y = \gamma (x - \hat\mu) / \sqrt{\hat m + \epsilon} + \beta` for p = 2, with the streamed gradients of both.

    :math:`m = \mathrm{Var}[x] + (E[x] - \hat\mu)^2`, so with the streamed gradients :math:`\hat g_\mu, \hat g_m` all that
    is added to that of fixed statistics is :math:`(\hat g_\mu + 2 \hat g_m (x - \hat\mu)) / n`.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, gap: Tensor, mu: Tensor, inverse: Tensor,
        beta: tuple[float, float, float], *store: Tensor,
    ) -> Tensor:  # fmt: skip
        scale = inverse if weight is None else inverse * weight
        shift = -mu * scale if bias is None else torch.addcmul(bias, mu, scale, value=-1)
        ctx.save_for_backward(x, weight, gap, mu, inverse, scale)
        ctx.store, ctx.beta = store, beta
        return affine(x, scale.unsqueeze(0), shift.unsqueeze(0))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, gap, mu, inverse, scale = ctx.saved_tensors
        past, share = _open(ctx.store, *ctx.beta[:2])
        (past_mu, past_moment), (share_mu, share_moment) = past.unbind(), (share + ctx.beta[2]).unbind()
        (along,), (total,), room = sums(dy, x, 1)
        dweight = torch.addcmul(along, mu, total, value=-1).mul_(inverse)
        moment = dweight * scale * inverse * -0.5
        streamed_moment = torch.addcmul(past_moment, share_moment, moment)
        mean = torch.addcmul(total * scale, gap, streamed_moment, value=2).neg_()
        ctx.store[1].add_(torch.stack((mean, moment)))
        share_of_each = x.shape[1] / x.numel()
        slope = streamed_moment * (2 * share_of_each)
        constant = torch.addcmul(past_mu, share_mu, mean).mul_(share_of_each).addcmul_(mu, slope, value=-1)
        dx = combine(dy, scale.unsqueeze(0), x, slope.unsqueeze(0), constant.unsqueeze(0), room)
        return dx, None if weight is None else dweight, total if ctx.needs_input_grad[2] else None, *[None] * 8


class StreamingNorm(nn.Module):
    r"""Normalise with statistics streamed over samples, time steps and weight updates.

    .. math::
        \hat s &= \alpha_1 s_\mathrm{long} + \alpha_2 s_\mathrm{short}, \qquad
        \hat g = \beta_1 g_\mathrm{long} + \beta_2 g_\mathrm{short} + \beta_3 g \\
        s_\mathrm{long} &\leftarrow \kappa_1 s_\mathrm{long} + \kappa_2 s_\mathrm{short}
        \quad \text{(and } g \text{ alike) at every weight update} \\
        y &= \gamma\, \frac{x - \hat\mu}{(\hat m_p + \epsilon)^{1/p}} + \beta, \qquad m_p = E|x - \hat\mu|^p

    ``short`` averages all forward passes (samples, time steps, accumulated micro-batches) since the last weight update,
    the current one included; ``long`` averages over the updates before. :math:`g` is the gradient of the loss with
    respect to :math:`\hat s`; its streamed form goes on to the current statistic.

    **Tell the layer about weight updates**: :func:`follow_optimizer` once after building the optimizer, or
    :meth:`weight_update` by hand; nothing is guessed from parameters. Before the first update ``long`` is ``short``.

    Args:
        num_channels: C of ``(N, C, *)``.
        alpha: weights of long and short statistics. Paper, as quoted by the authors' port: (0.5, 0.5) feed-forward,
            (0.7, 0.3) recurrent and online.
        beta: weights of long, short and current gradient: (0.5, 0.5, 0) or, recurrent and online, (0.7, 0, 0.3).
        kappa: weights of old long and short at an update (0.7, 0.3).
        p: order of the deviation, 2 or 1 in the paper.
        eps: added to the p-th moment.
        affine: learn gain and shift.

    In evaluation the long-term statistics are used (short before the first update, mean 0 and deviation 1 before any
    batch). A batch of one works. Each process streams its own statistics; a forward pass repeated by activation
    checkpointing counts once.

    Raises:
        ValueError: p below 1, coefficients of the wrong number, an input with other channels, an empty training batch.
        TypeError: integer input.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    long: Tensor
    short_sum: Tensor
    short_count: Tensor
    grad_long: Tensor
    grad_sum: Tensor
    grad_count: Tensor
    rolls: Tensor
    grad_rolls: Tensor

    def __init__(
        self,
        num_channels: int,
        alpha: tuple[float, float] = (0.7, 0.3),
        beta: tuple[float, float, float] = (0.7, 0.0, 0.3),
        kappa: tuple[float, float] = (0.7, 0.3),
        p: float = 2,
        eps: float = 1e-5,
        affine: bool = True,
    ) -> None:
        super().__init__()
        if p < 1:
            raise ValueError(f"streaming_norm needs p >= 1, received {p}")
        if (len(alpha), len(beta), len(kappa)) != (2, 3, 2):
            raise ValueError(f"streaming_norm takes 2 alpha, 3 beta, 2 kappa, received {alpha}, {beta}, {kappa}")
        self.num_channels, self.p, self.eps = num_channels, p, eps
        self.alpha, self.beta, self.kappa = tuple(alpha), tuple(beta), tuple(kappa)
        self.register_parameter("weight", nn.Parameter(torch.ones(num_channels)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(num_channels)) if affine else None)
        # Row 0 belongs to the mean, row 1 to the p-th moment.
        self.register_buffer("long", torch.stack([torch.zeros(num_channels), torch.ones(num_channels)]))
        for name in ("short_sum", "grad_long", "grad_sum"):
            self.register_buffer(name, torch.zeros(2, num_channels))
        for name in ("short_count", "grad_count"):
            self.register_buffer(name, torch.zeros(2, 1))
        for name in ("rolls", "grad_rolls"):
            self.register_buffer(name, torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, *) -> (N, C, *)``."""
        if x.dim() < 2 or x.shape[1] != self.num_channels:
            raise ValueError(f"streaming_norm was made for (N, {self.num_channels}, *), received {tuple(x.shape)}")
        if not x.is_floating_point():
            raise TypeError(f"streaming_norm takes floating point input, received {x.dtype}")
        if x.device != self.long.device:  # torch adds a number of meta tensors without a word
            raise ValueError(f"streaming_norm is on {self.long.device}, received input on {x.device}")
        if not self.training:
            scale, shift = self.eval_affine()
            return scale_shift(x, scale[None], shift[None])
        check_batch("streaming_norm", x)
        moves = not recomputing()
        store = (self.grad_long, self.grad_sum, self.grad_count, self.grad_rolls)
        with torch.no_grad():
            past, share = _open(
                (self.long, self.short_sum, self.short_count, self.rolls), self.alpha[0], self.alpha[1], moves
            )

        def value(row: int, current: Tensor) -> Tensor:
            return torch.addcmul(past[row], share[row], current) if moves else past[row]

        if self.p == 2:  # E(x - m)^2 = Var[x] + (E[x] - m)^2: the moments of x are all that is needed
            with torch.no_grad():
                (mean,), (var,) = sample_moments(x, 1)
                mu = value(0, mean)
                gap = mean - mu
                moment = torch.addcmul(var, gap, gap)
                inverse = (value(1, moment) + self.eps).rsqrt_()
                if moves:
                    self.short_sum.add_(torch.stack((mean, moment)))
                gap, mu, inverse = kept(gap, mu, inverse)
            y: Tensor = _StreamedBatchNorm.apply(x, self.weight, self.bias, gap, mu, inverse, self.beta, *store)
            return y

        def streamed(row: int, current: Tensor) -> Tensor:
            with torch.no_grad():
                found = value(row, current)
                if moves:
                    self.short_sum[row].add_(current)
            each = (v[row : row + 1] for v in store[:3])
            replaced: Tensor = _StreamedStatistic.apply(current, found, self.beta, *each, store[3])
            return replaced

        shape, dims = (1, -1, *(1,) * (x.dim() - 2)), [d for d in range(x.dim()) if d != 1]
        data = wide(x)
        mean = streamed(0, data.mean(dims))
        distance = (data - mean.view(shape)).abs()
        return scale_shift(
            x, *self._affine(mean, streamed(1, (distance if self.p == 1 else distance.pow(self.p)).mean(dims)))
        )

    def _affine(self, mean: Tensor, moment: Tensor) -> tuple[Tensor, Tensor]:
        scale = (moment + self.eps) ** (-1 / self.p)
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return scale[None], shift[None]

    def eval_affine(self) -> tuple[Tensor, Tensor]:
        """``(scale, shift)`` of the evaluation form ``x * scale + shift``, for folding into the layer before."""
        short = self.short_sum / self.short_count.clamp_min(1)
        mean, moment = torch.where((self.rolls == 0) & (self.short_count > 0), short, self.long)
        scale, shift = self._affine(mean, moment)
        return scale[0], shift[0]

    @torch.no_grad()
    def weight_update(self) -> None:
        """The weights have changed: fold the short-term averages into the long-term ones and clear them."""
        for long, total, count, rolls in (
            (self.long, self.short_sum, self.short_count, self.rolls),
            (self.grad_long, self.grad_sum, self.grad_count, self.grad_rolls),
        ):
            short = total / count.clamp_min(1)
            folded = torch.where(rolls > 0, self.kappa[0] * long + self.kappa[1] * short, short)
            seen = count > 0  # an update without a pass through this layer leaves it alone
            long.copy_(torch.where(seen, folded, long))
            rolls.add_(seen.any())
            total.zero_()
            count.zero_()

    def extra_repr(self) -> str:
        return f"{self.num_channels}, alpha={self.alpha}, beta={self.beta}, kappa={self.kappa}, p={self.p}"


def follow_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> RemovableHandle:
    """Call :meth:`StreamingNorm.weight_update` of every layer in ``model`` after each ``optimizer.step()``.

    Returns:
        A handle whose ``remove()`` ends it.

    Raises:
        ValueError: ``model`` holds no streaming normalization.
    """
    layers = [m for m in model.modules() if isinstance(m, StreamingNorm)]
    if not layers:
        raise ValueError(f"follow_optimizer found no StreamingNorm in {type(model).__name__}")

    def hook(*_: Any) -> None:
        for layer in layers:
            layer.weight_update()

    return optimizer.register_step_post_hook(hook)
