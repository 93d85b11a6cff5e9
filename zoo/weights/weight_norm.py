"""Weight normalization with data-dependent initialisation and mean-only BN (Salimans and Kingma, arXiv 1602.07868)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class GroupedTransposedWeightNorm(nn.Module):
    """``w = g v / ||v||`` per output channel of a transposed convolution with groups.

    Its weight is ``(in, out / groups, *k)``; output channel (group, j) owns the rows of its group only, which no single
    ``dim`` of torch's parametrisation can say.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def _norm(self, v: Tensor) -> tuple[Tensor, Tensor]:
        split = v.unflatten(0, (self.groups, -1))
        dims = [d for d in range(split.dim()) if d not in (0, 2)]
        return split, torch.linalg.vector_norm(split, 2, dims, keepdim=True)

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        split, norm = self._norm(v)
        return (split * (g / norm)).flatten(0, 1)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self._norm(weight)[1], weight


def is_weight_normed(layer: nn.Module) -> bool:
    """Whether the weight is stored as a length and a direction."""
    if not parametrize.is_parametrized(layer, "weight"):
        return False
    stored: Any = layer.parametrizations
    return hasattr(stored.weight, "original1")


def weight_norm(module: nn.Module, init_std: float | None = None) -> nn.Module:
    r"""Parametrise every linear and convolution layer in ``module`` as :math:`w = g\,v / \|v\|`, in place.

    One g per *output* channel everywhere: torch's ``weight_norm`` with its default ``dim=0`` would give one per
    input channel for transposed convolutions. The function computed by the module does not change.

    Args:
        module: a layer or a whole model; layers that already carry a parametrised weight are left alone.
        init_std: draw v from N(0, ``init_std``) first (paper: 0.05); None keeps the weights there are.

    Returns:
        ``module``. Follow with :func:`data_dependent_init` for the paper's initialisation.

    Raises:
        ValueError: no linear or convolution layer to parametrise.
    """
    layers = [m for m in module.modules() if isinstance(m, LAYERS) and not parametrize.is_parametrized(m, "weight")]
    if not layers:
        raise ValueError(f"weight_norm found no linear or convolution layer in {type(module).__name__}")
    for layer in layers:
        if init_std is not None:
            nn.init.normal_(layer.weight, 0.0, init_std)
        groups = getattr(layer, "groups", 1)
        if isinstance(layer, TRANSPOSED) and groups > 1:
            parametrize.register_parametrization(layer, "weight", GroupedTransposedWeightNorm(groups))
        else:
            parametrizations.weight_norm(layer, "weight", dim=1 if isinstance(layer, TRANSPOSED) else 0)
    return module


@torch.no_grad()
def data_dependent_init(
    model: nn.Module, *inputs: Any, scale: float | Mapping[str, float] = 1.0, eps: float = 1e-10
) -> list[str]:
    r"""Set g and b of every weight-normalised layer from one batch, layer after layer.

    .. math:: t = \frac{v \cdot x}{\|v\|}, \qquad g \leftarrow \frac{c}{\sigma[t]}, \qquad
              b \leftarrow \frac{-c\,\mu[t]}{\sigma[t]}

    so that the pre-activations of the batch have mean 0 and standard deviation c. It is sequential in a single forward
    pass: each layer hands its already normalised output on, as the next layer will see it in training. A layer without
    bias is only scaled. A layer that runs several times is initialised at its first call.

    Args:
        model: contains layers made by :func:`weight_norm`; run in the mode that it is in (call ``eval()`` to keep
            dropout and running statistics out of it).
        inputs: the batch, passed to ``model``.
        scale: c, for all layers or by layer name (others 1). The authors use 0.1 for the second convolution of
            gated residual blocks.
        eps: added to the variance (authors: 1e-10 dense, 1e-8 convolution), so a constant unit is scaled by at
            most ``eps ** -0.5``.

    Returns:
        Names of the layers in the order in which they were initialised.

    Raises:
        ValueError: no weight-normalised layer, a name in ``scale`` that is none, or a batch with one value a channel.
    """
    names: dict[nn.Module, str] = {
        m: name for name, m in model.named_modules() if isinstance(m, LAYERS) and is_weight_normed(m)
    }
    if not names:
        raise ValueError(f"data_dependent_init found no weight-normalised layer in {type(model).__name__}")
    if isinstance(scale, Mapping) and (unknown := set(scale) - set(names.values())):
        raise ValueError(f"scale names {sorted(unknown)}, allowed are {sorted(names.values())}")
    done: list[str] = []

    def hook(layer: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        name = names[layer]
        if name in done:
            return None
        channel = output.dim() - 1 if isinstance(layer, nn.Linear) else 1
        dims = [d for d in range(output.dim()) if d != channel]
        if output.numel() == output.shape[channel]:
            raise ValueError(f"data_dependent_init needs more than one value a channel, received {tuple(output.shape)}")
        var, mean = torch.var_mean(output.double(), dims, correction=0)
        wanted = scale.get(name, 1.0) if isinstance(scale, Mapping) else scale
        factor = wanted * (var + eps).rsqrt()
        stored: Any = layer.parametrizations
        g: Tensor = stored.weight.original0
        g.mul_(factor.to(g.dtype).view_as(g))
        shape = [-1 if d == channel else 1 for d in range(output.dim())]
        if isinstance(layer.bias, Tensor):
            layer.bias.copy_((layer.bias.double() - mean) * factor)
        else:
            mean = torch.zeros_like(mean)
        done.append(name)
        return ((output.double() - mean.view(shape)) * factor.view(shape)).to(output.dtype)

    handles = [layer.register_forward_hook(hook) for layer in names]
    try:
        model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return done


class MeanOnlyBatchNorm(nn.Module):
    r"""Subtract the batch mean, do not divide: the companion of weight normalization.

    .. math:: y = x - \mu_B + b, \qquad \hat\mu \leftarrow (1 - m)\,\hat\mu + m\,\mu_B, \qquad
              \text{evaluation: } y = x - \hat\mu + b

    The gradient reaches x centred: :math:`\nabla_x L = \nabla_y L - E_B[\nabla_y L]`.

    Args:
        num_channels: C of ``(N, C, *)``.
        momentum: m, share of the new mean (authors: 0.1, written there as 0.9 of the old one).
        affine: learn b.

    Raises:
        ValueError: an input with other channels, or one value a channel in training: its output would be b alone.
    """

    running_mean: Tensor
    bias: nn.Parameter | None

    def __init__(self, num_channels: int, momentum: float = 0.1, affine: bool = True) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"mean_only_batch_norm needs momentum in [0, 1], received {momentum}")
        self.num_channels, self.momentum = num_channels, momentum
        self.register_parameter("bias", nn.Parameter(torch.zeros(num_channels)) if affine else None)
        self.register_buffer("running_mean", torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 2 or x.shape[1] != self.num_channels:
            raise ValueError(
                f"mean_only_batch_norm was made for (N, {self.num_channels}, *), received {tuple(x.shape)}"
            )
        if not x.is_floating_point():
            raise TypeError(f"mean_only_batch_norm takes floating point input, received {x.dtype}")
        mean = self.running_mean
        if self.training:
            if x.numel() <= x.shape[1]:
                raise ValueError(f"expected more than 1 value per channel when training, received {tuple(x.shape)}")
            mean = x.mean([d for d in range(x.dim()) if d != 1], dtype=mean.dtype)
            # A checkpointed forward pass runs a second time inside backward: it must not count twice.
            if torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1:
                self.running_mean.lerp_(mean.detach(), self.momentum)
        shift = -mean if self.bias is None else self.bias - mean
        return (x + shift.view(1, -1, *(1,) * (x.dim() - 2))).to(x.dtype)

    def eval_affine(self) -> tuple[Tensor, Tensor]:
        """``(scale, shift)`` of the evaluation form ``x * scale + shift``, for folding into the layer before."""
        shift = -self.running_mean
        return torch.ones_like(shift), shift if self.bias is None else self.bias + shift

    def extra_repr(self) -> str:
        return f"{self.num_channels}, momentum={self.momentum}, affine={self.bias is not None}"
