"""Training BatchNorm and only BatchNorm: the study's setting on any model (Frankle et al., arXiv 2003.00152)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def _norms(model: nn.Module) -> list[nn.Module]:
    found: list[nn.Module] = [m for m in model.modules() if isinstance(m, BATCH_NORMS) and m.affine]
    if not found:
        raise ValueError(
            f"bn_only needs batch norms with affine parameters, {type(model).__name__} has none; "
            "models with group or layer norm are another experiment"
        )
    return found


def trainable_numbers(model: nn.Module) -> int:
    """How many numbers training can change, masked weights (:func:`random_weights_only`) not counted."""
    total = 0
    for p in model.parameters():
        if p.requires_grad:
            mask = getattr(p, "trained_mask", None)
            total += p.numel() if mask is None else int(mask.sum())
    return total


def bn_only(
    model: nn.Module,
    train_output: bool = False,
    init: Literal["uniform", "keep"] = "uniform",
    output: str | None = None,
) -> nn.Module:
    r"""Freeze everything at its random start but gamma and beta of batch normalization, in place.

    Running statistics still move: keep the model in training mode while training. Freezing is by ``requires_grad``, so
    give the optimizer the parameters that have it; decay then cannot reach the frozen ones.

    Args:
        model: contains batch norms; subclasses (timm's BatchNormAct2d) count.
        train_output: train the last linear layer too. The study separates both settings; the authors' framework
            freezes it only if told so.
        init: ``uniform`` draws gamma from U(0, 1) and sets beta to 0 as the authors do; ``keep`` leaves both.
        output: name of the output layer with ``train_output``; the last ``nn.Linear`` if None.

    Returns:
        ``model``.

    Raises:
        ValueError: no batch norm with affine parameters, unknown init, or no output layer to train.
    """
    if init not in ("uniform", "keep"):
        raise ValueError(f"init is uniform or keep, received {init!r}")
    norms = _norms(model)
    for p in model.parameters():
        p.requires_grad_(False)
    for norm in norms:
        norm.weight.requires_grad_(True)  # type: ignore[operator, union-attr]
        norm.bias.requires_grad_(True)  # type: ignore[operator, union-attr]
        if init == "uniform":
            nn.init.uniform_(norm.weight)  # type: ignore[arg-type]
            nn.init.zeros_(norm.bias)  # type: ignore[arg-type]
    if train_output:
        layers = dict(model.named_modules())
        linear = [name for name, m in layers.items() if isinstance(m, nn.Linear)]
        name = output if output is not None else (linear[-1] if linear else "")
        if name not in layers or not list(layers[name].parameters()):
            raise ValueError(f"bn_only found no output layer {name!r}; linear layers are {linear}")
        layers[name].requires_grad_(True)
    return model


def random_weights_only(model: nn.Module, per_channel: int = 2, seed: int = 0) -> nn.Module:
    """The study's control, in place: train as many random weights per channel as BN has parameters, BN's own frozen.

    Each output channel of every convolution keeps ``per_channel`` trainable weights, drawn by ``seed``; the gradient of
    all others is multiplied by zero. Use no weight decay: it would move the masked weights.

    Returns:
        ``model``. Hooks do not survive ``deepcopy`` or pickling; apply it to the copy.

    Raises:
        ValueError: no convolution, or ``per_channel`` below 1.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    if not layers or per_channel < 1:
        raise ValueError(f"random_weights_only needs convolutions and per_channel >= 1, received {per_channel}")
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.requires_grad_(False)
    for layer in layers:
        w = layer.weight
        flat = torch.rand(w.shape[0], w[0].numel(), generator=generator)
        chosen = flat.topk(min(per_channel, flat.shape[1]), dim=1).indices
        mask = torch.zeros_like(flat).scatter_(1, chosen, 1.0).view_as(w).to(w)

        def masked(grad: Tensor, mask: Tensor = mask) -> Tensor:
            return grad * mask

        w.requires_grad_(True)
        w.register_hook(masked)
        w.trained_mask = mask  # type: ignore[attr-defined]
    return model
