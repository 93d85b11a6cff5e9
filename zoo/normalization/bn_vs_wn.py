"""The networks that the large-scale comparison of batch and weight normalization trains (Gitman and Ginsburg)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
#: Mean and standard deviation of ReLU(z) for z ~ N(0, 1).
RELU_MEAN = 1 / math.sqrt(2 * math.pi)
RELU_STD = math.sqrt(0.5 * (1 - 1 / math.pi))


class UnitFilters(nn.Module):
    """Parametrisation ``v / ||v||`` per output channel."""

    def forward(self, v: Tensor) -> Tensor:
        return F.normalize(v.flatten(1), dim=1, eps=1e-12).view_as(v)


class ChannelAffine(nn.Module):
    """Gain g and shift b per channel, where a batch norm stood: ``(N, C, *) -> (N, C, *)``."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1, *(1,) * (x.dim() - 2))
        return x * self.weight.view(shape) + self.bias.view(shape)


class PropagatedReLU(nn.Module):
    r"""Normalization propagation's activation: :math:`(\mathrm{ReLU}(z) - 1/\sqrt{2\pi}) / \sqrt{\frac12(1 - 1/\pi)}`.

    Mean 0 and variance 1 again if z is standard normal, so nothing has to be measured.
    """

    def forward(self, z: Tensor) -> Tensor:
        return (z.relu() - RELU_MEAN) / RELU_STD


class TranslatedReLU(nn.Module):
    """ReLU with a learned threshold, zero at the start: ``ReLU(z - t) + t = max(z, t)``."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        return torch.maximum(z, self.threshold.to(z.dtype))


def _parent(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, last = name.rpartition(".")
    return model.get_submodule(path), last


@torch.no_grad()
def initialise_from(model: nn.Module, *batch: Any, eps: float = 1e-10) -> None:
    """Data-dependent initialisation of every :class:`ChannelAffine`, in order of execution, from one batch."""
    seen: set[nn.Module] = set()

    def hook(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if layer in seen:
            return None
        seen.add(layer)
        x = args[0].double()
        var, mean = torch.var_mean(x, [d for d in range(x.dim()) if d != 1], correction=0)
        scale = (var + eps).rsqrt()
        layer.weight.copy_(scale)  # type: ignore[operator]
        layer.bias.copy_(-mean * scale)  # type: ignore[operator]
        return layer.forward(args[0])

    handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, ChannelAffine)]
    try:
        model(*batch)
    finally:
        for handle in handles:
            handle.remove()


def bn_vs_wn(
    model: nn.Module,
    batch: Tensor | None = None,
    variant: Literal["weight_norm", "norm_prop", "wn_translated_relu"] = "weight_norm",
) -> nn.Module:
    r"""Turn a batch-normalised network into one of the study's rivals, in place.

    - ``weight_norm``: filters of convolutions without bias (those that a batch norm followed) get unit length, each
      batch norm becomes a gain and shift per channel, i.e. :math:`g\,v\cdot x/\|v\| + b`; layers with a bias get
      torch's weight normalization. With ``batch`` gains and shifts start from its moments.
    - ``norm_prop``: the same, and every ``nn.ReLU`` becomes :class:`PropagatedReLU`; gains start at 1.
    - ``wn_translated_relu``: ``weight_norm`` with every ``nn.ReLU`` a :class:`TranslatedReLU`.

    Nothing bounds the growth of a residual sum any more (its variance doubles with each block): start the last
    gain of every branch at 0 or scale the branch, warm the learning rate up, clip gradients.

    Args:
        model: contains batch norms, no fused activation.
        batch: one input batch for the data-dependent initialisation, None to leave gains at 1 and shifts at 0.
        variant: which rival.

    Returns:
        ``model``.

    Raises:
        ValueError: no batch norm, one with a fused activation, an unknown variant, or a batch for ``norm_prop``.
    """
    if variant not in ("weight_norm", "norm_prop", "wn_translated_relu"):
        raise ValueError(f"variant is weight_norm, norm_prop or wn_translated_relu, received {variant!r}")
    if batch is not None and variant == "norm_prop":
        raise ValueError("norm_prop assumes standard normal activations and takes no batch")
    norms = {name: m for name, m in model.named_modules() if isinstance(m, BATCH_NORMS)}
    if not norms:
        raise ValueError(f"bn_vs_wn found no batch norm in {type(model).__name__}")
    for name, norm in norms.items():
        if len(list(norm.modules())) > 1:
            raise ValueError(f"bn_vs_wn cannot take apart the fused norm and activation {name!r}")
        affine = ChannelAffine(norm.num_features).to(next(model.parameters()))  # type: ignore[arg-type]
        setattr(*_parent(model, name), affine)
    for layer in list(model.modules()):
        if not isinstance(layer, (*CONVS, nn.Linear)) or parametrize.is_parametrized(layer):
            continue
        if layer.bias is None and isinstance(layer, CONVS):
            parametrize.register_parametrization(layer, "weight", UnitFilters())
        else:
            parametrizations.weight_norm(layer)
    if variant != "weight_norm":
        for name, relu in [(n, m) for n, m in model.named_modules() if n and isinstance(m, nn.ReLU)]:
            new = PropagatedReLU() if variant == "norm_prop" else TranslatedReLU().to(next(model.parameters()))
            setattr(*_parent(model, name), new.train(relu.training))
    if batch is not None:
        initialise_from(model, batch)
    return model
