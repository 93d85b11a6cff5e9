"""SGDR with cycles that are counted in integers, any factor from 1 on, and a warm-up (Loshchilov & Hutter, arXiv 1608.03983)."""

from __future__ import annotations

import math
from fractions import Fraction

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class WarmRestarts(LRScheduler):
    r"""Cosine cycles of growing length, after a linear warm-up:

    .. math:: \eta_t = \eta_{min} + \tfrac12 (\eta_{max} - \eta_{min}) \Bigl(1 + \cos \frac{\pi T_{cur}}{T_i}\Bigr),
              \qquad T_i = \mathrm{round}(T_0\, T_{mult}^i)

    Cycle i has a whole number of steps, from the exact fraction (1.1 is 11/10), halves up. Restarts fall on
    ``warm_up``, ``warm_up + T_0``, ``warm_up + T_0 + T_1``, ... exactly, however many steps there are. The rate depends on
    the number of steps alone, so resuming needs ``state_dict`` or nothing but that number.

    Args:
        optimizer: its rates are the tops :math:`\eta_{max}`.
        T_0: steps of the first cycle (paper: 10 epochs).
        T_mult: factor of the next cycle's length, 1 or more, not only whole (paper: 2).
        eta_min: floor.
        warm_up: steps before the first cycle.
        warm_up_start: share of the rate that the warm-up begins with.
        last_epoch: steps taken so far, less one; -1 to begin.

    Raises:
        ValueError: a value outside its range, also through ``load_state_dict``'s schedule stepped to a negative number.
        TypeError: T_0 or ``warm_up`` is not an integer.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int = 10,
        T_mult: float | Fraction = 2,
        eta_min: float = 0.0,
        warm_up: int = 0,
        warm_up_start: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        for name, value in (("T_0", T_0), ("warm_up", warm_up)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"warm_restarts counts steps: {name} must be an int, received {value!r}")
        if T_0 < 1 or warm_up < 0:
            raise ValueError(f"warm_restarts needs T_0 >= 1 and warm_up >= 0, received {T_0} and {warm_up}")
        if not 1 <= T_mult < math.inf:
            raise ValueError(f"warm_restarts needs a finite T_mult >= 1, received {T_mult!r}")
        if not 0 <= warm_up_start <= 1:
            raise ValueError(f"warm_restarts needs 0 <= warm_up_start <= 1, received {warm_up_start!r}")
        self.T_0, self.warm_up, self.warm_up_start, self.eta_min = T_0, warm_up, warm_up_start, eta_min
        factor = Fraction(T_mult).limit_denominator(1_000_000)
        # Whole numbers only: the state is the same on every machine and loads with ``weights_only``.
        self.numerator, self.denominator = factor.numerator, factor.denominator
        self.cycle, self.start, self.length = 0, 0, T_0
        super().__init__(optimizer, last_epoch)

    def length_of(self, cycle: int) -> int:
        """Steps of a cycle, from 0: :math:`T_0 T_{mult}^i` to the nearest whole number."""
        top, bottom = self.T_0 * self.numerator**cycle, self.denominator**cycle
        return (2 * top + bottom) // (2 * bottom)

    def _find(self, step: int) -> tuple[int, int]:
        """``(T_cur, T_i)`` of a step after the warm-up; remembers the cycle, so that the next step finds it at once."""
        if self.numerator == self.denominator:
            self.cycle, self.start = step // self.T_0, step // self.T_0 * self.T_0
            return step - self.start, self.T_0
        if step < self.start:
            self.cycle, self.start, self.length = 0, 0, self.T_0
        while step >= self.start + self.length:
            self.cycle, self.start = self.cycle + 1, self.start + self.length
            self.length = self.length_of(self.cycle)
        return step - self.start, self.length

    def get_lr(self) -> list[float | Tensor]:
        step = self.last_epoch - self.warm_up
        if self.last_epoch < 0:
            raise ValueError(f"warm_restarts was stepped to {self.last_epoch}; steps begin at 0")
        if step < 0:
            share = self.warm_up_start + (1 - self.warm_up_start) * self.last_epoch / self.warm_up
            return [base * share for base in self.base_lrs]
        current, length = self._find(step)
        height = (1 + math.cos(math.pi * current / length)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    # ``step(epoch)`` takes the rate of that step from here; without it torch would call get_lr with the same result.
    _get_closed_form_lr = get_lr
