"""Weights for a model: which checkpoint, from where, into which architecture."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import nn

from zoo.errors import UnknownName, WeightsError
from zoo.factory.timm_bridge import record_of
from zoo.hub.load import LoadReport, load_into
from zoo.hub.source import Source, is_commit
from zoo.registry.files import PACKAGE
from zoo.registry.licences import licence_class
from zoo.registry.lookup import registry
from zoo.registry.schema import Checkpoint, Model, split_spec

_HUB_OPTIONS = ("strict_pins", "offline", "endpoint", "progress")
_reports: WeakKeyDictionary[nn.Module, LoadReport] = WeakKeyDictionary()


class Chosen(NamedTuple):
    """One checkpoint: where its bytes are, and what it was made for in timm's terms."""

    source: Source
    cfg: dict[str, Any]
    architecture: str | None


def load_report(model: nn.Module) -> LoadReport | None:
    return _reports.get(model)


def choose(name: str, entry: Model | None, pretrained: bool | str = True) -> Chosen:
    """The checkpoint that ``pretrained`` names: True for the first (bundled, Hub, timm), ``"tag"`` or ``"tag@commit"``.

    Raises:
        WeightsError: the model has no weights at all.
        UnknownName: it has none of that tag.
    """
    tag, _, commit = pretrained.partition("@") if isinstance(pretrained, str) else ("", "", "")
    if commit and not is_commit(commit):
        raise WeightsError(f"{name}: a commit is 40 lower-case hex digits, received {commit!r}")
    options = _options(name, entry)
    if not options:
        raise WeightsError(
            f"{name} has no known pretrained weights; create it with pretrained=False. "
            "zoo.list_models(pretrained=True) lists those that have."
        )
    if not tag:
        chosen = next(iter(options.values()))
    else:
        tag = tag.removeprefix(f"{name}.")
        if tag not in options:
            raise UnknownName(f"weights of {name}", tag, options, f"Tags: {', '.join(list(options)[:12])}.")
        chosen = options[tag]
    found: Chosen = chosen()
    return found._replace(source=found.source.at(commit)) if commit else found


def _options(name: str, entry: Model | None) -> dict[str, Any]:
    """Tag -> a function that makes the choice; timm is asked only for the one that is taken."""
    if entry is None:
        return _timm_options(name)
    found: dict[str, Any] = {}
    for checkpoint in (*entry.checkpoints.bundled, *entry.checkpoints.hub):
        found[checkpoint.tag] = lambda c=checkpoint: _declared(name, entry, c)
    for tag in entry.checkpoints.timm:
        found[tag.split(".", 1)[1]] = lambda t=tag: _from_timm(name, t)
    return found


def _timm_options(name: str) -> dict[str, Any]:
    import timm

    architecture, _, wanted = name.partition(".")
    tags = timm.list_pretrained(f"{architecture}.*")
    # timm's own default comes first.
    default = record_of(name)
    first = wanted or (default.tag if default is not None else "")
    tags.sort(key=lambda t: t.split(".", 1)[1] != first)
    return {t.split(".", 1)[1]: (lambda t=t: _from_timm(name, t)) for t in tags}


def _from_timm(name: str, tag: str) -> Chosen:
    import timm

    cfg = record_of(tag)
    if cfg is None:
        raise WeightsError(f"{name}: the installed timm {timm.__version__} knows no weights {tag!r}")
    record = cfg.to_dict()
    pin = registry().lock["timm"].get(tag, {})
    source = Source.from_timm(name, tag, record, pin if pin.get("sha256") else None)
    return Chosen(source, record, tag.split(".", 1)[0])


def _declared(name: str, entry: Model, checkpoint: Checkpoint) -> Chosen:
    root = PACKAGE / "models" / "weights" if checkpoint.repo is None else None
    source = Source.from_checkpoint(name, checkpoint, root)
    cfg: dict[str, Any] = {"num_classes": checkpoint.classes, "tag": checkpoint.tag, "architecture": entry.backbone}
    if checkpoint.input is not None:
        cfg |= {
            "input_size": checkpoint.input.size,
            "mean": checkpoint.input.mean,
            "std": checkpoint.input.std,
            "interpolation": checkpoint.input.interpolation,
            "crop_pct": checkpoint.input.crop_pct,
        }
    return Chosen(source, cfg, None if ":" in entry.backbone else entry.backbone)


def create_pretrained(
    name: str,
    entry: Model | None,
    pretrained: bool | str,
    declared: Mapping[str, Any],
    swaps: Mapping[str, Any],
    plans: dict[str, Any],
    allow_partial: bool,
    arguments: dict[str, Any],
) -> nn.Module:
    """Build ``name`` with its declared swaps, give it the weights, then carry out what the caller swaps besides.

    Raises:
        WeightsError: ``norm=`` asks for another normalization than the weights were trained with.
    """
    from zoo.factory.backbone import build
    from zoo.factory.create import _resolve_spec, _swap_all
    from zoo.hub.download import obtain
    from zoo.hub.weights import open_weights

    options = {k: arguments.pop(k) for k in _HUB_OPTIONS if k in arguments}
    chosen = choose(name, entry, pretrained)
    _refuse_other_norm(name, chosen, declared, swaps)
    _say_licence(chosen.source, callers=5)  # zoo.create, create, _create_model, create_pretrained
    backbone = entry.backbone if entry else name.partition(".")[0]
    if chosen.architecture == backbone and chosen.cfg.get("tag"):
        backbone = f"{backbone}.{chosen.cfg['tag']}"  # a tag may come with arguments of its own (image size)
    before = {k: _resolve_spec(k, spec) for k, spec in declared.items()}
    after = {k: plans[k] for k in swaps if k not in declared or declared[k] != swaps[k]}

    def construct() -> nn.Module:
        model = build(backbone, _with_defaults(arguments, chosen.cfg))
        if before:
            _swap_all(model, before, allow_partial, None)
        return model

    fetched = obtain(chosen.source, **options)
    cfg = {**_own_cfg(backbone), **{k: v for k, v in chosen.cfg.items() if v is not None}}
    model, report = load_into(
        construct,
        open_weights(fetched.path, fetched.source),
        label=chosen.source.label,
        cfg=cfg,
        num_classes=arguments.get("num_classes"),
        in_chans=arguments.get("in_chans"),
        architecture=chosen.architecture,
        choices=_lawful(name),
    )
    if after:
        _swap_all(model, after, allow_partial, None)
    model.pretrained_cfg = model.default_cfg = {**cfg, **_sizes(arguments)}  # type: ignore[assignment]
    _reports[model] = report
    return model


def _with_defaults(arguments: dict[str, Any], cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Where the caller does not say otherwise, the model has the classes and channels of the weights."""
    filled = dict(arguments)
    if cfg.get("num_classes") is not None:
        filled.setdefault("num_classes", cfg["num_classes"])
    if cfg.get("input_size") and cfg["input_size"][0] != 3:
        filled.setdefault("in_chans", cfg["input_size"][0])
    return filled


def _own_cfg(backbone: str) -> dict[str, Any]:
    """First convolution and classifier of a model of ``zoo.models``, which say what may be adapted."""
    if ":" not in backbone:
        return {}
    from zoo.factory.targets import load_target

    return dict(getattr(load_target(backbone), "cfg", {}))


def _sizes(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"num_classes": arguments["num_classes"]} if arguments.get("num_classes") is not None else {}


def _refuse_other_norm(name: str, chosen: Chosen, declared: Mapping[str, Any], swaps: Mapping[str, Any]) -> None:
    if "norm" not in swaps:
        return
    reg = registry()
    wanted = reg.method_for(split_spec(swaps["norm"])[0])
    own = reg.method_for(split_spec(declared["norm"])[0]) if "norm" in declared else None
    if wanted == own and swaps["norm"] == declared["norm"]:
        return
    with_it = [m for m in reg.select("model", "*", (), {"pretrained": True}) if _norm_of(m) == wanted]
    raise WeightsError(
        f"{chosen.source.label} was trained with {own or 'the normalization of its architecture'}, "
        f"norm={wanted!r} would make its "
        f"weights compute something else. Lawful: leave out norm=; or pretrained=False; or create it pretrained first and "
        f"call zoo.swap(model, norm={wanted!r}) to fine-tune from its convolutions and gains"
        + (f"; or weights trained so: {', '.join(with_it[:4])}." if with_it else ".")
    )


def _norm_of(model: str) -> str | None:
    swaps = registry().model(model).swaps
    return registry().method_for(split_spec(swaps["norm"])[0]) if "norm" in swaps else None


def _lawful(name: str) -> tuple[str, ...]:
    return (f"zoo.create({name!r}, pretrained=False)", "zoo.list_models(pretrained=True)")


def _say_licence(source: Source, callers: int) -> None:
    """Warn about non-commercial weights, at the line of the user's own code: ``callers`` frames above this one."""
    if licence_class(source.licence) == "non-commercial":
        warnings.warn(
            f"{source.label}: these weights are licensed {source.licence}, for non-commercial use only",
            stacklevel=callers + 1,
        )


# --------------------------------------------------------------------------- without building the model


def _find(name: str, tag: str | None) -> Chosen:
    reg = registry()
    try:
        what, identity = reg.resolve(name)
    except UnknownName:
        from zoo.factory.backbone import is_timm
        from zoo.factory.create import _with_timm_names

        if not is_timm(name):
            raise _with_timm_names(name) from None
        return choose(name, None, tag or True)
    if what != "model":
        models = [m for p in [reg.resolve_paper(name)] for m in reg.models_of.get(p, ())]
        raise WeightsError(f"{identity} is a {what}, weights belong to models: {', '.join(models) or 'it has none'}")
    return choose(identity, reg.model(identity), tag or True)


def download(name: str, *, tag: str | None = None, **options: Any) -> Path:
    """See ``zoo.download``: strict_pins, offline, endpoint, progress as in ``zoo.hub.download.fetch``."""
    from zoo.hub.download import fetch

    source = _find(name, tag).source
    _say_licence(source, callers=3)  # zoo.download, download
    return fetch(source, **options)


def transforms(name: str, *, tag: str | None = None, is_training: bool = False) -> Any:
    """See ``zoo.transforms``."""
    from zoo.hub.predict import transforms as build_transforms

    return build_transforms(_find(name, tag).cfg, training=is_training)
