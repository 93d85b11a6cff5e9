"""ActNorm: a per-channel affine map initialised from the first batch (Kingma and Dhariwal, arXiv 1807.03039)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: torch 2.11 refuses an eps of zero; one plus this is one in every precision.
_NO_EPS = 1e-30


class ActNorm(nn.Module):
    r"""Per-channel affine layer whose first training batch comes out with mean zero and variance one.

    .. math:: y = e^{s} \odot (x + b), \qquad s = f \cdot \mathrm{logs}, \qquad
              \log|\det| = \frac{\mathrm{numel}}{N C} \sum_c s_c

    At the first training batch :math:`b = -\mu` and :math:`s = -\log(\sqrt{E[(x-\mu)^2]} + \epsilon)`, biased
    moments over all axes but the channels; after that both are ordinary parameters. In evaluation mode, in
    :meth:`inverse` and where a channel has a single value nothing is initialised, and the layer starts as identity.

    Args:
        num_channels: C of the input ``(N, C, *)``.
        eps: added to the standard deviation (authors' code: 1e-6), so a constant channel is scaled by 1e6.
        logscale_factor: f. The authors store logs = s / 3, which makes the step of s nine times that of a plain
            parameter under SGD and three times under Adam; 1 gives the plain form.

    The buffer ``initialized`` travels with the state dict: a loaded layer is not initialised again. The moments are
    taken at the first training batch after construction or loading only; :meth:`reset` asks for new ones. Processes do
    not exchange moments: run the first batch before wrapping in DistributedDataParallel, which then broadcasts it.

    Raises:
        ValueError: ``num_channels`` below 1, ``logscale_factor`` zero, or an input whose channels differ.
    """

    initialized: Tensor

    def __init__(self, num_channels: int, eps: float = 1e-6, logscale_factor: float = 3.0) -> None:
        super().__init__()
        if num_channels < 1 or logscale_factor == 0:
            raise ValueError(
                f"actnorm needs num_channels >= 1 and logscale_factor != 0, received {num_channels}, {logscale_factor}"
            )
        self.num_channels, self.eps, self.logscale_factor = num_channels, eps, logscale_factor
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.logs = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("initialized", torch.tensor(False))
        self._looks = True  # whether the flag may still be False: known without reading it from the device

    def reset(self) -> None:
        """Initialise again at the next training batch."""
        self.initialized.fill_(False)
        self._looks = True

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._looks = True  # the loaded flag decides

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        dims = [d for d in range(x.dim()) if d != 1]
        wide = x.to(self.bias.dtype)
        mean = wide.mean(dims)
        # Two passes: torch.var_mean over several axes is many times slower on a CPU.
        var = (wide - mean.view(1, -1, *(1,) * (x.dim() - 2))).square().mean(dims)
        logs = -torch.log(var.sqrt() + self.eps) / self.logscale_factor
        # torch.where and not a branch: the flag lives on the device, and reading it would stall the queue.
        self.bias.copy_(torch.where(self.initialized, self.bias, -mean))
        self.logs.copy_(torch.where(self.initialized, self.logs, logs))
        self.initialized.fill_(True)
        self._looks = False

    def _check(self, x: Tensor) -> None:
        if x.dim() < 2 or x.shape[1] != self.num_channels:
            raise ValueError(f"actnorm was made for (N, {self.num_channels}, *), received {tuple(x.shape)}")
        if not x.is_floating_point():
            raise TypeError(f"actnorm takes floating point input, received {x.dtype}")

    def log_det(self, x: Tensor) -> Tensor:
        """Log-determinant per sample of the map that ``forward`` applies to ``x``: ``(N,)``."""
        positions = x[0, 0].numel()
        return (positions * self.logscale_factor * self.logs.sum()).expand(x.shape[0])

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, *) -> (N, C, *)``."""
        self._check(x)
        if self._looks and self.training and x.numel() > self.num_channels:
            self._initialise(x)
        scale = torch.exp(self.logs * self.logscale_factor)
        # One fused kernel: centring at -b as a constant, the gradient of b through a shift whose value is zero.
        centre = self.bias.detach()
        shift = scale * (self.bias - centre)
        return F.batch_norm(x, -centre, torch.ones_like(centre), scale, shift, False, 0.0, _NO_EPS).to(x.dtype)

    def eval_affine(self) -> tuple[Tensor, Tensor]:
        """``(scale, shift)`` of the evaluation form ``x * scale + shift``, for folding into the layer before."""
        scale = torch.exp(self.logs * self.logscale_factor)
        return scale, self.bias * scale

    def inverse(self, y: Tensor) -> Tensor:
        """The x that ``forward`` maps to ``y``; never initialises, so sampling cannot set the statistics."""
        self._check(y)
        shape = (1, -1, *(1,) * (y.dim() - 2))
        return (y * torch.exp(-self.logs * self.logscale_factor).view(shape) - self.bias.view(shape)).to(y.dtype)

    def extra_repr(self) -> str:
        return f"{self.num_channels}, eps={self.eps}, logscale_factor={self.logscale_factor}"


class ActNormFlow(ActNorm):
    """ActNorm as a flow step: ``forward(z) -> (z', log_det)`` with ``log_det`` of shape ``(N,)``.

    ``forward`` is the direction from data to latent, the one that initialises; ``inverse`` is the sampling direction
    and returns ``(z, log_det)`` too, with the opposite sign.

    Args:
        dim: features of ``(N, dim)`` or channels of ``(N, dim, *)``.
        eps, logscale_factor: as in :class:`ActNorm`.
    """

    def __init__(self, dim: int, eps: float = 1e-6, logscale_factor: float = 3.0) -> None:
        super().__init__(dim, eps, logscale_factor)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        y = super().forward(z)
        return y, self.log_det(z)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().inverse(y), -self.log_det(y)
