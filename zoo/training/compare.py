"""Several methods under one protocol: the same network, data, noise, optimizer and order; only the method differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.claims import mean_and_spread
from zoo.errors import RegistryError, UnknownName, ZooError
from zoo.registry.yaml_io import parse, read_text
from zoo.training.chart import chart
from zoo.training.checkpoint import write_bytes
from zoo.training.names import training
from zoo.training.recipe import Loaded, RecipeError, _find, _is_source, _named, _pairs, _set, load

#: Names, or one name with its parameters each: ``["ce", {"gce": {"q": 0.5}}]``, ``{"ce": None, "gce": {"q": 0.5}}``.
Methods = Mapping[str, Mapping[str, Any] | None] | Sequence[str | Mapping[str, Any]]
#: What ends a run and leaves the others: zoo's own errors, arithmetic at infinite weights, memory that does not suffice.
FAILURES = (ZooError, ArithmeticError, ValueError, RuntimeError)


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
    data: str | None, recipe: str, noise: str | None, epochs: int | None, overrides: Mapping[str, Any] | Sequence[str]
) -> dict[str, Any]:
    """The fields that all methods share, as changes of the recipe.

    Raises:
        ZooError: data that are neither a name nor a folder, a noise that is not written ``name:rate``.
    """
    changes: dict[str, Any] = {}
    if data in ("digits", "mnist5k"):
        changes["data.name"] = data
    elif data is not None:
        if not _is_source(data) and not Path(data).expanduser().is_dir():
            raise ZooError(
                "data is digits, mnist5k, a folder with a folder of images for each class, or a name of timm's such as "
                f"hfds/<owner>/<name>; received {data!r}"
            )
        kind = "timm" if _is_source(data) else "folder"
        changes["data.path"] = data
        if _kind(recipe) != kind:  # else network, splits, sizes, statistics and noise are those of the recipe
            changes |= {"data.name": kind, "data.test": None}
            changes |= {"model.name": "zoo.models.resnet:resnet20", "model.args": {}, "noise": None}
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


def _kind(recipe: str) -> str | None:
    """``data.name`` of the recipe as it is written, before anything of it is checked."""
    fields = parse(read_text(_find(recipe), recipe), recipe)
    part = _named(fields.get("data")) if isinstance(fields, dict) else None
    if not isinstance(part, dict):
        return None
    path = part.get("path")
    return part.get("name") or (None if path is None else "timm" if _is_source(path) else "folder")


def compare(
    methods: Methods,
    *,
    data: str | None = None,
    recipe: str = "digits_compare",
    noise: str | None = None,
    seeds: Sequence[int] = (0,),
    epochs: int | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    out: str | Path | None = None,
    device: str | None = None,
    show: bool = False,
) -> dict[str, Any]:
    """Train every method with every seed and gather the figures.

    Before the first training every recipe is checked, and every method is built once on the data, with network, optimizer
    and schedule. A run that fails later, of a loss that is not finite for example, is recorded and the others go on.

    Args:
        methods: names of losses and algorithms, each once and with its parameters where it is not to take its defaults:
            ``["ce", {"co_teaching": {"forget_rate": 0.4}}]``; ``ce`` is cross-entropy. Parameters are JSON types or
            tensors. One that needs a clean set gets 10 samples of each class held out, unless ``data.clean_per_class``
            says how many, and so does every other, that all train on the same samples.
        data: ``digits``, ``mnist5k``, a folder, or a name of timm's (``hfds/<owner>/<name>``); None: those of the recipe.
        recipe: whose optimizer, schedule, epochs and batch are taken, and whose network and noise, except where ``data``
            is a folder or a name of timm's and the recipe is about something else: then the network is ``resnet20``, and
            labels stay as they are unless ``noise`` is given. Of a recipe about a folder (or timm's names) every field of
            ``data`` but the path holds for another folder (or name) too.
        noise: ``name:rate``, or ``none``.
        seeds: of noise, splits, network and order, each once.
        epochs: instead of the recipe's.
        overrides: see :func:`zoo.training.recipe.load`; ``method.co_teaching.forget_rate`` changes a parameter of that one
            of the ``methods``.
        out: folder for ``compare.json`` and ``compare.svg``, written anew after every run; None writes nothing.
        device: see :func:`zoo.training.engine.train`.
        show: a progress bar for each run.

    Returns:
        ``setting``, ``seeds``, ``rows`` (one a method: ``method``, ``parameters``, ``seeds`` that finished, ``last``,
        ``best``, ``memorised``, ``suspects``, ``seconds`` as mean and spread over those, None where there is nothing to
        say, and ``errors``, a list of ``seed`` and ``error``), ``curves`` (test accuracy by epoch, mean over the seeds that
        finished; without the methods of which none did).

    Raises:
        RecipeError: methods, parameters or fields that are not valid, a network or method that cannot be built.
        ZooError: no method or seed, one twice, data or device that are not there.
    """
    from zoo.training.engine import train

    if not methods or not seeds:
        raise ZooError("compare needs at least one method and one seed")
    if twice := sorted({s for s in seeds if list(seeds).count(s) > 1}):
        raise ZooError(f"each seed is given once, received {', '.join(map(str, twice))} more than once")
    specs = _specs(methods)
    changes = _take(protocol(data, recipe, noise, epochs, overrides), specs)
    loaded = _recipes(specs, recipe, changes, seeds)
    _build([loaded[name, seeds[0]] for name in specs], device)
    folder = None if out is None else _folder(Path(out))
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {
        "setting": _setting(loaded[next(iter(specs)), seeds[0]]),
        "seeds": list(seeds),
        "rows": rows,
        "curves": {},
    }
    for name, parameters in specs.items():
        reports: dict[int, dict[str, Any]] = {}
        histories: list[list[float]] = []
        errors: list[dict[str, Any]] = []
        rows.append({})
        for seed in seeds:
            try:
                done = train(loaded[name, seed], device=device, show=show)
            except FAILURES as error:
                errors.append({"seed": seed, "error": _said(error)})
            else:
                reports[seed] = done.report
                histories.append([row["test"] for row in done.history])
                result["curves"][name] = [round(sum(v) / len(v), 4) for v in zip(*histories, strict=True)]
            rows[-1] = {"method": name, "parameters": parameters, **_figures(reports), "errors": errors}
            if folder is not None:
                _write(folder, result)
    return result


def _specs(methods: Methods) -> dict[str, dict[str, Any]]:
    """Parameters by the name that was given, in order.

    Raises:
        RecipeError: every name that nothing carries or that stands for a method named before.
    """
    given = [{k: v} for k, v in methods.items()] if isinstance(methods, Mapping) else list(methods)
    found: dict[str, dict[str, Any]] = {}
    first: dict[str, str] = {}
    problems = []
    for value in given:
        try:
            method = training(dict(value) if isinstance(value, Mapping) else value)
        except ZooError as error:
            problems.append(f"--methods: {error}")
            continue
        identity = _identity(method.name)
        if identity in first:
            same = "" if first[identity] == method.name else f" (as {first[identity]!r})"
            problems.append(f"--methods: {method.name!r} is given twice{same}; each method is compared once")
            continue
        first[identity] = method.name
        found[method.name] = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in method.parameters.items()}
        try:
            json.dumps(found[method.name])
        except (TypeError, ValueError) as error:
            problems.append(f"--methods: parameters of {method.name} are JSON types or tensors: {error}")
    if problems:
        raise RecipeError(problems)
    return found


def _identity(name: str) -> str:
    """One text for all the names of a method; of an unknown one its name."""
    try:
        method = training(name).method
    except UnknownName:
        return name
    return "cross_entropy" if method is None else method.id


def _take(changes: dict[str, Any], specs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Put ``method.<name>.<parameter>`` into ``specs``; the other changes are left.

    Raises:
        RecipeError: a method that is not compared, or no parameter.
    """
    names = {_identity(name): name for name in specs}
    left, problems = {}, []
    for key, value in changes.items():
        head, _, rest = key.partition(".")
        if head != "method":
            left[key] = value
            continue
        name, _, parameter = rest.partition(".")
        if not parameter:
            problems.append(
                f"--set {key}={value}: --methods says which methods are compared; method.<name>.<parameter>=<value> changes "
                "a parameter of one"
            )
        elif _identity(name) not in names:
            unknown = UnknownName("method of this comparison", name, specs, f"--methods has: {', '.join(specs)}.")
            problems.append(f"--set {key}={value}: {unknown}")
        else:
            _set(specs, f"{names[_identity(name)]}.{parameter}", value)
    if problems:
        raise RecipeError(problems)
    return left


def _recipes(
    specs: Mapping[str, Mapping[str, Any]], recipe: str, changes: Mapping[str, Any], seeds: Sequence[int]
) -> dict[tuple[str, int], Loaded]:
    """Every recipe, checked; with a clean set for all if one of them needs it.

    Raises:
        RecipeError: every problem of all of them.
    """
    clean = {}
    if any("meta_batch" in training(name).needs for name in specs) and "data.clean_per_class" not in changes:
        plain = load(recipe, {**changes, "method": "cross_entropy"})
        clean = {} if plain.recipe.data.clean_per_class else {"data.clean_per_class": 10}
    found, problems = {}, []
    for name, parameters in specs.items():
        own = {"method": name, **{f"method.{name}.{key}": value for key, value in parameters.items()}}
        for seed in seeds:
            try:
                found[name, seed] = load(recipe, {**changes, **clean, **own, "seed": seed})
            except RecipeError as error:
                problems += error.problems
    if problems:
        raise RecipeError(dict.fromkeys(problems))
    return found


def _build(every: Sequence[Loaded], device: str | None) -> None:
    """Build what each method trains, on the data that all share: what can be refused is refused before the first training.

    Raises:
        RecipeError: every problem that networks, methods, optimizers, schedules and batches have.
        ZooError: data or device that are not there.
    """
    from zoo.training.build import make_algorithm, make_optimizer, make_schedule
    from zoo.training.data import load_data
    from zoo.training.distributed import world

    with world(device):
        pass
    data = load_data(every[0])
    samples, classes = len(data.train), len(data.train.labels.unique())
    problems: list[str] = []
    for loaded in every:
        batch = loaded.recipe.batch
        try:
            if batch > samples:
                raise loaded.error(("batch",), f"{batch} is more than the {samples} training samples that are left")
            algorithm = make_algorithm(loaded, data)
            size = getattr(algorithm, "per_class", None)
            if size is not None and (batch % size or batch // size > classes):
                raise loaded.error(
                    ("batch",),
                    f"{training(loaded.recipe.method).name} takes groups of {size} samples, each of another of the "
                    f"{classes} classes: a multiple of {size}, at most {size * classes}; received {batch}",
                )
            make_schedule(loaded, make_optimizer(loaded, algorithm), samples // batch)
        except RegistryError as error:
            problems += error.problems
        except ZooError as error:
            problems.append(f"--methods: {training(loaded.recipe.method).name}: {error}")
    if problems:
        raise RecipeError(dict.fromkeys(problems))


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZooError(f"{out} cannot be the folder of the results: {error.strerror}") from None
    return out


def _write(folder: Path, result: Mapping[str, Any]) -> None:
    write_bytes(folder / "compare.json", (json.dumps(result, indent=2) + "\n").encode())
    if not result["curves"]:
        (folder / "compare.svg").unlink(missing_ok=True)  # of a comparison before this one
        return
    title = str(result["setting"])
    drawing = chart(result["curves"], title=title, x_label="epoch", y_label="test accuracy in percent")
    write_bytes(folder / "compare.svg", drawing.encode())


def _said(error: Exception) -> str:
    if isinstance(error, RegistryError):
        return "; ".join(error.problems)
    return str(error) if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"


def _figures(reports: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    found = reports.values()
    return {
        "seeds": list(reports),
        "last": _figure(r["last"]["test"] for r in found),
        "best": _figure(r["best"] and r["best"]["test"] for r in found),
        "memorised": _figure(r["noise"]["memorised"] for r in found),
        "suspects": _figure(r["suspects"] and r["suspects"]["precision"] for r in found),
        "seconds": _figure(r["seconds"] for r in found),
    }


def _figure(values: Iterable[float | None]) -> dict[str, float] | None:
    given = list(values)
    found = [v for v in given if v is not None]
    return mean_and_spread(found) if found and len(found) == len(given) else None


def _setting(loaded: Loaded) -> str:
    recipe = loaded.recipe
    noise = "labels as they are"
    if recipe.noise is not None:
        noise = f"{recipe.noise.name} {recipe.noise.key or f'{recipe.noise.rate:g}'}"
    where = recipe.data.path or recipe.data.name
    return f"{where}, {noise}, {recipe.model.name.rpartition(':')[2]}, {recipe.epochs} epochs"
