"""``create``: one name in, the method, optimizer, loss or model out."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from zoo.errors import SwapError, UnknownArgument, UnknownName, ZooError
from zoo.factory.backbone import build, is_timm
from zoo.factory.report import SwapReport, join
from zoo.factory.surgery import Plan
from zoo.factory.targets import call, load_target, parameters_of, require_divisible
from zoo.registry.lookup import registry
from zoo.registry.schema import LAYOUTS, SWAPPABLE, Method, Model, split_spec

_reports: WeakKeyDictionary[nn.Module, SwapReport] = WeakKeyDictionary()
SwapSpec = str | dict[str, dict[str, Any]]
#: Beside a method's own parameters in a swap: shell patterns of paths that stay, ``{"frelu": {"keep": ["layer4.*"]}}``.
KEEP = "keep"


def create(
    name: str | None = None,
    *args: Any,
    paper: str | None = None,
    pretrained: bool | str = False,
    norm: SwapSpec | None = None,
    act: SwapSpec | None = None,
    conv: SwapSpec | None = None,
    pool: SwapSpec | None = None,
    allow_partial: bool = False,
    **kwargs: Any,
) -> Any:
    """See :func:`zoo.create`, which documents it."""
    swaps = {k: v for k, v in (("norm", norm), ("act", act), ("conv", conv), ("pool", pool)) if v is not None}
    reg = registry()
    if (name is None) == (paper is None):
        raise UnknownArgument(
            "create takes a name or paper=..., one of them: create('group_norm', 64), create(paper='1803.08494', ...)"
        )
    what: str
    if paper is not None:
        what, identity = "method", reg.method_of_paper(reg.resolve_paper(paper))
    else:
        assert name is not None
        hit = reg.find(name)
        if hit is None:
            if not is_timm(name):
                raise _with_timm_names(name)
            hit = ("backbone", name)  # type: ignore[assignment]
        what, identity = hit  # type: ignore[misc]
        if what == "paper":
            what, identity = "method", reg.method_of_paper(identity)
    if what == "method":
        for given, value in (("pretrained", pretrained), ("allow_partial", allow_partial), *swaps.items()):
            if value:
                raise UnknownArgument(
                    f"{identity} is a method, {given}= goes with a model: create('resnet50', {given}={value!r})"
                )
        return create_method(reg.method(identity), args, kwargs)
    if args:
        raise UnknownArgument(f"{identity} is a model; give its arguments by name (num_classes=10), received {args!r}")
    model = reg.model(identity) if what == "model" else None
    return _create_model(identity, model, pretrained, swaps, allow_partial, kwargs)


def _with_timm_names(name: Any) -> UnknownName:
    import timm

    names = [*registry().all_names(), *timm.list_models()]
    return UnknownName(
        "name",
        str(name),
        names,
        "zoo.search(text) looks through titles, authors and notes; any timm architecture is a name too.",
    )


def create_method(method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An instance of a method: ``call`` with the registry's defaults."""
    target = method.target
    if method.kind == "norm":
        if (layout := kwargs.pop("layout", None)) is not None:
            return _norm_in_layout(method, layout, args, kwargs)
        _check_groups(method, args, kwargs)
    made = call(method.id, load_target(target), args, method.defaults, kwargs)
    if method.kind == "optimizer":
        _check_real(method, made)
    return made


def _check_real(method: Method, optimizer: Any) -> None:
    """No paper here defines a step for complex numbers, and squares without conjugate are silently wrong."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.is_complex():
                raise TypeError(
                    f"{method.id} takes real parameters, received {p.dtype}; torch.view_as_real gives pairs"
                )


def _norm_in_layout(method: Method, layout: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module:
    from zoo.factory.norms import build_norm

    if layout not in LAYOUTS:
        raise UnknownName("layout", str(layout), LAYOUTS, f"Layouts: {', '.join(LAYOUTS)}.")
    if len(args) != 1 or not isinstance(args[0], int):
        raise UnknownArgument(
            f"{method.id} with layout= takes the number of channels first and the rest by name, received {args!r}"
        )
    _check_groups(method, args, kwargs)
    return build_norm(method, args[0], layout, kwargs)


def _check_groups(method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    known = list(parameters_of(load_target(method.target)))
    if "num_groups" not in known or not args or not isinstance(args[0], int):
        return
    at = known.index("num_groups")
    groups = args[at] if len(args) > at else kwargs.get("num_groups", method.defaults.get("num_groups"))
    if groups is not None:
        require_divisible(method.id, args[0], groups)


# --------------------------------------------------------------------------- models


def _create_model(
    name: str,
    entry: Model | None,
    pretrained: bool | str,
    swaps: dict[str, SwapSpec],
    allow_partial: bool,
    kwargs: dict[str, Any],
) -> nn.Module:
    backbone = entry.backbone if entry else name
    arguments = {**(entry.args if entry else {}), **kwargs}
    declared: dict[str, SwapSpec] = dict(entry.swaps) if entry else {}  # type: ignore[arg-type]
    wanted = {**declared, **swaps}
    plans = {kind: _resolve_spec(kind, spec) for kind, spec in wanted.items()}

    def construct() -> nn.Module:
        model = build(backbone, arguments)
        if plans:
            _swap_all(model, plans, allow_partial, input_size=None)
        return model

    if pretrained is False or pretrained is None:
        return construct()
    from zoo.factory.pretrained import create_pretrained

    return create_pretrained(name, entry, pretrained, declared, swaps, plans, allow_partial, arguments)


def _resolve_spec(swap: str, spec: SwapSpec) -> tuple[Method | str, dict[str, Any], str]:
    """Method and parameters behind ``norm="group_norm"``; a plain activation of timm stays a name."""
    reg = registry()
    try:
        name, parameters = split_spec(spec)
    except ValueError as error:
        raise SwapError(f"{swap}: {error}") from None
    shown = name if not parameters else f"{name}({', '.join(f'{k}={v!r}' for k, v in parameters.items())})"
    kind = SWAPPABLE[swap]
    of_kind = [n for n, m in reg.raw.methods.items() if m["kind"] == kind]
    try:
        identity = reg.method_for(name)
    except UnknownName:
        if swap == "act":
            from zoo.factory.acts import act_names, plain_act

            if plain_act(name) is not None:
                return name, parameters, shown
            of_kind = act_names()
        raise UnknownName(
            f"{kind} method", name, of_kind, f"Methods of kind {kind}: zoo.list_methods(kind={kind!r})."
        ) from None
    method = reg.method(identity)
    if method.kind != kind:
        raise UnknownName(f"{kind} method", name, of_kind, f"{identity!r} is of kind {method.kind}.")
    target_parameters = parameters_of(load_target(method.target))
    if not any(p.kind is p.VAR_KEYWORD for p in target_parameters.values()):
        from zoo.factory.targets import unknown_argument

        for parameter in parameters:
            if parameter not in target_parameters and parameter != KEEP:
                raise unknown_argument(identity, parameter, list(target_parameters))
    return method, parameters, shown


def _plan(
    model: nn.Module, swap: str, spec: tuple[Method | str, dict[str, Any], str], input_size: tuple[int, ...] | None
) -> Plan:
    method, parameters, shown = spec
    keep = parameters.get(KEEP)
    plan = _plan_all(model, swap, method, {k: v for k, v in parameters.items() if k != KEEP}, shown, input_size)
    if keep is not None:
        plan.spare([keep] if isinstance(keep, str) else list(keep))
    return plan


def _plan_all(
    model: nn.Module,
    swap: str,
    method: Method | str,
    parameters: dict[str, Any],
    shown: str,
    input_size: tuple[int, ...] | None,
) -> Plan:
    if swap == "act":
        from zoo.factory.acts import plan_acts

        return plan_acts(model, method, parameters, shown, input_size)
    assert isinstance(method, Method)
    if swap == "norm":
        from zoo.factory.norms import plan_norms

        return plan_norms(model, method, parameters, shown)
    if swap == "conv":
        from zoo.factory.convs import plan_convs

        return plan_convs(model, method, parameters, shown)
    from zoo.factory.pools import plan_pool

    return plan_pool(model, method, parameters, shown)


def _swap_all(
    model: nn.Module,
    specs: dict[str, tuple[Method | str, dict[str, Any], str]],
    allow_partial: bool,
    input_size: tuple[int, ...] | None,
) -> SwapReport:
    # Convolutions first: an activation with a convolution inside (frelu) is not meant by conv=.
    order = [k for k in ("conv", "norm", "act", "pool") if k in specs]
    plans = [_plan(model, k, specs[k], input_size) for k in order]
    for plan in plans:  # all must stand before the first is carried out
        _refuse_incomplete(plan, model, allow_partial)
    # A norm that is fused with its activation is replaced as one: its new act is planned on the new norm.
    reports = []
    for k, plan in zip(order, plans, strict=True):
        fresh = _plan(model, k, specs[k], input_size) if k == "act" and "norm" in specs else plan
        reports.append(fresh.carry_out(model, allow_partial))
    report = join(reports)
    _reports[model] = report
    return report


def _refuse_incomplete(plan: Plan, model: nn.Module, allow_partial: bool) -> None:
    """Raise what ``carry_out`` would raise, before anything has changed."""
    if not plan.new or (not allow_partial and any(not k.by_design for k in plan.kept)):
        plan.carry_out(model, allow_partial)


def swap(
    model: nn.Module,
    *,
    norm: SwapSpec | None = None,
    act: SwapSpec | None = None,
    conv: SwapSpec | None = None,
    pool: SwapSpec | None = None,
    allow_partial: bool = False,
    input_size: tuple[int, ...] | None = None,
) -> SwapReport:
    """See :func:`zoo.swap`, which documents it."""
    if not isinstance(model, nn.Module):
        raise ZooError(
            f"swap takes a torch.nn.Module, received {type(model).__name__}; create one with zoo.create(name)"
        )
    wanted = {k: v for k, v in (("norm", norm), ("act", act), ("conv", conv), ("pool", pool)) if v is not None}
    if not wanted:
        raise UnknownArgument("swap needs at least one of norm=, act=, conv=, pool=")
    return _swap_all(model, {k: _resolve_spec(k, v) for k, v in wanted.items()}, allow_partial, input_size)


def swap_report(model: nn.Module) -> SwapReport | None:
    """What was swapped when ``model`` was created or last swapped; None when nothing was."""
    return _reports.get(model)
