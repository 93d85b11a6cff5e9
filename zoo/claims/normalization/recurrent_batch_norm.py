"""Recurrent batch normalization on digits: gradients through time, and speed of learning."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import accuracy, fit
from zoo.normalization.recurrent_batch_norm import RecurrentBatchNormLSTM


def _gradient_norms(gamma: float, seed: int, steps: tuple[int, ...] = (0, 16, 32, 48, 63)) -> dict[int, float]:
    """Norm of dL/dh_t at initialisation, fed pixel by pixel."""
    data = digits()
    torch.manual_seed(seed)
    layer, head = RecurrentBatchNormLSTM(1, 32, gamma=gamma), nn.Linear(32, 10)
    x = data.x_train[:64].flatten(1).t().unsqueeze(2)
    # White noise on h0, as in the authors' MNIST script: the first pixels are constant over the batch.
    state = (0.1 * torch.randn(1, 64, 32), torch.zeros(1, 64, 32))
    hidden = []
    for t in range(64):
        _, state = layer(x[t : t + 1], state)
        state[0].retain_grad()
        hidden.append(state[0])
    F.cross_entropy(head(state[0][0]), data.y_train[:64]).backward()
    return {t: float(h.grad.norm()) for t in steps if (h := hidden[t]).grad is not None}


def gradient_flatness(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Largest over smallest norm of dL/dh_t at initialisation, for gains 0.1 and 1."""
    ratios: dict[float, list[float]] = {0.1: [], 1.0: []}
    ends: dict[float, list[float]] = {0.1: [], 1.0: []}
    for seed in seeds:
        for gamma in ratios:
            norms = _gradient_norms(gamma, seed)
            ratios[gamma].append(max(norms.values()) / min(norms.values()))
            ends[gamma].append(norms[0] / norms[63])
    flat, steep = mean_and_spread(ratios[0.1]), mean_and_spread(ratios[1.0])
    vanishes = max(ends[1.0]) < 1
    return Outcome(
        status=verdict(max(ratios[0.1]) < 10, min(ratios[1.0]) > 10, vanishes),
        measured={
            "max_over_min_gamma_0.1": flat,
            "max_over_min_gamma_1": steep,
            "first_over_last_gamma_0.1": mean_and_spread(ends[0.1]),
            "first_over_last_gamma_1": mean_and_spread(ends[1.0]),
        },
        setting="64 digits pixel by pixel (64 steps), 32 units, noise 0.1 on h0, at initialisation",
        tolerance="gamma 0.1: largest over smallest norm below 10; gamma 1: above 10, and the gradient vanishes "
        "towards the start (first over last below 1)",
    )


class _Rows(nn.Module):
    """Digits as 8 steps of 8 pixels, classified from the last hidden state."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.layer(x.squeeze(1).transpose(0, 1))
        return self.head(output[-1])


def faster_convergence(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Training loss and test accuracy of an LSTM with and without recurrent batch normalization."""
    data = digits()
    measured = {}
    for kind in ("lstm", "bn_lstm"):
        losses, scores = [], []
        for seed in seeds:
            torch.manual_seed(seed)
            noise = {"max_length": 8, "initial_noise": 0.1}
            model = _Rows(nn.LSTM(8, 32) if kind == "lstm" else RecurrentBatchNormLSTM(8, 32, **noise))  # type: ignore[arg-type]
            optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
            history = fit(model, data.x_train, data.y_train, epochs=10, seed=seed, optimizer=optimizer)
            losses.append(sum(history) / len(history))
            scores.append(accuracy(model, data.x_test, data.y_test))
        measured[f"{kind}_mean_loss"] = mean_and_spread(losses)
        measured[f"{kind}_accuracy"] = mean_and_spread(scores)
    return Outcome(
        status=verdict(
            measured["bn_lstm_mean_loss"]["mean"] < measured["lstm_mean_loss"]["mean"],
            measured["bn_lstm_accuracy"]["mean"] > measured["lstm_accuracy"]["mean"],
        ),
        measured=measured,
        setting="digits row by row (8 steps of 8), 32 units, Adam 3e-3, batch 64, 10 epochs",
        tolerance="lower training loss averaged over the epochs, and higher test accuracy, than the plain LSTM",
    )
