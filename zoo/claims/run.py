"""Run claim checks and record what was measured beside the catalog page."""

from __future__ import annotations

import importlib
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoo.claims import Outcome
from zoo.claims.data import MissingData
from zoo.errors import UnknownName, ZooError
from zoo.registry.files import write_atomic
from zoo.registry.lookup import registry
from zoo.registry.schema import Claim, ClaimRecord, Evidence, ParityRecord

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Ran:
    """One claim: its record, or why it was not run."""

    paper: str
    claim: Claim
    record: ClaimRecord | None
    why: str = ""


def environment() -> dict[str, Any]:
    """What a figure was measured in."""
    from importlib import metadata

    import torch

    import zoo

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "timm": metadata.version("timm"),
        "device": device,
        "threads": torch.get_num_threads(),
        "zoo": zoo.__version__,
    }


def load_check(check: str) -> Callable[[Sequence[int]], Outcome]:
    """The function behind ``zoo.claims.<category>.<paper>:<function>``."""
    module, _, name = check.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ZooError(f"claim check {check}: {error}") from error
    return function  # type: ignore[no-any-return]


def reproduce(
    name: str, *, claim: str | None = None, seeds: Sequence[int] = SEEDS, write: bool = True,
    on_start: Callable[[str, Claim], None] | None = None,
) -> list[Ran]:  # fmt: skip
    """Run the claims of a paper (or of a method's or model's papers) and, with ``write``, record them.

    Args:
        name: paper, method or model.
        claim: only the claim of this id.
        seeds: passed to every check.
        write: update ``<paper>.evidence.json``; claims that were not run keep their record.
        on_start: called before each check, for progress.

    Raises:
        UnknownName: no such claim.
        ZooError: a check that returns something else than an Outcome.
    """
    reg = registry()
    what, identity = reg.resolve(name)
    papers = reg.papers_of_model[identity] if what == "model" else [reg.resolve_paper(name)]
    claims = [(p, c) for p in papers for c in reg.paper(p).claims]
    if claim is not None:
        if claim not in {c.id for _, c in claims}:
            raise UnknownName(f"claim of {identity}", claim, [c.id for _, c in claims])
        claims = [(p, c) for p, c in claims if c.id == claim]
    results = []
    for paper, item in claims:
        if item.check is None:
            results.append(Ran(paper, item, None, "the catalog page names no check"))
            continue
        if on_start:
            on_start(paper, item)
        started = time.perf_counter()
        try:
            outcome = load_check(item.check)(tuple(seeds))
        except MissingData as error:
            results.append(Ran(paper, item, None, str(error)))
            continue
        if not isinstance(outcome, Outcome):
            raise ZooError(f"claim check {item.check} returned {type(outcome).__name__}, an Outcome is needed")
        record = ClaimRecord(
            statement=item.statement,
            setting=outcome.setting,
            reported=item.reported,
            measured=json.loads(json.dumps(outcome.measured)),
            tolerance=outcome.tolerance,
            status=outcome.status,
            seeds=tuple(seeds),
            date=datetime.now(UTC).date(),
            duration_s=round(time.perf_counter() - started, 1),
            environment=environment(),  # type: ignore[arg-type]
        )
        results.append(Ran(paper, item, record))
        if write:
            _update(paper, claims={item.id: record})
    return results


def write_parity(method: str, *, oracle: str, test: str, error: float, tolerance: float) -> Path:
    """Record a parity error that a test measured; the largest error of a method and test is kept within one run."""
    reg = registry()
    paper = reg.method(method).paper
    key = (method, test)
    error = max(error, _seen.get(key, 0.0))
    _seen[key] = error
    record = ParityRecord(
        method=method, oracle=oracle, test=test, error=error, tolerance=tolerance,
        date=datetime.now(UTC).date(), environment=environment(),  # type: ignore[arg-type]
    )  # fmt: skip
    name = method + "_" + "".join(c if c.isalnum() else "_" for c in test.rpartition("::")[2].lower()).strip("_")
    while "__" in name:
        name = name.replace("__", "_")
    return _update(paper, parity={name[:64].rstrip("_"): record})


_seen: dict[tuple[str, str], float] = {}


def _update(
    paper: str, *, claims: dict[str, ClaimRecord] | None = None, parity: dict[str, ParityRecord] | None = None
) -> Path:
    reg = registry()
    path = reg.page(paper).with_suffix(".evidence.json")
    if not os.access(path.parent, os.W_OK):
        raise ZooError(f"{path.parent} cannot be written; run it in a checkout, or with --no-write")
    old = reg.evidence(paper)
    known = {c.id for c in reg.paper(paper).claims}
    kept = {k: v for k, v in old.claims.items() if k in known}
    methods = set(reg.methods_of.get(paper, ()))
    new = Evidence(
        paper=paper,
        parity={k: v for k, v in {**old.parity, **(parity or {})}.items() if v.method in methods},
        claims={**kept, **(claims or {})},
    )
    text = json.dumps(new.model_dump(mode="json", exclude_none=True), indent=1, ensure_ascii=False, sort_keys=True)
    write_atomic(path, text + "\n")
    return path
