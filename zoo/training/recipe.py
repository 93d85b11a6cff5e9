"""The recipe of a training run: a YAML file, validated in full before anything is loaded.

Every problem is reported as ``file:line: field: what, received, allowed, nearest``; a value from ``--set`` is reported
as ``--set``. A recipe is data: names are looked up in the registry, nothing in it is formatted, evaluated or imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError, model_validator

from zoo.errors import RegistryError, UnknownName, ZooError
from zoo.registry.files import PACKAGE
from zoo.registry.schema import Name, Record, Spec, Swap, Text, split_spec
from zoo.registry.yaml_io import line_of, parse, read_text

FOLDER = PACKAGE / "recipes"
Where = tuple[str | int, ...]


class RecipeError(RegistryError):
    """A recipe that is not valid, or does not fit its data; lists every problem found."""


class ModelPart(Record):
    """``zoo.create(name, **swaps, **args)``; the number of classes and input channels come from the data."""

    name: Annotated[str, StringConstraints(pattern=r"^([A-Za-z][\w.-]*|zoo\.models(\.\w+)*:\w+)$", max_length=120)]
    swaps: dict[Swap, Spec] = Field(default_factory=dict)
    args: dict[str, Any] = Field(default_factory=dict)


#: How the names of timm's ``create_dataset`` begin.
SOURCES = ("hfds", "hfids", "wds", "tfds", "torch")


def _is_source(path: Any) -> bool:
    return isinstance(path, str) and "/" in path and path.partition("/")[0] in SOURCES


class DataPart(Record):
    """What is trained on, and what is held out of it: test, clean meta set, noisy validation.

    Without ``name``, a path such as ``hfds/<owner>/<name>`` is one of timm's names, any other a folder.
    """

    name: Literal["digits", "mnist5k", "folder", "timm"]
    #: Of a folder: <path>/<class>/*, or <path>/train/<class>/* and <path>/test/<class>/*. Of timm: hfds/<owner>/<name>,
    #: hfids/<owner>/<name>, wds/<folder of the shards>, tfds/<name>, torch/<name>.
    path: Text | None = None
    root: Text | None = None  # of timm: the folder of torch/ and wds/, else of the cache
    split: Text = "train"  # of timm; for wds/ also shards: train-{0000..0003}.tar|400
    test_split: Text | None = None  # of timm; without it ``test`` samples of ``split`` are held out
    input_key: Text | None = None  # of timm: the column of images
    target_key: Text | None = None  # of timm: the column of labels
    num_classes: Annotated[int, Field(ge=2)] | None = None  # of a set that does not name its classes
    download: bool = False  # of torch/, hfids/ and tfds/: may timm fetch it?
    size: Annotated[int, Field(ge=4, le=1024)] | None = None  # side of the images of a path
    channels: Literal[1, 3] = 3  # of the images of a path
    per_class: Annotated[int, Field(ge=1)] | None = None  # only the first of every class of a path
    test: Annotated[int, Field(ge=1)] | None = None  # samples; of a folder that has test/: its first, as many a class
    validation: Annotated[float, Field(ge=0, le=0.5)] = 0.1  # share of the noisy training set
    clean_per_class: Annotated[int, Field(ge=0)] = 0  # clean samples held out for methods that need them
    long_tail: Annotated[float, Field(ge=1)] | None = None  # largest class over smallest
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    seed: int | None = None  # of every split; the recipe's by default

    @model_validator(mode="before")
    @classmethod
    def _by_path(cls, value: Any) -> Any:
        if isinstance(value, dict) and "name" not in value and isinstance(value.get("path"), str):
            return {"name": "timm" if _is_source(value["path"].strip()) else "folder", **value}
        return value

    @model_validator(mode="after")
    def _fits(self) -> DataPart:
        if (self.name in ("folder", "timm")) != (self.path is not None):
            raise ValueError("path goes with name: folder and name: timm, and both need a path")
        if self.path is None and not (self.size is None and self.per_class is None):
            raise ValueError("size and per_class go with a path")
        if self.name == "timm" and not _is_source(self.path):
            raise ValueError(f"name: timm takes a path that begins with {'/, '.join(SOURCES)}/; received {self.path!r}")
        given = self.model_fields_set & {
            "root",
            "split",
            "test_split",
            "input_key",
            "target_key",
            "num_classes",
            "download",
        }
        if self.name != "timm" and given:
            raise ValueError(f"{', '.join(sorted(given))}: only with name: timm")
        if self.test_split is not None and self.test is not None:
            raise ValueError("test_split names a split, test holds samples out of the training split: one of them")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std are given together")
        return self


class NoisePart(Record):
    """A generator of :mod:`zoo.training.noise` by its exact name, or ``cifar_n`` with a file of labels."""

    name: Name
    rate: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: int | None = None
    exact: bool = False
    path: Text | None = None  # of cifar_n: CIFAR-10_human.pt, CIFAR-100_human.pt
    key: Text | None = None  # of cifar_n: aggre_label, worse_label, random_label1, noisy_label, ...

    @model_validator(mode="after")
    def _fits(self) -> NoisePart:
        if self.name == "cifar_n":
            if self.path is None or self.key is None or self.rate is not None or self.exact or self.seed is not None:
                raise ValueError("cifar_n takes path and key, the file of labels and the set in it, and nothing else")
        elif self.rate is None or self.path is not None or self.key is not None:
            raise ValueError(f"{self.name} takes a rate; path and key go with cifar_n")
        return self


def _named(value: Any) -> Any:
    return ({"path": value} if _is_source(value) else {"name": value}) if isinstance(value, str) else value


#: Fields that joined after the first checkpoints were written, with their defaults.
LATER: dict[str, dict[str, Any]] = {
    "data": {
        "root": None, "split": "train", "test_split": None, "input_key": None, "target_key": None, "num_classes": None,
        "download": False,
    },
    "noise": {"path": None, "key": None},
}  # fmt: skip


class Recipe(Record):
    """One training run. ``batch`` is the global batch: any number of processes shares it, the learning rate stays."""

    summary: Text | None = None
    model: Annotated[ModelPart, BeforeValidator(_named)]
    data: Annotated[DataPart, BeforeValidator(_named)]
    noise: NoisePart | None = None
    method: Spec = "cross_entropy"  # an algorithm or a loss
    optimizer: Spec
    schedule: Spec = "constant"
    augment: tuple[Spec, ...] = ()
    epochs: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]
    clip: Annotated[float, Field(gt=0)] | None = None  # largest norm of the gradient
    decay_1d: bool = True  # weight decay on biases and gains too
    precision: Literal["float32", "bfloat16"] = "float32"
    parallel: Literal["ddp", "fsdp2"] = "ddp"
    checkpoint_steps: Annotated[int, Field(ge=1)] | None = None  # besides one an epoch
    seed: int = 0

    def digest(self) -> str:
        """Hash of what decides the numbers; layout and checkpoint interval do not."""
        values = self.model_dump(mode="json", exclude={"summary", "parallel", "checkpoint_steps"})
        for part, fields in LATER.items():  # a recipe that does not use them keeps its hash
            for key, default in fields.items():
                if values[part] is not None and values[part][key] == default:
                    del values[part][key]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Loaded:
    """A recipe and where its fields stand."""

    recipe: Recipe
    name: str
    text: str = ""
    shown: str = "recipe"
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def at(self, where: Where) -> str:
        """``file:line`` of a field, or the ``--set`` that gave it."""
        return _at(self.text, self.shown, self.overrides, where)

    def error(self, where: Where, message: str) -> RecipeError:
        return RecipeError([f"{self.at(where)}: {'.'.join(map(str, where))}: {message}"])


def _at(text: str, shown: str, overrides: Mapping[str, Any], where: Where) -> str:
    path = ".".join(map(str, where))
    for key, value in overrides.items():
        if path == key or path.startswith(key + ".") or key.startswith(path + "."):
            return f"--set {key}={value}"
    return f"{shown}:{line_of(text, where)}"


def bundled() -> dict[str, Path]:
    """The recipes that come with zoo, by name."""
    return {p.stem: p for p in sorted(FOLDER.glob("*.yaml"))}


def load(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | Sequence[str] = ()) -> Loaded:
    """Read and validate a recipe.

    Args:
        source: a file, the name of a bundled recipe, or the fields themselves.
        overrides: ``{"optimizer.sgd.lr": 0.1}`` or ``["optimizer.sgd.lr=0.1"]``; dots lead into the fields.

    Raises:
        UnknownName: neither a file nor a bundled recipe.
        RecipeError: every problem, with its line.
    """
    if isinstance(source, Mapping):
        import yaml

        name, shown, text = "recipe", "recipe", yaml.safe_dump(json.loads(json.dumps(source)), sort_keys=False)
    else:
        path = _find(str(source))
        name, shown, text = path.stem, str(source) if Path(source).suffix else path.name, read_text(path, str(source))
    try:
        data = parse(text, shown, exponents=True)
    except RegistryError as error:
        raise RecipeError(error.problems) from None
    if not isinstance(data, dict):
        raise RecipeError([f"{shown}:1: a recipe is a mapping of fields, received {type(data).__name__}"])
    changes = _pairs(overrides)
    for key, value in changes.items():
        _set(data, key, value)
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(dict.fromkeys(_lines(error, text, shown, changes))) from None
    loaded = Loaded(recipe, name, text, shown, changes)
    from zoo.training.names import problems

    found = [f"{loaded.at(where)}: {'.'.join(map(str, where))}: {message}" for where, message in problems(recipe)]
    if found:
        raise RecipeError(found)
    return loaded


def _find(source: str) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    known = bundled()
    if source in known:
        return known[source]
    hint = f"A recipe is a YAML file or one of: {', '.join(known)}."
    raise UnknownName("recipe", source, known, hint)


def _pairs(overrides: Mapping[str, Any] | Iterable[str]) -> dict[str, Any]:
    if isinstance(overrides, Mapping):
        return dict(overrides)
    found = {}
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise RecipeError([f"--set {item}: it takes field=value, for example optimizer.sgd.lr=0.1"])
        found[key] = parse(value, f"--set {item}", exponents=True)
    return found


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    here = data
    for i, part in enumerate(parents):
        inner = here.get(part)
        following = [*parents, last][i + 1]
        if isinstance(inner, str):  # a short form: "elr" stands for {"elr": {}}, a model's name for {"name": ...}
            inner = _named(inner) if part in ("model", "data") else {inner: {}} if inner == following else None
            if inner is None:
                raise RecipeError([f"--set {key}: {part} is {here[part]!r}, which has no {following!r}"])
        elif inner is None:
            inner = {}
        elif not isinstance(inner, dict):
            raise RecipeError([f"--set {key}: {part} is {inner!r}, which has no fields"])
        here[part] = inner
        here = inner
    here[last] = value


def _lines(error: ValidationError, text: str, shown: str, overrides: Mapping[str, Any]) -> list[str]:
    from zoo.registry.load import _UNION_TAGS, _explain

    lines = []
    for item in error.errors(include_url=False):
        where = tuple(s for s in item["loc"] if not (isinstance(s, str) and ("[" in s or s in _UNION_TAGS)))
        lines.append(f"{_at(text, shown, overrides, where)}: {'.'.join(map(str, where))}: {_explain(Recipe, item)}")
    return lines


def spec(value: Any) -> tuple[str, dict[str, Any]]:
    """``"elr"`` or ``{"elr": {"lam": 3}}`` as name and parameters."""
    try:
        return split_spec(value)
    except ValueError as error:
        raise ZooError(str(error)) from None
