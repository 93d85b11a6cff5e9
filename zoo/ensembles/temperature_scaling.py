"""Temperature scaling: one number that calibrates a network (Guo et al., arXiv 1706.04599)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fit_temperature(logits: Tensor, target: Tensor, steps: int = 50) -> Tensor:
    r""":math:`\arg\min_T \mathrm{NLL}(z / T, y)` on held-out logits; a float64 scalar.

    Optimises :math:`\log T` by L-BFGS in float64, in which T stays positive.
    """
    z = logits.detach().double()
    log_t = torch.zeros((), dtype=torch.float64, device=z.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=steps, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = F.cross_entropy(z / log_t.exp(), target)
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_t.detach().exp()


def expected_calibration_error(probabilities: Tensor, target: Tensor, bins: int = 15) -> Tensor:
    r""":math:`\sum_b \frac{|B_b|}{N} |\mathrm{acc}(B_b) - \mathrm{conf}(B_b)|` over equal bins of the confidence."""
    confidence, guess = probabilities.max(1)
    which = (confidence * bins).ceil().long().clamp(1, bins) - 1
    right = (guess == target).to(confidence.dtype)
    gap = torch.zeros(bins, dtype=confidence.dtype, device=confidence.device).index_add_(0, which, right - confidence)
    return gap.abs().sum() / len(target)


class TemperatureScaling(nn.Module):
    """A network whose logits are divided by a fitted temperature; its predictions do not change, only their confidence.

    Args:
        model: trained, ``(N, *) -> (N, K)`` logits.

    Call :meth:`fit` with validation data that the network was not trained on; until then the temperature is 1.
    """

    temperature: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("temperature", torch.ones(()))

    @torch.no_grad()
    def fit(self, input: Tensor, target: Tensor) -> TemperatureScaling:
        """Fit on ``(N, *)`` and ``(N,)`` in evaluation mode; the mode is put back."""
        training = self.model.training
        self.model.eval()
        logits = self.model(input)
        self.model.train(training)
        self.temperature.copy_(fit_temperature(logits, target))
        return self

    def forward(self, input: Tensor) -> Tensor:
        return self.model(input) / self.temperature


def temperature_scaling(model: nn.Module, input: Tensor, target: Tensor) -> TemperatureScaling:
    """``model`` with its logits divided by the temperature fitted on held-out ``(N, *)`` inputs and ``(N,)`` classes."""
    return TemperatureScaling(model).fit(input, target)
