"""The model card of published weights, from records only: what is not known is not said, a licence is never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import LicenceError
from zoo.registry.licences import licence_class

if TYPE_CHECKING:
    from zoo.registry.schema import Checkpoint, Model, Paper

#: Identifiers that the Hub knows; any other licence is published as `other` with its name.
_HUB_LICENCES = {
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "isc", "unlicense", "bsl-1.0", "gpl-3.0", "lgpl-3.0", "openrail",
}  # fmt: skip
#: Ends the protocol of a figure that stands on the card for comparison only.
OTHER = "not these weights"


@dataclass(frozen=True)
class Facts:
    """Everything that a card says.

    Args:
        name: model id in the registry.
        architecture: plain timm architecture with these very keys, so that timm loads the repository alone; or None.
        zoo_commit: commit of zoo that published.
        build: Python that makes ``model`` without weights, for a network that is no model of the registry; or nothing.
        recipe: the recipe of the run as YAML, or nothing.
        labels: names of the classes, or nothing.
    """

    name: str
    checkpoint: Checkpoint
    papers: tuple[Paper, ...]
    bibtex: tuple[str, ...] = ()
    summary: str = ""
    architecture: str | None = None
    backbone: str = ""
    swaps: str = ""
    zoo_commit: str = "unknown"
    parameters: int = 0
    task: str = "image-classification"
    build: str = ""
    recipe: str = ""
    labels: tuple[str, ...] = ()

    @classmethod
    def from_records(
        cls, model: Model, checkpoint: Checkpoint, papers: tuple[Paper, ...], bibtex: tuple[str, ...], **rest: Any
    ) -> Facts:
        """From the registry's records of a model, one of its checkpoints, and the papers that it realises."""
        swaps = ", ".join(f"{k}={v}" for k, v in model.swaps.items())
        return cls(
            name=model.id,
            checkpoint=checkpoint,
            papers=papers,
            bibtex=bibtex,
            summary=model.summary or "",
            backbone=model.backbone,
            swaps=swaps,
            **rest,
        )


def metadata(facts: Facts, repo: str) -> dict[str, Any]:
    """The YAML block of the card, ``model-index`` included.

    Raises:
        LicenceError: the licence of the weights is unknown.
    """
    from huggingface_hub import EvalResult, ModelCardData

    checkpoint = facts.checkpoint
    if licence_class(checkpoint.licence) == "unknown":
        raise LicenceError(
            f"{facts.name} ({checkpoint.tag}): the licence of the weights is {checkpoint.licence!r}. State it in the "
            f"registry before publishing; it is never guessed."
        )
    known = checkpoint.licence.casefold() in _HUB_LICENCES
    results = [
        EvalResult(
            task_type=facts.task,
            dataset_type=m.dataset.casefold().replace(" ", "-"),
            dataset_name=m.dataset,
            metric_type=m.name.casefold().replace(" ", "_"),
            metric_name=m.name,
            metric_value=m.value,
            source_name=m.source if m.source.startswith("https://") else None,  # the Hub wants an address with it
            source_url=m.source if m.source.startswith("https://") else None,
        )
        for m in checkpoint.metrics
        if not m.protocol.endswith(OTHER)  # a table of results that is read by machines would take them for these
    ]
    data = ModelCardData(
        license=checkpoint.licence.casefold() if known else "other",
        license_name=None if known else checkpoint.licence,
        library_name="timm" if facts.architecture else "paperzoo",
        pipeline_tag=facts.task,
        tags=[
            "paperzoo",
            *(["timm"] if facts.architecture else []),
            *(f"arxiv:{p.arxiv}" for p in facts.papers if p.arxiv),
        ],
        datasets=[checkpoint.trained_on] if _is_dataset(checkpoint.trained_on) else None,
        model_name=repo.partition("/")[2] if results else None,
        eval_results=results or None,
    )
    found: dict[str, Any] = data.to_dict()
    return found


def _is_dataset(name: str) -> bool:
    """Whether ``name`` could be an identifier on the Hub; free text is told in the body only."""
    return all(c.isascii() and (c.isalnum() or c in "-_./") for c in name)


def render(facts: Facts, repo: str) -> str:
    """The whole card, front matter and Markdown.

    Raises:
        LicenceError: the licence of the weights is unknown.
    """
    import yaml

    c = facts.checkpoint
    lines = ["---", yaml.safe_dump(metadata(facts, repo), sort_keys=False, allow_unicode=True).strip(), "---", ""]
    lines += [f"# {facts.name} ({c.tag})", ""]
    if facts.summary:
        lines += [_text(facts.summary), ""]
    lines += ["## Use", "", "```python"]
    if facts.build:
        lines += [
            "from huggingface_hub import hf_hub_download",
            "from safetensors.torch import load_file",
            "",
            facts.build,
        ]
        lines += [f'model.load_state_dict(load_file(hf_hub_download("{repo}", "model.safetensors")))', "model.eval()"]
    else:
        lines += ["import zoo", f'model = zoo.create("{facts.name}", pretrained="{c.tag}")']
    lines += ["```", ""]
    if facts.architecture:
        lines += ["or with timm alone:", "", "```python", "import timm"]
        lines += [f'model = timm.create_model("hf-hub:{repo}", pretrained=True)', "```", ""]
    else:
        lines += ["The architecture is not one of timm's, so timm alone cannot build it.", ""]
    rows: list[tuple[str, object]] = [
            ("backbone", facts.backbone), ("methods", facts.swaps), ("parameters", f"{facts.parameters:,}"),
            ("classes", c.classes), ("trained on", c.trained_on), ("licence of the weights", c.licence),
            ("recipe", c.recipe), ("converted from", c.converted_from), ("zoo", facts.zoo_commit)]  # fmt: skip
    if c.input is not None:
        i = c.input
        rows += [("input", " x ".join(map(str, i.size))), ("mean", list(i.mean)), ("std", list(i.std)),
                 ("interpolation", i.interpolation), ("crop", i.crop_pct)]  # fmt: skip
    lines += ["## Facts", "", "| | |", "|---|---|"]
    lines += [f"| {k} | {_cell(v)} |" for k, v in rows if v not in (None, "", "0")] + [""]
    if licence_class(c.licence) == "non-commercial":
        lines += ["**These weights may not be used commercially.**", ""]
    if c.metrics:
        lines += ["## Measured", "", "| metric | value | data | protocol | source |", "|---|---|---|---|---|"]
        for m in c.metrics:
            value = f"{m.value:g} {m.unit}".strip()
            lines.append(
                f"| {_cell(m.name)} | {value} | {_cell(m.dataset)} | {_cell(m.protocol)} | {_cell(m.source)} |"
            )
        lines.append("")
    if facts.recipe:
        lines += [
            "## Recipe",
            "",
            "For `zoo train`:",
            "",
            "```yaml",
            facts.recipe.strip().replace("```", ""),
            "```",
            "",
        ]
    lines += ["`test/vectors.safetensors` holds an input and the output for it; `zoo verify` replays them.", ""]
    if facts.papers:
        lines += ["## Papers", ""]
        for p in facts.papers:
            where = f"arXiv:{p.arxiv}" if p.arxiv else (p.doi or p.url or "")
            lines.append(f"- {_text(', '.join(p.authors))}: *{_text(p.title)}*. {_text(p.venue)} {p.year}. {where}")
        lines.append("")
    for entry in facts.bibtex:
        lines += ["```bibtex", entry.strip().replace("```", ""), "```", ""]
    return "\n".join(lines)


def _text(value: object) -> str:
    """Records are data: no HTML comes through, no line starts something of its own."""
    return " ".join(str(value).replace("&", "&amp;").replace("<", "&lt;").split())


def _cell(value: object) -> str:
    return _text(value).replace("|", "\\|")
