"""The shape of every record: papers (catalog front matter), methods, models, checkpoints.

Unknown keys are refused everywhere and records are frozen. Text that comes from the outside is
data only: nothing in a record is ever formatted, evaluated or imported, except ``target`` and
``check``, whose patterns are closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

CATEGORIES = (
    "normalization", "weights", "pooling", "convolution", "upsampling", "activations", "backward",
    "optimizers", "schedules", "augmentation", "noisy_labels", "losses", "long_tail", "distillation",
    "ensembles", "memory", "metric_learning", "generative",
)  # fmt: skip
KINDS = (
    "norm", "activation", "conv", "linear", "rnn", "pool", "block", "upsample", "reparametrisation", "projection",
    "optimizer", "schedule", "loss", "regularizer", "algorithm", "sampler", "augmentation", "autograd",
    "flow", "model", "dataset", "study",
)  # fmt: skip
#: Kinds that `create(..., norm=, act=, conv=, pool=)` and `swap` put into a backbone.
SWAPPABLE = {"norm": "norm", "act": "activation", "conv": "conv", "pool": "pool"}
LAYOUTS = ("2d", "1d", "3d", "channels_last")
RELATIONS = ("special_case_of", "generalises", "combines_with", "compared_with", "superseded_by")
TARGET_ROOTS = (
    "zoo", "torch.nn", "torch.optim", "timm.layers", "timm.optim", "timm.task", "torchvision.transforms",
)  # fmt: skip

Category = Literal[CATEGORIES]  # type: ignore[valid-type]
Kind = Literal[KINDS]  # type: ignore[valid-type]
Layout = Literal[LAYOUTS]  # type: ignore[valid-type]
Relation = Literal[RELATIONS]  # type: ignore[valid-type]
Swap = Literal["norm", "act", "conv", "pool"]

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$", max_length=64)]
Alias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=2, max_length=80)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
RepoId = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=96)
]
ArxivId = Annotated[str, StringConstraints(pattern=r"^(\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7})$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s<>\"']+$", max_length=500)]
Scalar = str | int | float | bool | None


_extra_roots: ContextVar[tuple[str, ...]] = ContextVar("extra_roots", default=())


@contextmanager
def allow_target_roots(packages: tuple[str, ...]) -> Iterator[None]:
    """While open, targets may also point into ``packages``: those that the user named by their entry points."""
    token = _extra_roots.set(packages)
    try:
        yield
    finally:
        _extra_roots.reset(token)


def _target(value: str) -> str:
    match = re.fullmatch(r"([A-Za-z_][\w]*(?:\.[A-Za-z_][\w]*)*):([A-Za-z_][\w]*)", value)
    if not match:
        raise ValueError("a target is written 'package.module:Attribute'")
    module = match[1]
    roots = (*TARGET_ROOTS, *_extra_roots.get())
    if not any(module == root or module.startswith(root + ".") for root in roots):
        raise ValueError(f"a target may only point into {', '.join(roots)}")
    if any(part.startswith("_") for part in value.replace(":", ".").split(".")):
        raise ValueError("a target may not point at a private name")
    return value


def _check(value: str) -> str:
    if not re.fullmatch(r"zoo\.claims(\.[a-z]\w*)+:[a-z]\w*", value):
        raise ValueError("a check is written 'zoo.claims.<category>.<paper>:<function>'")
    return value


def _safe_file(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*", value) or ".." in value:
        raise ValueError("a file name is relative, without '..', backslash or drive")
    if not value.endswith(".safetensors"):
        raise ValueError("weights are .safetensors files; zoo convert makes one from others")
    return value


Target = Annotated[str, AfterValidator(_target)]
Check = Annotated[str, AfterValidator(_check)]
WeightsFile = Annotated[str, AfterValidator(_safe_file)]


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


# --------------------------------------------------------------------------- papers (catalog pages)


class OfficialCode(Record):
    """A repository that the notes were read against. ``licence: none`` means that it states none."""

    repo: Text
    licence: Text = "unknown"
    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{7,40}$")] | None = None
    by: Literal["authors", "third party"] = "authors"


class Default(Record):
    """One row of the defaults table. What zoo uses is read off the implementation, so it is not written here."""

    name: Text
    paper: Scalar = None
    code: Scalar = None
    source: Text | None = None


class Number(Record):
    """A figure that the paper reports: one metric, with where it stands."""

    metric: Text
    value: float | Text
    unit: str = ""
    dataset: Text
    setting: Text
    source: Text


class Reported(Record):
    value: float | Text | None = None
    unit: str = ""
    setting: Text
    source: Text


class Claim(Record):
    """A statement of the paper that can be measured. Without ``check`` its status is *not run*."""

    id: Name
    statement: Text
    reported: Reported | None = None
    check: Check | None = None


class Paper(Record):
    """Front matter of ``catalog/<category>/<id>.md``."""

    id: Name
    category: Category
    title: Text
    authors: Annotated[tuple[Text, ...], Field(min_length=1)]
    venue: Text
    published_as: Literal["conference", "journal", "preprint", "workshop", "report", "chapter"] = "conference"
    year: Annotated[int, Field(ge=1900, le=2100)]
    arxiv: ArxivId | None = None
    doi: Annotated[str, StringConstraints(pattern=r"^10\.\d{4,9}/\S+$")] | None = None
    url: Url | None = None
    code: tuple[OfficialCode, ...] = ()
    summary: Text
    aliases: tuple[Alias, ...] = ()
    tags: tuple[Name, ...] = ()
    relations: dict[Relation, dict[Name, Text]] = {}
    defaults: tuple[Default, ...] = ()
    numbers: tuple[Number, ...] = ()
    claims: tuple[Claim, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Paper:
        if not (self.arxiv or self.doi or self.url):
            raise ValueError("a paper needs one of arxiv, doi, url")
        if self.venue.casefold() == "arxiv" and self.published_as != "preprint":
            raise ValueError("venue arXiv goes with published_as: preprint")
        ids = [c.id for c in self.claims]
        if len(set(ids)) != len(ids):
            raise ValueError("claim ids of one paper must differ")
        return self


# --------------------------------------------------------------------------- methods


class Parity(Record):
    """Independent evidence that the implementation is right, and the test that holds it."""

    oracle: Text
    test: Annotated[str, StringConstraints(pattern=r"^tests/[\w/]+\.py::\w+(::\w+)?$")]
    tolerance: Annotated[float, Field(ge=0)]


class Preset(Record):
    """Hyperparameters of one setting of the paper, with where they stand."""

    values: dict[str, Any]
    source: Text


class Weights(Record):
    """timm tags that realise a method, by pattern; resolved into the lock through timm's own records."""

    timm: tuple[Text, ...] = ()
    exclude: tuple[Text, ...] = ()
    why: Text


class Method(Record):
    """An implementation of a paper, reachable as ``zoo.create(id, ...)``."""

    id: Name
    paper: Name
    kind: Kind
    target: Target
    variants: dict[Layout, Target] = {}
    defaults: dict[str, Any] = {}
    summary: Text | None = None
    aliases: tuple[Alias, ...] = ()
    needs: tuple[
        Name, ...
    ] = ()  # what an algorithm or layer must be given: channels, index, meta_batch, peer, epoch, ...
    requires: tuple[Text, ...] = ()
    conflicts: dict[Name, Text] = {}
    faithful_to: Literal["paper", "official_code", "both"] = "paper"
    deviations: tuple[Text, ...] = ()
    presets: dict[Name, Preset] = {}
    parity: Parity | None = None
    shard_safe: bool | None = None
    weights: Weights | None = None

    @property
    def backing(self) -> str:
        """The library that the implementation comes from: ``zoo``, ``torch``, ``timm`` or ``torchvision``."""
        return self.target.split(".")[0].split(":")[0]


# --------------------------------------------------------------------------- models and checkpoints


class Input(Record):
    """Preprocessing that the weights expect: ``size`` is (C, H, W)."""

    size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bilinear"
    crop_pct: Annotated[float, Field(gt=0, le=1.2)] = 1.0


class Metric(Record):
    name: Text
    value: float
    unit: str = ""
    dataset: Text
    protocol: Text
    source: Text


class Checkpoint(Record):
    """One safetensors file, bundled with the package or on the Hub."""

    tag: Name
    repo: RepoId | None = None  # None: bundled with the package
    file: WeightsFile
    commit: Commit | None = None
    sha256: Sha256 | None = None
    size: Annotated[int, Field(gt=0, le=64 * 2**30)] | None = None
    licence: Text
    input: Input | None = None
    classes: Annotated[int, Field(ge=0)] | None = None
    trained_on: Text
    metrics: tuple[Metric, ...] = ()
    recipe: Text | None = None
    converted_from: Text | None = None
    gated: bool = False

    @model_validator(mode="after")
    def _pinned_if_bundled(self) -> Checkpoint:
        if self.repo is None and (self.sha256 is None or self.size is None):
            raise ValueError("a bundled checkpoint states its sha256 and size")
        return self


TimmTag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+\.[A-Za-z0-9_]+$", max_length=120)]


class Checkpoints(Record):
    timm: tuple[TimmTag, ...] = ()
    hub: tuple[Checkpoint, ...] = ()
    bundled: tuple[Checkpoint, ...] = ()


Spec = Name | dict[Name, dict[str, Any]]


def split_spec(spec: Any) -> tuple[str, dict[str, Any]]:
    """The one form of a method with parameters: ``"group_norm"`` or ``{"group_norm": {"num_groups": 8}}``."""
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, dict) and len(spec) == 1:
        name, parameters = next(iter(spec.items()))
        if isinstance(name, str) and (parameters is None or isinstance(parameters, dict)):
            return name, dict(parameters or {})
    raise ValueError(
        f"a method is given as a name ('group_norm') or as one name with its parameters "
        f"({{'group_norm': {{'num_groups': 8}}}}); received {spec!r}"
    )


class Model(Record):
    """A backbone with the methods of some papers in it."""

    id: Name
    backbone: Annotated[str, StringConstraints(pattern=r"^([a-z][a-z0-9_]*|zoo\.models(\.\w+)*:\w+)$")]
    swaps: dict[Swap, Spec] = {}
    args: dict[str, Any] = {}
    papers: tuple[Name, ...] = ()  # besides those of the swapped methods
    aliases: tuple[Alias, ...] = ()
    summary: Text | None = None
    recipe: Text | None = None
    checkpoints: Checkpoints = Checkpoints()

    @model_validator(mode="after")
    def _says_whose(self) -> Model:
        if not self.swaps and not self.papers:
            raise ValueError("a model names the papers it realises, by its swaps or under papers")
        tags = [c.tag for c in (*self.checkpoints.hub, *self.checkpoints.bundled)]
        tags += [t.split(".", 1)[1] for t in self.checkpoints.timm]
        if len(set(tags)) != len(tags):
            raise ValueError("checkpoint tags of one model must differ")
        return self


class RegistryFile(Record):
    """``registry.yaml``: what people declare. Ids are the keys, so records are without them here."""

    methods: dict[Name, dict[str, Any]] = {}
    models: dict[Name, dict[str, Any]] = {}


# --------------------------------------------------------------------------- evidence


class Environment(Record):
    python: str
    platform: str
    torch: str
    timm: str
    device: str
    threads: int
    zoo: str


class ParityRecord(Record):
    method: Name
    oracle: Text
    test: Text
    error: float
    tolerance: float
    date: date
    environment: Environment


class ClaimRecord(Record):
    statement: Text
    setting: Text
    reported: Reported | None = None
    measured: dict[str, Any]
    tolerance: Text
    status: Literal["reproduced", "partly", "refuted"]
    seeds: tuple[int, ...]
    date: date
    duration_s: float
    environment: Environment


class Evidence(Record):
    """``catalog/<category>/<id>.evidence.json``: written by ``zoo reproduce`` and the parity tests, never by hand."""

    paper: Name
    parity: dict[Name, ParityRecord] = {}
    claims: dict[Name, ClaimRecord] = {}

    @property
    def status(self) -> str:
        """Worst news first: ``refuted``, ``partly``, ``reproduced``, or ``not run``."""
        found = {c.status for c in self.claims.values()}
        return next((s for s in ("refuted", "partly", "reproduced") if s in found), "not run")
