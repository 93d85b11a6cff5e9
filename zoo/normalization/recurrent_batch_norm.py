"""Recurrent Batch Normalization: an LSTM with statistics per time step (Cooijmans et al., arXiv 1603.09025)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.normalization._statistics import recomputing


class RecurrentBatchNormLSTM(nn.Module):
    r"""LSTM that normalises both terms of its gates and its cell, with statistics of their own at every step.

    .. math::
        [\tilde\imath, \tilde f, \tilde g, \tilde o] &= \mathrm{BN}_t(W_h h_{t-1}; \gamma_h, 0)
            + \mathrm{BN}_t(W_x x_t; \gamma_x, 0) + b \\
        c_t &= \sigma(\tilde f)\, c_{t-1} + \sigma(\tilde\imath) \tanh(\tilde g) \\
        h_t &= \sigma(\tilde o) \tanh(\mathrm{BN}_t(c_t; \gamma_c, \beta_c))

    Gains, shift and b are shared over time, means and variances are not: in evaluation step t uses row t of the buffers
    and steps beyond ``max_length`` use the last one.

    Args:
        input_size, hidden_size: I and H.
        max_length: T_max, rows of the population statistics.
        batch_first: input and output as ``(N, T, *)`` instead of ``(T, N, *)``.
        gamma: start value of all gains (paper: 0.1; with 1 the gradient through time is far from flat).
        forget_bias: start value of the forget gate's bias (authors' code: 1).
        eps: inside the root.
        momentum: of the moving averages (authors' code: 0.01); None averages all batches since the start, as the
            paper's text does over the training set.
        initial_noise: standard deviation of noise on the initial hidden state in training. Without it the first steps
            of inputs that start with constant pixels have zero variance; the authors' MNIST script uses 0.1.

    Shapes: input ``(T, N, I)``; returns ``(output, (h, c))`` with ``(T, N, H)`` and twice ``(1, N, H)``.

    Raises:
        ValueError: one sample in training, another input width, or a state of another shape.
        TypeError: packed or integer input. Padding would enter the statistics; sort into equal lengths instead.
    """

    num_batches_tracked: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        max_length: int = 128,
        batch_first: bool = False,
        gamma: float = 0.1,
        forget_bias: float = 1.0,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        initial_noise: float = 0.0,
    ) -> None:
        super().__init__()
        if min(input_size, hidden_size, max_length) < 1:
            raise ValueError(
                "recurrent_batch_norm needs input_size, hidden_size and max_length of 1 or more, "
                f"received {input_size}, {hidden_size}, {max_length}"
            )
        self.input_size, self.hidden_size, self.max_length = input_size, hidden_size, max_length
        self.batch_first, self.gamma, self.forget_bias = batch_first, gamma, forget_bias
        self.eps, self.momentum, self.initial_noise = eps, momentum, initial_noise
        gates = 4 * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(gates, input_size))
        self.weight_hh = nn.Parameter(torch.empty(gates, hidden_size))
        self.bias = nn.Parameter(torch.empty(gates))
        self.gamma_x = nn.Parameter(torch.empty(gates))
        self.gamma_h = nn.Parameter(torch.empty(gates))
        self.gamma_c = nn.Parameter(torch.empty(hidden_size))
        self.beta_c = nn.Parameter(torch.empty(hidden_size))
        for term, width in (("x", gates), ("h", gates), ("c", hidden_size)):
            self.register_buffer(f"running_mean_{term}", torch.zeros(max_length, width))
            self.register_buffer(f"running_var_{term}", torch.ones(max_length, width))
        self.register_buffer("num_batches_tracked", torch.tensor(0))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Orthogonal matrices, gains at ``gamma``, shifts zero, forget bias set."""
        nn.init.orthogonal_(self.weight_ih)
        nn.init.orthogonal_(self.weight_hh)
        for gain in (self.gamma_x, self.gamma_h, self.gamma_c):
            nn.init.constant_(gain, self.gamma)
        nn.init.zeros_(self.beta_c)
        nn.init.zeros_(self.bias)
        with torch.no_grad():
            self.bias[self.hidden_size : 2 * self.hidden_size].fill_(self.forget_bias)

    def _rows(self, term: str, steps: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances ``(T, K)``: of the buffers in evaluation, in training space for those of this batch."""
        mean, var = getattr(self, f"running_mean_{term}"), getattr(self, f"running_var_{term}")
        if self.training:
            return like.new_zeros((steps, mean.shape[1])), like.new_zeros((steps, mean.shape[1]))
        missing = (max(steps - self.max_length, 0), -1)  # all later steps share the last row
        mean, var = (torch.cat([v[:steps], v[-1:].expand(missing)]).to(like.dtype) for v in (mean, var))
        return mean, var

    def _normalise(self, a: Tensor, gain: Tensor, shift: Tensor | None, mean: Tensor, var: Tensor) -> Tensor:
        """Batch norm of ``(N, K)``. In training ``mean`` and ``var`` receive those of the batch: momentum 1."""
        cudnn = torch.backends.cudnn.enabled
        return torch.batch_norm(a, gain, shift, mean, var, self.training, 1.0, self.eps, cudnn)

    @torch.no_grad()
    def _track(self, moments: dict[str, tuple[Tensor, Tensor]]) -> None:
        self.num_batches_tracked.add_(1)
        rate: float | Tensor = 1.0 / self.num_batches_tracked if self.momentum is None else self.momentum
        last = self.max_length
        for term, both in moments.items():
            for name, found in zip(("mean", "var"), both, strict=True):
                if len(found) > last:
                    found = torch.cat([found[: last - 1], found[last - 1 :].mean(0, keepdim=True)])
                rows = getattr(self, f"running_{name}_{term}")[: len(found)]
                rows.add_((found.to(rows.dtype) - rows) * rate)

    def _initial(self, x: Tensor, state: tuple[Tensor, Tensor] | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        shape = (1, x.shape[1], self.hidden_size)
        if state is None:
            h = x.new_zeros(shape, dtype=dtype)
            c = torch.zeros_like(h)
        else:
            h, c = state
            if h.shape != shape or c.shape != shape:
                raise ValueError(
                    f"recurrent_batch_norm takes states {shape}, received {tuple(h.shape)}, {tuple(c.shape)}"
                )
        h, c = h[0], c[0]
        if self.training and self.initial_noise:
            h = h + self.initial_noise * torch.randn_like(h)
        return h, c

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(
                f"recurrent_batch_norm takes a floating point tensor, received {getattr(x, 'dtype', type(x).__name__)}"
            )
        if x.dim() != 3 or x.shape[2] != self.input_size:
            raise ValueError(f"recurrent_batch_norm takes (T, N, {self.input_size}), received {tuple(x.shape)}")
        if self.batch_first:
            x = x.transpose(0, 1)
        if len(x) == 0:
            raise ValueError("recurrent_batch_norm needs a step or more, received a sequence of length 0")
        if self.training and x.shape[1] < 2:
            raise ValueError("recurrent_batch_norm needs two samples or more in training, received 1")
        wide = torch.promote_types(x.dtype, torch.float32)
        gamma_x, gamma_h, gamma_c, beta_c, bias = (
            p.to(wide) for p in (self.gamma_x, self.gamma_h, self.gamma_c, self.beta_c, self.bias)
        )
        h, c = self._initial(x, state, wide)
        steps = len(x)
        moments = {term: self._rows(term, steps, c) for term in ("x", "h", "c")}
        # The term of the input waits for nothing: one product, and one batch norm of T * 4H features, for all steps.
        projected = F.linear(x.transpose(0, 1), self.weight_ih).to(wide).flatten(1)
        rows = (v.flatten() for v in moments["x"])
        projected = self._normalise(projected, gamma_x.repeat(steps), None, *rows).unflatten(1, (steps, -1))
        outputs = []
        for step, mean_h, var_h, mean_c, var_c in zip(
            projected.unbind(1), *(v.unbind() for term in ("h", "c") for v in moments[term]), strict=True
        ):
            recurrent = F.linear(h.to(self.weight_hh.dtype), self.weight_hh).to(wide)
            i, f, g, o = (step + self._normalise(recurrent, gamma_h, bias, mean_h, var_h)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * self._normalise(c, gamma_c, beta_c, mean_c, var_c).tanh()
            outputs.append(h)
        if self.training and not recomputing():
            self._track(moments)
        output = torch.stack(outputs, 1 if self.batch_first else 0).to(x.dtype)
        return output, (h.unsqueeze(0), c.unsqueeze(0))

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, max_length={self.max_length}, momentum={self.momentum}"
