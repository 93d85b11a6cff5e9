"""Batch-normalised recurrent networks: BN on the input-to-hidden term only (Laurent et al., arXiv 1510.01378)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from zoo.normalization._statistics import recomputing

GATES = {"lstm": 4, "tanh": 1, "relu": 1}
State = Tensor | tuple[Tensor, Tensor]


class BatchNormRNN(nn.Module):
    r"""Recurrent layer whose input term is batch-normalised: :math:`h_t = \phi(W_h h_{t-1} + \mathrm{BN}(W_x x_t))`.

    *Sequence-wise* takes mean and variance over all samples and all steps, :math:`n = \sum_i T_i` true frames;
    *frame-wise* takes them over the samples of each step and keeps one row of population statistics per step. Padding
    is counted by neither. The recurrent term is not normalised (the paper finds no gain there), so the input term of
    all steps is normalised in one go before the scan.

    Args:
        input_size, hidden_size: I and H.
        mode: ``lstm``, ``tanh`` or ``relu``.
        statistics: ``sequence`` or ``frame``.
        max_length: rows of the population statistics with ``frame``; later steps use the last.
        batch_first: padded input and output as ``(N, T, *)``.
        eps: inside the root.
        momentum: of the moving averages, as in ``nn.BatchNorm1d``.

    Shapes: ``(T, N, I)`` with optional ``lengths (N,)``, or a ``PackedSequence``; returns ``(output, state)`` as
    ``nn.LSTM`` or ``nn.RNN`` does: output ``(T, N, H)`` with zeros behind the end of a sequence (packed if packed came
    in), state ``(1, N, H)`` of each sequence's last true step, for ``lstm`` a pair.

    Raises:
        ValueError: unknown mode or statistics, another input width, one true frame alone in training.
        TypeError: integer input.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        mode: Literal["lstm", "tanh", "relu"] = "lstm",
        statistics: Literal["sequence", "frame"] = "sequence",
        max_length: int = 128,
        batch_first: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if mode not in GATES:
            raise ValueError(f"mode is one of {', '.join(GATES)}, received {mode!r}")
        if statistics not in ("sequence", "frame"):
            raise ValueError(f"statistics is sequence or frame, received {statistics!r}")
        self.input_size, self.hidden_size, self.mode, self.statistics = input_size, hidden_size, mode, statistics
        self.max_length, self.batch_first, self.eps, self.momentum = max_length, batch_first, eps, momentum
        width = GATES[mode] * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(width, input_size))
        self.weight_hh = nn.Parameter(torch.empty(width, hidden_size))
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        rows = (max_length, width) if statistics == "frame" else (width,)
        self.register_buffer("running_mean", torch.zeros(rows))
        self.register_buffer("running_var", torch.ones(rows))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in +-1/sqrt(H) as torch's recurrent layers; gain one, shift zero."""
        bound = self.hidden_size**-0.5
        nn.init.uniform_(self.weight_ih, -bound, bound)
        nn.init.uniform_(self.weight_hh, -bound, bound)
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def _normalise(self, a: Tensor, mask: Tensor | None) -> Tensor:
        """Batch-normalise ``(T, N, K)``; ``mask (T, N, 1)`` is one on true frames."""
        steps = a.shape[0]
        if not self.training:
            mean, var = self.running_mean, self.running_var
            if self.statistics == "frame":
                rows = torch.arange(steps, device=a.device).clamp_max(self.max_length - 1)
                mean, var = mean[rows].unsqueeze(1), var[rows].unsqueeze(1)
        else:
            dims = (1,) if self.statistics == "frame" else (0, 1)
            if mask is None:
                return self._normalise_all(a)
            n = mask.sum(dims, keepdim=True)
            mean = (a * mask).sum(dims, keepdim=True) / n.clamp_min(1)
            var = ((a - mean).square() * mask).sum(dims, keepdim=True) / n.clamp_min(1)
            if not recomputing():
                self._track(mean.detach(), var.detach(), n)
        return (a - mean) * ((var + self.eps).rsqrt() * self.weight) + self.bias

    def _normalise_all(self, a: Tensor) -> Tensor:
        """The same in training without padding: torch's batch norm, of ``T * K`` features with ``frame``."""
        steps = len(a) if self.statistics == "frame" else 1
        data = a.transpose(0, 1).flatten(1) if self.statistics == "frame" else a.flatten(0, 1)
        weight, bias = (p.to(a.dtype).repeat(steps) for p in (self.weight, self.bias))
        mean, var = a.new_zeros(2, data.shape[1]).unbind()  # with momentum 1 they receive those of the batch
        y = torch.batch_norm(data, weight, bias, mean, var, True, 1.0, self.eps, torch.backends.cudnn.enabled)
        if not recomputing():
            n = a.new_full((steps, 1, 1), len(data))
            shape = (steps, 1, a.shape[2])
            self._track(mean.view(shape), var.view(shape) * ((n - 1) / n), n)
        return y.unflatten(1, (steps, -1)).transpose(0, 1) if self.statistics == "frame" else y.view_as(a)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, n: Tensor) -> None:
        var = var * (n / (n - 1).clamp_min(1))
        if self.statistics == "sequence":
            self.running_mean.lerp_(mean.flatten().to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(var.flatten().to(self.running_var.dtype), self.momentum)
            return
        # Steps where no sequence is left keep their row, steps with a single one have no variance to learn from.
        steps, last = min(len(mean), self.max_length), self.max_length
        for buffer, found, least in ((self.running_mean, mean, 1), (self.running_var, var, 2)):
            found, seen = found.squeeze(1), (n >= least).squeeze(1).to(found.dtype)
            if len(found) > last:  # all later steps share the last row
                tail, weight = found[last - 1 :], seen[last - 1 :]
                mixed = (tail * weight).sum(0, keepdim=True) / weight.sum().clamp_min(1)
                found = torch.cat([found[: last - 1], mixed])
                seen = torch.cat([seen[: last - 1], weight.amax(0, keepdim=True)])
            rows = buffer[:steps]
            rows.add_((found - rows) * (self.momentum * seen))

    def _step(self, a: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates = a + F.linear(h.to(self.weight_hh.dtype), self.weight_hh).to(a.dtype)
        if self.mode != "lstm":
            return (gates.tanh() if self.mode == "tanh" else gates.relu()), c
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    def forward(
        self, x: Tensor | PackedSequence, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, State]:
        packed = isinstance(x, PackedSequence)
        if isinstance(x, PackedSequence):
            x, lengths = pad_packed_sequence(x)
        elif self.batch_first:
            x = x.transpose(0, 1)
        if not x.is_floating_point():
            raise TypeError(f"batch_norm_rnn takes floating point input, received {x.dtype}")
        if x.dim() != 3 or x.shape[2] != self.input_size:
            raise ValueError(f"batch_norm_rnn takes (T, N, {self.input_size}), received {tuple(x.shape)}")
        if len(x) == 0:
            raise ValueError("batch_norm_rnn needs a step or more, received sequences of length 0")
        frames = x.shape[1] if self.statistics == "frame" else x.shape[0] * x.shape[1]
        if self.training and frames < 2:
            raise ValueError(f"batch_norm_rnn needs two frames or more for its statistics, received {tuple(x.shape)}")
        wide = torch.promote_types(x.dtype, torch.float32)
        mask = None
        if lengths is not None:
            if lengths.shape != (x.shape[1],):
                raise ValueError(f"lengths has shape ({x.shape[1]},), received {tuple(lengths.shape)}")
            steps = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
            mask = (steps < lengths.to(x.device)).unsqueeze(2).to(wide)
        a = self._normalise(F.linear(x, self.weight_ih).to(wide), mask)
        if state is None:
            h = a.new_zeros(x.shape[1], self.hidden_size)
            c = torch.zeros_like(h)
        else:
            h, c = (s[0] for s in (state if isinstance(state, tuple) else (state, state)))
        outputs = []
        for t, a_t in enumerate(a.unbind()):  # backward of a[t] would fill all steps for each of them
            new_h, new_c = self._step(a_t, h, c)
            if mask is None:
                h, c = new_h, new_c
                outputs.append(h)
            else:  # a finished sequence keeps its state and outputs zeros
                alive = mask[t].bool()
                h, c = torch.where(alive, new_h, h), torch.where(alive, new_c, c)
                outputs.append(h * mask[t])
        final: State = (h.unsqueeze(0), c.unsqueeze(0)) if self.mode == "lstm" else h.unsqueeze(0)
        output = torch.stack(outputs).to(x.dtype)
        if packed and lengths is not None:
            return pack_padded_sequence(output, lengths.cpu(), enforce_sorted=False), final
        return (output.transpose(0, 1) if self.batch_first else output), final

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, mode={self.mode!r}, statistics={self.statistics!r}"
