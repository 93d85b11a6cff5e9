"""zoo: every paper in the catalog can be read, run, checked and loaded by one name.

>>> import zoo
>>> zoo.list_methods(kind="norm")           # no torch needed for lists, search, citations
>>> model = zoo.create("gn_resnet50", num_classes=10)
>>> report = zoo.swap(model, act="mish")

Importing zoo, listing, showing, searching and citing import neither torch nor timm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import nn

    from zoo.errors import ZooError as ZooError
    from zoo.factory.create import SwapSpec
    from zoo.factory.fold import FoldReport
    from zoo.factory.report import SwapReport
    from zoo.hub.load import LoadReport
    from zoo.registry.info import Info
    from zoo.registry.search import Hit

__version__ = "0.1.0"
__all__ = [
    "ZooError",
    "cite",
    "create",
    "download",
    "fold",
    "get",
    "info",
    "list_checkpoints",
    "list_methods",
    "list_models",
    "list_papers",
    "load_registry",
    "load_report",
    "register_with_timm",
    "search",
    "swap",
    "swap_report",
    "transforms",
]


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
    """Create what a name stands for: a layer, an optimizer, a loss, a model, with or without weights.

    Args:
        name: id or alias of a method or model (case and separators do not count), or any timm architecture.
        *args: positional arguments of a method, e.g. ``create("group_norm", 64)``, ``create("lamb", model.parameters())``.
        paper: instead of ``name``: arXiv id, DOI, title, id or alias of a paper with one method.
        pretrained: ``True`` for the default weights, or ``"tag"``, or ``"tag@commit"``.
        norm, act, conv, pool: methods to put into a backbone, as a name or one name with parameters:
            ``norm="group_norm"``, ``norm={"group_norm": {"num_groups": 8}}``. ``act`` also takes timm's plain activations.
            ``keep`` beside the parameters names places that stay: ``act={"frelu": {"keep": ["act1", "layer4.*"]}}``.
        allow_partial: accept a swap that leaves layers as they are; :func:`swap_report` says which.
        **kwargs: parameters of the method, or of the backbone (``num_classes=10``, ``in_chans=1``: as in timm).

    Returns:
        The object that the entry's kind stands for; CONTRIBUTING lists the kinds.

    Raises:
        zoo.errors.UnknownName: nothing is called so; the message has the nearest name.
        zoo.errors.AmbiguousName: a paper with several methods.
        zoo.errors.UnknownArgument: a keyword that the target does not take.
        zoo.errors.SwapError: a swap that cannot be completed.
        zoo.errors.WeightsError: weights that do not exist or do not fit what was asked for.
    """
    from zoo.factory.create import create

    return create(
        name, *args, paper=paper, pretrained=pretrained, norm=norm, act=act, conv=conv, pool=pool,
        allow_partial=allow_partial, **kwargs,
    )  # fmt: skip


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
    """Exchange layers of any ``torch.nn.Module`` in place.

    Parameter names, values that keep their meaning (affine gains, also those initialised to zero; convolution weights), fused
    activations, dropout, layout (NCHW, NHWC, tokens), device, dtype, training mode and ``requires_grad`` stay. Everything
    is built before anything is exchanged: when a swap fails, the model is as it was.

    Args:
        model: changed in place.
        norm, act, conv, pool: as in :func:`create`.
        allow_partial: accept that layers stay; otherwise that is an error.
        input_size: ``(C, H, W)`` for activations that need the number of channels at every place (default: the model's own).

    Returns:
        What was replaced and what was kept, with reasons.

    Raises:
        zoo.errors.SwapError: nothing to replace, or layers would be left.
    """
    from zoo.factory.create import swap

    return swap(model, norm=norm, act=act, conv=conv, pool=pool, allow_partial=allow_partial, input_size=input_size)


def swap_report(model: nn.Module) -> SwapReport | None:
    """The report of the last swap of ``model`` (by :func:`create` or :func:`swap`); None when nothing was swapped."""
    from zoo.factory.create import swap_report

    return swap_report(model)


def fold(model: nn.Module, example: Any = None) -> tuple[nn.Module, FoldReport]:
    """A copy of a model in evaluation whose norms are part of the convolutions and linear layers before them.

    Folded are batch norms and all methods that normalise with stored values (``eval_affine``), where a layer's output
    feeds that norm alone; fused activations stay. Standardised, centred and reparametrised weights become plain ones.
    One forward pass shows what feeds what. ``model`` is left as it is; the copy gives the same outputs but for rounding.
    A layer by itself is folded, too, where it computes its weight: a standardised convolution becomes a plain one.

    Args:
        model: any module in eval mode.
        example: its input, a tensor or a tuple (default: random images of the model's own size, or what its first layer
            takes).

    Returns:
        The folded copy, and what was folded or kept, with reasons and the measured difference of the outputs.

    Raises:
        zoo.errors.ZooError: a module in training mode, without values, with nothing that could be folded (a lone norm or
            plain layer, a model without either), or whose forward pass fails.
    """
    from zoo.factory.fold import fold

    return fold(model, example)


def load_report(model: nn.Module) -> LoadReport | None:
    """Where each tensor of a model that was created pretrained came from; None for one that was not."""
    from zoo.factory.pretrained import load_report

    return load_report(model)


def get(name: str) -> Any:
    """The class or function behind a method or the backbone of a model, without calling it."""
    from zoo.factory.targets import load_target
    from zoo.registry.lookup import registry

    reg = registry()
    what, identity = reg.resolve(name)
    if what == "model":
        backbone = reg.model(identity).backbone
        if ":" in backbone:
            return load_target(backbone)
        from timm.models import model_entrypoint

        return model_entrypoint(backbone)
    return load_target(reg.method(reg.method_for(name)).target)


def list_methods(pattern: str | Iterable[str] = "*", *, exclude: str | Iterable[str] = (), **where: Any) -> list[str]:
    """Method ids that match wildcards and filters, in natural order.

    Args:
        pattern: a wildcard or several (``"*_norm"``).
        exclude: wildcards of ids to leave out.
        **where: a field and what it must be: a value, a wildcard, a collection of values, a range ``(low, high)`` with None
            for an open end, or a predicate. Fields: kind, category, paper, year, venue, author, backing, licence, pretrained,
            status, needs, tag, arxiv, faithful_to.
    """
    from zoo.registry.lookup import registry

    return registry().select("method", pattern, exclude, where)


def list_models(pattern: str | Iterable[str] = "*", *, exclude: str | Iterable[str] = (), **where: Any) -> list[str]:
    """Model ids that match; as :func:`list_methods`. Fields also: backbone, params, macs, licence, pretrained."""
    from zoo.registry.lookup import registry

    return registry().select("model", pattern, exclude, where)


def list_papers(pattern: str | Iterable[str] = "*", *, exclude: str | Iterable[str] = (), **where: Any) -> list[str]:
    """Paper ids that match; as :func:`list_methods`. Fields: category, kind, year, venue, title, author, tag, status, ..."""
    from zoo.registry.lookup import registry

    return registry().select("paper", pattern, exclude, where)


def list_checkpoints(
    pattern: str | Iterable[str] = "*", *, exclude: str | Iterable[str] = (), **where: Any
) -> list[str]:
    """Known weights that match; as :func:`list_methods`. timm's go by their tag, those that a model declares by ``model.tag``.

    Fields: method, paper, category, model, architecture, licence, params, macs, top1 (ImageNet-1k), num_classes, input_size,
    source (timm, hub, bundled), pinned, hub_id. ``list_checkpoints(method="group_norm", licence="permissive", top1=(80, None))``.
    """
    from zoo.registry.lookup import registry

    return registry().select("checkpoint", pattern, exclude, where)


def search(text: str, limit: int = 20) -> list[Hit]:
    """Papers ranked by where the words of ``text`` stand: names and titles, authors, summaries, notes."""
    from zoo.registry.lookup import registry
    from zoo.registry.search import search

    return search(registry(), text, limit)


def info(name: str) -> Info:
    """All that is known under a name, typed: paper, method, model, evidence, checkpoints, notes, BibTeX."""
    from zoo.registry.info import info
    from zoo.registry.lookup import registry

    return info(registry(), name)


def cite(name: str) -> str:
    """BibTeX of the paper (or papers) behind a method, model or paper."""
    from zoo.registry.cite import bibtex
    from zoo.registry.lookup import registry

    reg = registry()
    what, identity = reg.resolve(name)
    papers = reg.papers_of_model[identity] if what == "model" else [reg.resolve_paper(name)]
    return "\n".join(bibtex(reg.raw.papers[p]) for p in papers)


def load_registry(source: str | Path) -> list[str]:
    """Merge another registry into the one in use, all of it or nothing.

    Args:
        source: path of a YAML file with ``papers`` and ``models`` (data only), or the name of an installed entry point of the
            group ``zoo.registries`` (which may also bring methods of its own package).

    Returns:
        The names that were added.

    Raises:
        zoo.errors.RegistryError: every problem, with file and line; nothing is merged then.
    """
    from zoo.registry.merge import load_registry

    return load_registry(source)


def download(name: str, **options: Any) -> Path:
    """Download and verify the weights of a model without building it; returns the file. Options as in the CLI."""
    from zoo.factory.pretrained import download

    return download(name, **options)


def transforms(name: str, *, is_training: bool = False) -> Any:
    """The preprocessing that the weights of a model need, through ``timm.data.create_transform``."""
    from zoo.factory.pretrained import transforms

    return transforms(name, is_training=is_training)


def register_with_timm() -> list[str]:
    """Make the registry's models known to ``timm.create_model``; returns their names. Opt-in, because it imports timm."""
    from zoo.factory.timm_bridge import register_with_timm

    return register_with_timm()


def __getattr__(name: str) -> Any:
    if name == "ZooError":
        from zoo.errors import ZooError

        return ZooError
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
