"""The norms as their papers write them, one tensor operation a term, as released code has them: what zoo's are timed against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

DIMS = (0, 2, 3)
AXIS = (1, -1, 1, 1)


class BatchRenorm(nn.Module):
    """mu, sigma, r, d and the running values, term by term."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(c)), nn.Parameter(torch.zeros(c))
        self.register_buffer("mean", torch.zeros(c))
        self.register_buffer("std", torch.ones(c))

    def forward(self, x: Tensor) -> Tensor:
        mean, std = x.mean(DIMS), x.std(DIMS, unbiased=False) + 1e-5
        r = (std.detach() / self.std).clamp(1 / 3, 3)
        d = ((mean.detach() - self.mean) / self.std).clamp(-5, 5)
        y = (x - mean.view(AXIS)) / std.view(AXIS) * r.view(AXIS) + d.view(AXIS)
        self.mean += 0.01 * (mean.detach() - self.mean)
        self.std += 0.01 * (std.detach() - self.std)
        return self.weight.view(AXIS) * y + self.bias.view(AXIS)


class EstimatedBatchNorm(BatchRenorm):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.std += 0.1 * ((x - self.mean.view(AXIS)).square().mean(DIMS) - self.std)
            self.mean += 0.1 * (x.mean(DIMS) - self.mean)
        y = (x - self.mean.clone().view(AXIS)) / (self.std.clone().view(AXIS) + 1e-5).sqrt()
        return self.weight.view(AXIS) * y + self.bias.view(AXIS)


class BatchChannelNorm(nn.Module):
    """Batch norm, then group norm with a gain per group, with views and means."""

    def __init__(self, c: int, groups: int = 32) -> None:
        super().__init__()
        self.bn, self.groups = nn.BatchNorm2d(c), groups
        self.weight, self.bias = nn.Parameter(torch.ones(1, groups, 1)), nn.Parameter(torch.zeros(1, groups, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x).view(len(x), self.groups, -1)
        mean, var = y.mean(2, keepdim=True), y.var(2, keepdim=True)
        return (self.weight * (y - mean) / (var + 1e-5).sqrt() + self.bias).view(x.shape)


class GhostBatchNorm(nn.Module):
    """One batch norm after the other over chunks of eight samples."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(c, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.bn(part) for part in x.split(8)])


class MeanOnlyBatchNorm(BatchRenorm):
    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(DIMS)
        self.mean += 0.1 * (mean.detach() - self.mean)
        return x - mean.view(AXIS) + self.bias.view(AXIS)


class _MovingAverage(torch.autograd.Function):
    """Second moments and the gradient's statistic of the last 16 steps, as the equations have them."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, store: Tensor, gradients: Tensor, step: int
    ) -> Tensor:
        store[step % 16] = (x * x).mean(DIMS)
        deviation = (store.mean(0) + 1e-5).sqrt().view(AXIS)
        z = x / deviation
        ctx.save_for_backward(z, deviation, weight)
        ctx.gradients, ctx.step = gradients, step
        return weight.view(AXIS) * z + bias.view(AXIS)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        z, deviation, weight = ctx.saved_tensors
        g = dy * weight.view(AXIS)
        ctx.gradients[ctx.step % 16] = (g * z).mean(DIMS)
        dx = (g - z * ctx.gradients.mean(0).view(AXIS)) / deviation
        return dx, (dy * z).sum(DIMS), dy.sum(DIMS), None, None, None


class MovingAverage(BatchRenorm):
    def __init__(self, c: int) -> None:
        super().__init__(c)
        self.store, self.gradients, self.steps = torch.ones(16, c), torch.zeros(16, c), 0

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _MovingAverage.apply(x, self.weight, self.bias, self.store, self.gradients, self.steps)
        self.std += 0.02 * (self.store.mean(0) - self.std)
        self.steps += 1
        return y


class _Streamed(torch.autograd.Function):
    """A mixture with the statistics of earlier passes, and the same for the gradient on its way back."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, sums: list[Tensor]) -> Tensor:
        ctx.sums = sums
        sums[0] += current
        sums[1] += 1
        return 0.7 * sums[0] / sums[1] + 0.3 * sums[0] / sums[1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        ctx.sums[2] += g
        ctx.sums[3] += 1
        return 0.7 * ctx.sums[2] / ctx.sums[3] + 0.3 * g, None


class Streaming(BatchRenorm):
    def __init__(self, c: int) -> None:
        super().__init__(c)
        self.sums = [[torch.zeros(c), torch.zeros(1), torch.zeros(c), torch.zeros(1)] for _ in range(2)]

    def forward(self, x: Tensor) -> Tensor:
        centred = x - _Streamed.apply(x.mean(DIMS), self.sums[0]).view(AXIS)
        moment = _Streamed.apply((centred * centred).mean(DIMS), self.sums[1])
        return self.weight.view(AXIS) * (centred / (moment + 1e-5).sqrt().view(AXIS)) + self.bias.view(AXIS)


def positional(x: Tensor) -> Tensor:
    return (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-5).sqrt()


def ada(x: Tensor) -> Tensor:
    mean, std = x.mean(1, keepdim=True), (x.var(1, keepdim=True) + 1e-5).sqrt()
    y = (x - mean) / std
    return (2.0 * (1 - 0.1 * y)).detach() * y


def actnorm(c: int) -> Callable[[Tensor], Tensor]:
    logs, bias = nn.Parameter(torch.zeros(c)), nn.Parameter(torch.zeros(c))
    return lambda x: (x + bias.view(AXIS)) * torch.exp(logs * 3).view(AXIS)
