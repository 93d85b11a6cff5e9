"""Fold what is a fixed affine map in evaluation into the convolution or linear layer before it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import timm.layers
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from zoo.errors import ZooError
from zoo.factory._consumers import Watch, tensors_in
from zoo.factory.acts import _input_size
from zoo.factory.norms import channels_of, is_norm, layout_of
from zoo.factory.report import Kept
from zoo.factory.shapes import recast, same_padded
from zoo.factory.surgery import Site, count_parameters, sites
from zoo.normalization.moving_average_bn import CentredConv2d, CentredLinear
from zoo.weights.weight_standardization import WSConv1d, WSConv2d, WSConv3d, standardize_weight

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FUSED = (timm.layers.BatchNormAct2d, timm.layers.SyncBatchNormAct, timm.layers.FrozenBatchNormAct2d)
_BATCH_NORMS = (nn.SyncBatchNorm, *_FUSED)
_SCALED = (timm.layers.ScaledStdConv2d, timm.layers.ScaledStdConv2dSame)


class Folded(NamedTuple):
    """A norm that is now part of the layer ``into``; an activation that was fused with it stays in its place."""

    path: str
    type: str
    into: str


class Plain(NamedTuple):
    """A layer that computed its weight in every forward pass and now holds it."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class FoldReport:
    """What :func:`zoo.fold` did.

    Attributes:
        folded: norms that are gone.
        plain: standardised, centred or reparametrised layers that became plain ones.
        kept: norms that stayed, with the reason.
        parameters_before, parameters_after: number of parameters of the whole model.
        error: largest difference between the outputs before and after on the input that was traced, divided by the
            largest output.
    """

    folded: tuple[Folded, ...]
    plain: tuple[Plain, ...]
    kept: tuple[Kept, ...]
    parameters_before: int
    parameters_after: int
    error: float

    def __str__(self) -> str:
        lines = [
            f"fold: {len(self.folded)} folded, {len(self.plain)} made plain, {len(self.kept)} kept, "
            f"{self.parameters_before:,} -> {self.parameters_after:,} parameters, relative error {self.error:.1e}"
        ]
        reasons = Counter((k.type, k.reason) for k in self.kept)
        return "\n".join(lines + [f"  kept {n} {t}: {why}" for (t, why), n in reasons.items()])


# --------------------------------------------------------------------------- weights that are computed


def _plain_class(module: nn.Module) -> tuple[type[nn.Module], Tensor, bool] | None:
    """``(plain class, weight in use, dynamic padding)`` of a layer that computes its weight; None for others."""
    cls, same = type(module), False
    if (recipe := getattr(cls, "_recipe", None)) is not None and recipe[0] == "same_padded":
        cls, same = recipe[1], True
    m: Any = module
    if cls in (WSConv1d, WSConv2d, WSConv3d):
        plain = {WSConv1d: nn.Conv1d, WSConv2d: nn.Conv2d, WSConv3d: nn.Conv3d}[cls]
        return plain, m.standardized_weight(), same
    if cls is CentredConv2d:
        return nn.Conv2d, m.centred_weight(), same
    if cls is CentredLinear:
        return nn.Linear, m.weight - m.weight.mean(dim=1, keepdim=True), False
    if cls in (timm.layers.StdConv2d, timm.layers.StdConv2dSame, *_SCALED):
        weight = standardize_weight(m.weight, m.eps)
        if cls in _SCALED:
            weight = weight * (m.gain * m.scale)
        return nn.Conv2d, weight, same or bool(getattr(m, "same_pad", False))
    return None


def _make_plain(module: Any, cls: Any, weight: Tensor, same: bool) -> nn.Module:
    like = {"device": "meta", "dtype": weight.dtype}
    if cls is nn.Linear:
        new = cls(module.in_features, module.out_features, bias=module.bias is not None, **like)
    else:
        new = cls(
            module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding, module.dilation,
            module.groups, module.bias is not None, module.padding_mode, **like,
        )  # fmt: skip
        if same:
            recast(new, same_padded)
    new.weight = nn.Parameter(weight.detach().clone(), requires_grad=module.weight.requires_grad)
    new.bias = module.bias
    return new.train(module.training)


def _without_parametrization(module: Any) -> nn.Module:
    """The layer below torch's parametrisation of ``weight``.

    torch's own ``remove_parametrizations`` takes the property off a class that the original module shares.
    """
    base: Any = type(module).__base__
    new: Any = base.__new__(base)
    new.__dict__.update(module.__dict__)
    new._modules = {k: m for k, m in module._modules.items() if k != "parametrizations"}
    new._parameters = dict(module._parameters)
    weight = module.weight.detach().clone()
    new.weight = nn.Parameter(weight, requires_grad=any(p.requires_grad for p in module.parametrizations.parameters()))
    return new


def _weights_to_plain(model: nn.Module) -> list[Plain]:
    """Put a plain layer where a weight is computed from another, and take parametrisations of ``weight`` off."""
    done = []
    for site in list(sites(model, lambda m: _plain_class(m) is not None)):
        found = _plain_class(site.module)
        if found is None or _has_hooks(site.module):
            continue
        new = _make_plain(site.module, *found)
        _hang(site, new)
        done.append(Plain(site.path, type(site.module).__name__, type(new).__name__))
    for site in list(sites(model, lambda m: parametrize.is_parametrized(m, "weight"))):
        module: Any = site.module
        if set(module.parametrizations) == {"weight"} and not _has_hooks(module):
            names = ", ".join(type(p).__name__.lstrip("_") for p in module.parametrizations.weight)
            new = _without_parametrization(module)
            _hang(site, new)
            done.append(Plain(site.path, f"{type(new).__name__} with {names}", type(new).__name__))
    return done


# --------------------------------------------------------------------------- norms that are affine


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor] | str:
    """``(scale, shift)`` in float64 of a norm in evaluation, or why there is none."""
    n: Any = norm
    if hasattr(n, "eval_affine"):
        try:
            scale, shift = n.eval_affine()
        except ValueError as error:
            return str(error)
        return scale.detach().double(), shift.detach().double()
    if type(n).forward is not _BatchNorm.forward and type(n) not in _BATCH_NORMS:
        return "its evaluation depends on its own input"
    if n.running_mean is None or n.running_var is None:
        return "has no running statistics, so its evaluation depends on its own input"
    scale = (n.running_var.double() + n.eps).rsqrt()
    if n.weight is not None:
        scale = scale * n.weight.detach().double()
    shift = -n.running_mean.double() * scale
    return scale, shift if n.bias is None else shift + n.bias.detach().double()


def _remainder(norm: nn.Module) -> nn.Module:
    """What stays where a folded norm was: nothing, or the dropout and activation that it carried."""
    n: Any = norm
    if type(n) in _FUSED or getattr(type(n), "_recipe", ("",))[0] == "with_act":
        rest = nn.Sequential()
        rest.add_module("drop", n.drop)
        rest.add_module("act", n.act)
        return rest.train(n.training)
    return nn.Identity().train(n.training)


def _foldable(module: nn.Module) -> bool:
    """A layer whose output is linear in ``weight`` per output channel, plus ``bias``."""
    cls = type(module)
    if (recipe := getattr(cls, "_recipe", None)) is not None and recipe[0] == "same_padded":
        cls = recipe[1]
    if cls in (timm.layers.Conv2dSame, timm.layers.Linear):
        return True
    plain: Any = next((c for c in (*_CONVS, *_TRANSPOSED, nn.Linear) if issubclass(cls, c)), None)
    return plain is not None and all(
        getattr(cls, name, None) is getattr(plain, name, None) for name in ("forward", "_conv_forward")
    )


def _axis_fits(layer: nn.Module, norm: nn.Module, shape: torch.Size) -> bool:
    """Whether the norm's channels are the layer's output channels, for an input of ``shape``."""
    last = layout_of(norm) == "channels_last"
    if isinstance(layer, nn.Linear):
        return last or len(shape) == 2
    dims = next(i for i, c in enumerate(zip(_CONVS, _TRANSPOSED, strict=True), 1) if isinstance(layer, c))
    return not last and len(shape) == dims + 2


@torch.no_grad()
def _merge(layer: Any, scale: Tensor, shift: Tensor) -> None:
    weight = layer.weight.double()
    if isinstance(layer, _TRANSPOSED):  # (in, out / groups, *window), the groups one after the other
        split = weight.unflatten(0, (layer.groups, -1))
        factor = scale.view(layer.groups, 1, -1, *(1,) * (weight.dim() - 2))
        weight = (split * factor).flatten(0, 1)
    else:
        weight = weight * scale.view(-1, *(1,) * (weight.dim() - 1))
    bias = shift if layer.bias is None else shift + layer.bias.double() * scale
    trainable = layer.weight.requires_grad
    layer.weight = nn.Parameter(weight.to(layer.weight.dtype), requires_grad=trainable)
    layer.bias = nn.Parameter(bias.to(layer.weight.dtype), requires_grad=trainable)


# --------------------------------------------------------------------------- the whole model


def _hang(site: Site, module: nn.Module) -> None:
    for parent, attribute in site.places:
        parent._modules[attribute] = module


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _is_candidate(module: nn.Module) -> bool:
    return hasattr(module, "eval_affine") or isinstance(module, _BatchNorm | timm.layers.FrozenBatchNormAct2d)


def _why_not(norm: nn.Module, watch: Watch, shared: set[int]) -> str | None:
    """The reason that keeps ``norm`` from being folded, or None."""
    if norm not in watch.calls:
        return "was not reached by the forward pass"
    if isinstance(affine := _affine(norm), str):
        return affine
    layer = watch.source.get(norm)
    if layer is None:
        return "its input does not come straight from a plain convolution or linear layer"
    name = type(layer).__name__
    if _has_hooks(norm) or _has_hooks(layer):
        return "a hook sees it or the layer before"
    if watch.calls[norm] > 1 or watch.calls[layer] > 1:
        return f"it or the {name} before runs more than once"
    if watch.users.get(layer, set()) != {norm}:
        return f"the output of the {name} before is used elsewhere, too"
    if layer in watch.weight_users or id(layer.weight) in shared or parametrize.is_parametrized(layer):
        return f"the weight of the {name} before is shared or computed"
    if channels_of(norm) != affine[0].numel() or not _axis_fits(layer, norm, watch.input_shape[norm]):
        return f"its channels are not the output channels of the {name} before"
    return None


def _run(model: nn.Module, example: tuple[Any, ...]) -> Any:
    try:
        with torch.no_grad():
            return model(*example)
    except Exception as error:  # any model of a user may stand here; its own message is the best one
        shapes = ", ".join(str(tuple(t.shape)) for t in tensors_in(example))
        raise ZooError(
            f"fold follows one forward pass of {type(model).__name__}, and that on {shapes} failed: "
            f"{type(error).__name__}: {error}. example=(...) gives other input."
        ) from error


def _computes_weight(module: nn.Module) -> bool:
    return _plain_class(module) is not None or parametrize.is_parametrized(module, "weight")


def _size_of_first(model: nn.Module) -> tuple[int, ...] | None:
    """What the first layer takes, where that is no image or the model is that layer; None elsewhere."""
    kinds = (*_CONVS, *_TRANSPOSED, nn.Linear, _BatchNorm)
    first: Any = next((m for m in model.modules() if isinstance(m, kinds)), None)
    if isinstance(first, nn.Linear):
        return (first.in_features,)
    if isinstance(first, _BatchNorm):
        return (first.num_features, *(8,) * {nn.BatchNorm1d: 0, nn.BatchNorm3d: 3}.get(type(first), 2))
    if first is None or (isinstance(first, nn.Conv2d) and first is not model):
        return None
    return (first.in_channels, *(32,) * len(first.kernel_size))


def _default_example(model: nn.Module, like: Tensor) -> tuple[tuple[Tensor], Any]:
    """What the first layer takes: random images mostly, or where a stem rearranges them, images of timm's settings."""
    cfg: Any = getattr(model, "pretrained_cfg", None)
    size = (None if cfg else _size_of_first(model)) or _input_size(model)
    stated = tuple(cfg["input_size"]) if isinstance(cfg, dict) and cfg.get("input_size") else size
    for wanted in (size, stated):
        generator = torch.Generator().manual_seed(0)
        example = (torch.randn(2, *wanted, generator=generator).to(like.device, like.dtype),)
        try:
            return example, _run(model, example)
        except ZooError:
            if wanted == stated:
                raise
    raise AssertionError("the last size raises")


def _difference(before: Any, after: Any) -> float:
    pairs = list(zip(tensors_in(before), tensors_in(after), strict=True))
    return max(
        (float((a - b).abs().max() / a.abs().max().clamp_min(1e-12)) for a, b in pairs if a.numel()), default=0.0
    )


def _nothing(name: str, why: str) -> ZooError:
    return ZooError(
        f"fold found nothing to fold in {name}: {why}. A norm goes into the convolution or linear layer before it: pass both, "
        "as in torch.nn.Sequential(conv, norm)"
    )


def fold(model: nn.Module, example: Any = None) -> tuple[nn.Module, FoldReport]:
    """See :func:`zoo.fold`, which documents it."""
    if not isinstance(model, nn.Module):
        raise ZooError(
            f"fold takes a torch.nn.Module, received {type(model).__name__}; create one with zoo.create(name)"
        )
    if (training := next((n for n, m in model.named_modules() if m.training), None)) is not None:
        raise ZooError(
            f"fold takes a model in evaluation, and {training or type(model).__name__} is in training: call model.eval() "
            "first. What is folded cannot be trained as before."
        )
    first = next((t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()), None)
    if first is None or any(t.is_meta for t in (*model.parameters(), *model.buffers())):
        raise ZooError(f"fold needs values, and {type(model).__name__} has no tensors or some on the meta device")
    name, alone = type(model).__name__, _computes_weight(model)
    if not alone and (_foldable(model) or _is_candidate(model) or is_norm(model)):
        raise _nothing(name, "it is a layer by itself, and its weight is not computed from another")
    model, parameters_before = copy.deepcopy(model), count_parameters(model)
    if example is None:
        example, before = _default_example(model, first)
    else:
        example = example if isinstance(example, tuple) else (example,)
        before = _run(model, example)
    if alone:  # a layer by itself needs somewhere to hang
        model = nn.Sequential(model).eval()
    plain = _weights_to_plain(model)
    owners = Counter(id(p) for m in model.modules() for p in m._parameters.values() if p is not None)
    shared = {key for key, n in owners.items() if n > 1}
    norms = list(sites(model, _is_candidate))
    paths = {m: p for p, m in model.named_modules()}
    makers = [m for m in model.modules() if _foldable(m)]
    hooked = {m for m in paths if _has_hooks(m)}
    watch = Watch([m for m in makers if m not in hooked], [s.module for s in norms if s.module not in hooked])
    with watch:
        watch.reads(tensors_in(_run(model, example)), None)  # an output of the model is a use of its own

    folded, kept = [], []
    for site in norms:
        norm = site.module
        reason = "a hook sees it" if norm in hooked else _why_not(norm, watch, shared)
        if reason is not None:
            kept.append(Kept(site.path, type(norm).__name__, reason))
            continue
        layer, affine = watch.source[norm], _affine(norm)
        assert layer is not None
        assert not isinstance(affine, str)
        _merge(layer, *affine)
        _hang(site, _remainder(norm))
        folded.append(Folded(site.path, type(norm).__name__, paths[layer]))
    kept += _others(model, {s.module for s in norms})
    if not (folded or plain or kept):
        raise _nothing(name, "it holds no norm, and no layer that computes its weight")
    if alone:
        model, plain = model[0], [p._replace(path="") for p in plain]  # type: ignore[index]
    error = _difference(before, _run(model, example))
    if error > 1e-2 and first.dtype in (torch.float32, torch.float64):
        raise ZooError(
            f"fold would change the output of {name} by {error:.1e} of its largest value: the model is random "
            "in evaluation, or uses its layers in a way that one forward pass does not show"
        )
    return model, FoldReport(
        tuple(folded), tuple(plain), tuple(kept), parameters_before, count_parameters(model), error
    )


def _others(model: nn.Module, seen: set[nn.Module]) -> Iterable[Kept]:
    """Norms whose evaluation is no affine map at all."""
    for site in sites(model, lambda m: is_norm(m) and m not in seen):
        yield Kept(site.path, type(site.module).__name__, "its evaluation depends on its own input")
