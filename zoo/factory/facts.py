"""What timm's tags cost and reach: parameters, MACs, published top-1. For the lock file; nothing is downloaded.

Parameters and MACs are counted on models without data (meta device), built as the tag says: its classes, its image size.
MACs are half the FLOPs that ``torch.utils.flop_counter`` counts for one input of the tag's ``input_size``: convolutions,
matrix products and attention; norms, activations, pooling and other elementwise work are not in it.

Top-1 is timm's own: the table ``results/results-imagenet.csv`` of its repository (ImageNet-1k validation set, 50,000
pictures, one size a tag). What is not in the table stays unknown.
"""

from __future__ import annotations

import csv
import hashlib
import io
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo.errors import WeightsError

COUNTS = ("params", "macs", "uncounted")
TOP1 = ("top1", "top1_size")
TABLE = "https://github.com/huggingface/pytorch-image-models/blob/{commit}/results/results-imagenet.csv"
#: Fields of timm's record that change the graph; tags that agree in them are counted once.
_GRAPH = ("architecture", "input_size", "fixed_input_size", "num_classes", "pool_size", "custom_load", "global_pool")


def count(tag: str) -> dict[str, Any]:
    """``params`` and ``macs`` of a tag; ``uncounted`` says why where the model does not run without data."""
    import timm
    import torch

    from zoo.factory.summary import cost

    size = tuple(_record(tag)["input_size"])
    found: dict[str, Any] = {}
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            model = timm.create_model(tag)
            found["params"] = sum(p.numel() for p in model.parameters())
            found["macs"] = cost(model, size)["macs"]
    except (RuntimeError, NotImplementedError, ValueError, TypeError, AssertionError, AttributeError) as error:
        found["uncounted"] = f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0][:120]}"
    return found


def graph_of(tag: str) -> tuple[str, ...]:
    """What the counts of a tag depend on; equal for tags of one architecture, size and number of classes."""
    record = _record(tag)
    return tuple(repr(record.get(field)) for field in _GRAPH)


def _record(tag: str) -> dict[str, Any]:
    from zoo.factory.timm_bridge import record_of

    cfg = record_of(tag)
    if cfg is None:
        import timm

        raise WeightsError(f"timm {timm.__version__} does not know the tag {tag!r}")
    found: dict[str, Any] = cfg.to_dict()
    return found


def count_all(
    tags: Iterable[str],
    known: Mapping[str, Mapping[str, Any]],
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, dict[str, Any]]:
    """Counts of every tag: those of ``known`` (tag to counts) as they are, the others by building, each graph once."""
    wanted = list(tags)
    by_graph: dict[tuple[str, ...], dict[str, Any]] = {}
    found = {tag: dict(known[tag]) for tag in wanted if known.get(tag)}
    missing = [tag for tag in wanted if tag not in found]
    if missing:
        for tag, counts in found.items():
            by_graph.setdefault(graph_of(tag), counts)
    for done, tag in enumerate(missing, 1):
        graph = graph_of(tag)
        if graph not in by_graph:
            by_graph[graph] = count(tag)
        found[tag] = dict(by_graph[graph])
        tell(done, len(missing))
    return found


def read_top1(path: Path, commit: str) -> tuple[dict[str, dict[int, float]], dict[str, str]]:
    """timm's table of results: ``({tag: {input size: top-1}}, where the figures come from)``.

    Args:
        path: ``results-imagenet.csv`` of a checkout of timm. It has a row a tag and size.
        commit: 40 hex digits of that checkout; it becomes a part of the address that is recorded.

    Raises:
        WeightsError: not that table, a figure that cannot be one, or two figures for the same size.
    """
    from zoo.hub.source import is_commit

    if not is_commit(commit):
        raise WeightsError(f"the commit of timm's table is 40 lower-case hex digits, received {commit!r}")
    data = path.read_bytes()
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8"))))
    if not rows or not {"model", "img_size", "top1"} <= rows[0].keys():
        raise WeightsError(f"{path} is not timm's results-imagenet.csv: columns model, img_size and top1 are needed")
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        try:
            top1, size = float(row["top1"]), int(row["img_size"])
        except (TypeError, ValueError):
            raise WeightsError(
                f"{path}: {row['model']} has no figure in {row['top1']!r}, {row['img_size']!r}"
            ) from None
        sizes = found.setdefault(row["model"], {})
        if not (0 < top1 <= 100 and 0 < size < 10_000) or sizes.get(size, top1) != top1:
            raise WeightsError(f"{path}: {row['model']} has top1 {top1} at {size}, or another figure for that size")
        sizes[size] = top1
    source = {
        "what": "top-1 accuracy in %, ImageNet-1k validation set, at top1_size: the tag's input size where the table has it",
        "source": TABLE.format(commit=commit),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return found, source


def top1_of(sizes: Mapping[int, float], input_size: int) -> dict[str, Any]:
    """``top1`` at the tag's own input size, or at the largest that the table has; with its ``top1_size``."""
    if not sizes:
        return {}
    size = input_size if input_size in sizes else max(sizes)
    return {"top1": sizes[size], "top1_size": size}
