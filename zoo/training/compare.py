"""Several methods under one protocol: the same network, data, noise, optimizer and order; only the method differs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.claims import mean_and_spread
from zoo.errors import ZooError
from zoo.training.chart import chart
from zoo.training.checkpoint import write_bytes
from zoo.training.recipe import Loaded, RecipeError, load


def numbers(text: str) -> list[int]:
    """``"0,1,2"`` as a list.

    Raises:
        ZooError: something that is no whole number.
    """
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ZooError(f"seeds are whole numbers separated by commas, received {text!r}") from None


def protocol(
    data: str, recipe: str, noise: str | None, epochs: int | None, overrides: Mapping[str, Any] | Sequence[str]
) -> dict[str, Any]:
    """The fields that all methods share, as changes of the recipe.

    Raises:
        ZooError: a noise that is not written ``name:rate``.
    """
    from zoo.training.recipe import _is_source, _pairs

    changes: dict[str, Any] = {}
    if data in ("digits", "mnist5k"):
        changes["data.name"] = data
    else:
        if not _is_source(data) and not Path(data).is_dir():
            raise ZooError(
                "data is digits, mnist5k, a folder with a folder of images for each class, or a name of timm's such as "
                f"hfds/<owner>/<name>; received {data!r}"
            )
        changes |= {
            "data.name": "timm" if _is_source(data) else "folder",
            "data.path": data,
            "data.test": None,
            "model.name": "zoo.models.resnet:resnet20",
        }
        changes |= {"model.args": {}, "noise": None}
    if noise is not None:
        name, _, rate = noise.partition(":")
        if name == "none":
            changes["noise"] = None
        else:
            try:
                changes["noise"] = {"name": name, "rate": float(rate)}
            except ValueError:
                raise ZooError(f"noise is written name:rate, for example pair:0.4; received {noise!r}") from None
    if epochs is not None:
        changes["epochs"] = epochs
    return {**changes, **_pairs(overrides)}


def compare(
    methods: Sequence[str],
    *,
    data: str = "digits",
    recipe: str = "digits_compare",
    noise: str | None = None,
    seeds: Sequence[int] = (0,),
    epochs: int | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    out: str | Path | None = None,
    device: str | None = None,
    show: bool = False,
) -> dict[str, Any]:
    """Train every method with every seed and gather the figures; all recipes are checked before the first one runs.

    Args:
        methods: names of losses and algorithms; ``ce`` is cross-entropy. One that needs a clean set gets 10 samples of
            each class held out, and so does every other, that all train on the same samples.
        data: ``digits``, ``mnist5k``, a folder, or a name of timm's (``hfds/<owner>/<name>``); on the latter two labels
            stay as they are unless ``noise`` is given.
        recipe: whose network, optimizer, schedule, epochs and batch are taken.
        noise: ``name:rate``, or ``none``.
        seeds: of noise, splits, network and order.
        epochs: instead of the recipe's.
        overrides: see :func:`zoo.training.recipe.load`; ``{"method": ...}`` is taken from ``methods``.
        out: folder for ``compare.json`` and ``compare.svg``; None writes nothing.
        device: see :func:`zoo.training.engine.train`.
        show: a progress bar for each run.

    Returns:
        ``setting``, ``seeds``, ``rows`` (one a method: ``last``, ``best``, ``memorised``, ``suspects`` as mean and spread),
        ``curves`` (test accuracy by epoch, mean over the seeds).

    Raises:
        RecipeError: a method or field that is not valid.
    """
    from zoo.training.engine import train

    if not methods or not seeds:
        raise ZooError("compare needs at least one method and one seed")
    changes = protocol(data, recipe, noise, epochs, overrides)
    loaded = _all(methods, recipe, changes, seeds)
    rows, curves = [], {}
    for method in methods:
        results = [train(loaded[method, seed], device=device, show=show) for seed in seeds]
        reports = [r.report for r in results]
        rows.append({
            "method": method,
            "last": _figure([r["last"]["test"] for r in reports]),
            "best": _figure([r["best"] and r["best"]["test"] for r in reports]),
            "memorised": _figure([r["noise"]["memorised"] for r in reports]),
            "suspects": _figure([r["suspects"] and r["suspects"]["precision"] for r in reports]),
            "seconds": _figure([r["seconds"] for r in reports]),
        })  # fmt: skip
        histories = [[row["test"] for row in r.history] for r in results]
        curves[method] = [round(sum(values) / len(values), 4) for values in zip(*histories, strict=True)]
    result = {"setting": _setting(loaded[methods[0], seeds[0]]), "seeds": list(seeds), "rows": rows, "curves": curves}
    if out is not None:
        folder = Path(out)
        write_bytes(folder / "compare.json", (json.dumps(result, indent=2) + "\n").encode())
        drawing = chart(curves, title=str(result["setting"]), x_label="epoch", y_label="test accuracy in percent")
        write_bytes(folder / "compare.svg", drawing.encode())
    return result


def _all(
    methods: Sequence[str], recipe: str, changes: Mapping[str, Any], seeds: Sequence[int]
) -> dict[tuple[str, int], Loaded]:
    """Every recipe, checked; with a clean set for all if one of them needs it."""
    from zoo.errors import UnknownName
    from zoo.training.names import training

    clean = {}
    problems = []
    for method in methods:
        try:
            if "meta_batch" in training(method).needs and "data.clean_per_class" not in changes:
                clean = {"data.clean_per_class": 10}
        except UnknownName as error:
            problems.append(f"--methods: {error}")
    if problems:
        raise RecipeError(problems)
    return {(m, s): load(recipe, {**changes, **clean, "method": m, "seed": s}) for m in methods for s in seeds}


def _figure(values: Sequence[float | None]) -> dict[str, float] | None:
    found = [v for v in values if v is not None]
    return mean_and_spread(found) if len(found) == len(values) else None


def _setting(loaded: Loaded) -> str:
    recipe = loaded.recipe
    noise = "labels as they are"
    if recipe.noise is not None:
        noise = f"{recipe.noise.name} {recipe.noise.key or f'{recipe.noise.rate:g}'}"
    where = recipe.data.path or recipe.data.name
    return f"{where}, {noise}, {recipe.model.name.rpartition(':')[2]}, {recipe.epochs} epochs"
