"""Instance normalization (Ulyanov et al., arXiv 1607.08022): torch's classes by way of the kernel of group norm.

torch 2.15 on a CPU gives a wrong gradient for one sample when the upstream gradient lies in channels-last memory: it runs
batch norm over ``(1, N C, *)``, and a view of that shape loses the order of the memory. Group norm with as many groups as
channels is the same function and has no such fault.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm


class _ByGroups(_InstanceNorm):
    """Takes the place of torch's kernel where no running statistics are kept."""

    def _apply_instance_norm(self, input: Tensor) -> Tensor:
        if self.track_running_stats:
            return super()._apply_instance_norm(input)
        if not input.is_floating_point():
            raise TypeError(f"instance norm takes floating point numbers, received {input.dtype}")
        if self.training and len(input) == 0:
            raise ValueError(f"instance norm needs a sample or more in training, received {tuple(input.shape)}")
        if input.shape[2:].numel() == 1:
            raise ValueError(
                f"Expected more than 1 spatial element: instance norm standardises each map by itself, received {tuple(input.shape)}"
            )
        return F.group_norm(input, self.num_features, self.weight, self.bias, self.eps)


class InstanceNorm1d(_ByGroups, nn.InstanceNorm1d):
    """``nn.InstanceNorm1d``: ``(N, C, L)`` or ``(C, L)`` to the same; see :class:`InstanceNorm2d`."""


class InstanceNorm2d(_ByGroups, nn.InstanceNorm2d):
    r"""``nn.InstanceNorm2d``, same arguments, buffers and checkpoints.

    .. math:: y_{nchw} = \gamma_c \frac{x_{nchw} - \mu_{nc}}{\sqrt{\sigma^2_{nc} + \epsilon}} + \beta_c

    Shape: ``(N, C, H, W)`` or ``(C, H, W)`` to the same.

    Raises:
        ValueError: maps of a single element, whose variance is always 0.
    """


class InstanceNorm3d(_ByGroups, nn.InstanceNorm3d):
    """``nn.InstanceNorm3d``: ``(N, C, D, H, W)`` or ``(C, D, H, W)`` to the same; see :class:`InstanceNorm2d`."""
