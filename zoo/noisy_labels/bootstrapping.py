"""Bootstrapping: mix the label with the network's own prediction (Reed et al., arXiv 1412.6596)."""

from __future__ import annotations

from torch import Tensor

from zoo.noisy_labels.base import Criterion


class Bootstrapping(Criterion):
    r"""Soft: :math:`-\sum_k (\beta q_k + (1 - \beta) p_k) \log p_k`; hard: the arg max of p instead of p.

    Args:
        beta: weight of the given label (paper: 0.95 soft, 0.8 hard); the default of each mode if None.
        mode: ``hard`` or ``soft``.
        detach: stop the gradient at the soft target. The paper leaves it in, which adds an entropy penalty;
            the hard target has none.
        reduction: ``mean``, ``sum`` or ``none``.

    Raises:
        ValueError: ``beta`` outside [0, 1], another mode.
    """

    def __init__(
        self, beta: float | None = None, mode: str = "hard", detach: bool = False, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        if mode not in ("hard", "soft"):
            raise ValueError(f"mode is hard or soft, received {mode!r}")
        beta = (0.95 if mode == "soft" else 0.8) if beta is None else beta
        if not 0 <= beta <= 1:
            raise ValueError(f"beta lies in [0, 1], received {beta}")
        self.beta, self.mode, self.detach = beta, mode, detach

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p = logits.log_softmax(1)
        given = -log_p.gather(1, target.unsqueeze(1)).squeeze(1)
        if self.mode == "hard":
            own = -log_p.amax(1)
        else:
            p = log_p.exp()
            # p log p -> 0 where a masked logit makes log p infinite
            own = -((p.detach() if self.detach else p) * log_p.masked_fill(p == 0, 0.0)).sum(1)
        return self.beta * given + (1 - self.beta) * own

    def extra_repr(self) -> str:
        return f"beta={self.beta}, mode={self.mode}"
