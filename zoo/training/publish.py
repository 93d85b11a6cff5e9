"""From the folder of a training run to what is published: the network with its weights, and everything a card says.

Only what the run wrote is used, the data are not read. Paths of the machine stay on it: of a folder its name is told.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from zoo.errors import IntegrityError, LicenceError, UnknownName, WeightsError
from zoo.hub.card import Facts
from zoo.registry.licences import licence_class
from zoo.registry.schema import Checkpoint, Input
from zoo.training.publish_facts import (
    REPORT,
    WEIGHTS,
    as_yaml,
    build_code,
    how_trained,
    identity_of,
    metrics,
    portable_fields,
    records,
    sentence,
    trained_on,
)

if TYPE_CHECKING:
    from torch import Tensor, nn


def from_run(
    folder: str | Path, licence: str, weights: str = "last", *, name: str | None = None
) -> tuple[nn.Module, Facts]:
    """The trained network in evaluation mode, and what its card says.

    Args:
        folder: what ``zoo train RECIPE --out FOLDER`` wrote.
        licence: of the weights, as their owner states it.
        weights: ``last`` epoch, or ``best`` by the validation split.
        name: id of the model; default: the name of the recipe.

    Raises:
        LicenceError: no licence was stated.
        WeightsError: no finished run, no such weights, or weights of another run than the report's.
        RecipeError: the recipe in the report cannot be built any more.
    """
    import torch

    from zoo.training.build import make_model
    from zoo.training.recipe import load

    folder = Path(folder)
    if licence_class(licence) == "unknown":
        raise LicenceError(
            f"{folder}: whoever trained the weights states their licence, --licence apache-2.0 for example; received "
            f"{licence!r}. It is never guessed."
        )
    if weights not in WEIGHTS:
        raise UnknownName("weights of a run", weights, WEIGHTS, f"One of: {', '.join(WEIGHTS)}.")
    report = _report(folder)
    loaded = load(report["fields"])
    recipe = loaded.recipe
    blob, about, tensors = _tensors(folder, weights, report, recipe.digest())
    size = cast(tuple[int, int, int], tuple(report["input"]["size"]))
    part = recipe.model.model_copy(update={"args": {k: v for k, v in recipe.model.args.items() if k != "pretrained"}})
    bare = loaded.__class__(recipe.model_copy(update={"model": part}), loaded.name, loaded.text, str(folder / REPORT))
    with torch.random.fork_rng(devices=[]):
        model = make_model(bare, cast(Any, SimpleNamespace(shape=size, classes=report["classes"])), recipe.seed)
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise WeightsError(f"{folder / about['file']} does not fit the network of the recipe: {error}") from None
    identity = name or identity_of(report["recipe"])
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", identity) or len(identity) > 64:
        raise WeightsError(f"a model is named like my_digits: small letters, digits, single _; received {identity!r}")
    portable = portable_fields(report["fields"])
    checkpoint = Checkpoint(
        tag=weights,
        file=about["file"],
        sha256=hashlib.sha256(blob).hexdigest(),
        size=len(blob),
        licence=licence,
        input=Input(**report["input"]),
        classes=len(report["classes"]),
        trained_on=trained_on(recipe, report),
        metrics=metrics(recipe, report, weights),
        recipe=f"{report['recipe']} with seed {recipe.seed}, digest {recipe.digest()}",
    )
    backbone, swaps, papers, plain = records(recipe)
    from zoo.registry.cite import bibtex
    from zoo.registry.lookup import registry

    known = registry()
    facts = Facts(
        name=identity,
        checkpoint=checkpoint,
        papers=tuple(known.paper(p) for p in papers),
        bibtex=tuple(bibtex(known.raw.papers[p]) for p in papers),
        summary=" ".join(filter(None, (sentence(portable.get("summary")), how_trained(recipe, about["epoch"])))),
        architecture=recipe.model.name if plain else None,
        backbone=backbone,
        swaps=", ".join(f"{k}={v}" for k, v in swaps.items()),
        parameters=sum(p.numel() for p in model.parameters()),
        build=build_code(bare, portable, size, len(report["classes"])),
        recipe=as_yaml(portable),
        labels=tuple(report["classes"]),
    )
    return model.eval(), facts


# --------------------------------------------------------------------------- what the run wrote


def _report(folder: Path) -> dict[str, Any]:
    path = folder / REPORT
    if not path.is_file():
        raise WeightsError(f"{folder} has no {REPORT}: a run writes it when it is done, see zoo train --out")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        missing = [k for k in ("recipe", "fields", "last", "best", "noise", "samples") if k not in report]
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{path} is not the report of a run: {error}") from None
    if not isinstance(report, dict) or missing:
        raise WeightsError(f"{path} is not the report of a run: it lacks {', '.join(missing) or 'fields'}")
    if not {"classes", "input"} <= report.keys():
        raise WeightsError(
            f"{path} says neither classes nor input size: an older zoo wrote it. zoo train with the same recipe and "
            f"--out {folder} writes it anew, without training again"
        )
    return report


def _tensors(
    folder: Path, weights: str, report: Mapping[str, Any], digest: str
) -> tuple[bytes, dict[str, Any], dict[str, Tensor]]:
    """Bytes, record (file, epoch) and tensors of the weights, which must be those of the report."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load

    path = folder / f"{weights}.safetensors"
    if report[weights] is None:
        raise WeightsError(f"{folder} has no best epoch: the recipe holds out no validation split; take --weights last")
    if not path.is_file():
        raise WeightsError(f"{folder} has no {path.name}")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("zoo", "{}"))
        blob = path.read_bytes()
        tensors = load(blob)
    except (SafetensorError, ValueError) as error:
        raise IntegrityError(f"{path} is not a sound file of weights: {error}") from None
    wanted = {"digest": digest, "epoch": report[weights]["epoch"]}
    if {k: about.get(k) for k in wanted} != wanted:
        raise WeightsError(f"{path} belongs to another run than {REPORT} beside it: {about} instead of {wanted}")
    return blob, {"file": path.name, **wanted}, tensors
