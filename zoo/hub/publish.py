"""Weights back to the Hub: a folder that can be looked at first, then one commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import HubError, IntegrityError, WeightsError
from zoo.hub import settings, vectors
from zoo.hub.card import Facts, render
from zoo.hub.source import Source

if TYPE_CHECKING:
    from torch import nn

WEIGHTS, CONFIG, CARD, VECTORS = "model.safetensors", "config.json", "README.md", vectors.FILE


@dataclass(frozen=True, slots=True)
class Bundle:
    """What would be published: files on this machine, and the pins that they will have."""

    folder: Path
    repo: str
    files: tuple[str, ...]
    sha256: str
    size: int

    def __str__(self) -> str:
        sizes = [f"  {f:28s} {(self.folder / f).stat().st_size:>12,} bytes" for f in self.files]
        return "\n".join([f"{self.repo} (from {self.folder})", *sizes, f"  sha256 of {WEIGHTS}: {self.sha256}"])


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection of the Hub and what belongs into it: ``("paper", arxiv id)`` or ``("model", repo)``."""

    title: str
    namespace: str
    items: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"collection {self.title!r} of {self.namespace}: " + ", ".join(f"{kind} {i}" for kind, i in self.items)


def prepare(model: nn.Module, facts: Facts, repo: str, folder: Path) -> Bundle:
    """Write weights, config, card and test vectors into ``folder``. Nothing is sent.

    Where ``facts.architecture`` is plain timm, its keys are checked against timm's own model, and timm loads the
    repository by ``hf-hub:``.

    Raises:
        LicenceError: unknown licence of the weights.
        WeightsError: said to be plain timm, but the keys or the output say otherwise; no input size declared.
    """
    from safetensors.torch import save

    Source(facts.name, facts.checkpoint.tag, repo, WEIGHTS)  # refuses a bad name before anything is written
    card = render(facts, repo)
    declared = facts.checkpoint.input
    if declared is None and not hasattr(model, "sample_inputs"):
        raise WeightsError(f"{facts.name}: the checkpoint declares no input, so nobody could use the weights rightly")
    known = vectors.make(model, declared.size if declared else None)
    state = {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}
    config = _config(model, facts)
    if facts.architecture:
        _check_plain(facts, config, state, known)
    (folder / "test").mkdir(parents=True, exist_ok=True)
    data = save(state, metadata={"format": "pt"})
    (folder / WEIGHTS).write_bytes(data)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(card, encoding="utf-8")
    vectors.save(known, folder / VECTORS)
    files = (CARD, CONFIG, WEIGHTS, VECTORS)
    return Bundle(folder, repo, files, hashlib.sha256(data).hexdigest(), len(data))


def _config(model: nn.Module, facts: Facts) -> dict[str, Any]:
    """In timm's form. Preprocessing is that of the checkpoint; names of layers come from the model's own record."""
    own, c = getattr(model, "pretrained_cfg", None) or {}, facts.checkpoint
    cfg = {
        "tag": c.tag,
        "custom_load": False,
        "input_size": list(c.input.size if c.input else own.get("input_size") or ()),
        "fixed_input_size": bool(own.get("fixed_input_size", False)),
    }
    if c.input:  # networks of points, words or numbers have no picture to prepare
        cfg |= {
            "interpolation": c.input.interpolation,
            "crop_pct": c.input.crop_pct,
            "crop_mode": "center",
            "mean": list(c.input.mean),
            "std": list(c.input.std),
        }
    cfg |= {
        "num_classes": c.classes,
        "pool_size": own.get("pool_size"),
        "first_conv": own.get("first_conv"),
        "classifier": own.get("classifier"),
        "license": c.licence,
    }
    if facts.labels:
        cfg["label_names"] = list(facts.labels)
    config: dict[str, Any] = {"num_classes": c.classes, "pretrained_cfg": cfg}
    if hasattr(model, "num_features"):
        config["num_features"] = model.num_features
    if facts.architecture:
        arguments = {"in_chans": c.input.size[0]} if c.input and c.input.size[0] != 3 else {}
        config |= {"architecture": facts.architecture} | ({"model_args": arguments} if arguments else {})
    else:
        config["paperzoo"] = {"model": facts.name, "backbone": facts.backbone, "swaps": facts.swaps}
    return config


def _check_plain(facts: Facts, config: dict[str, Any], state: dict[str, Any], known: dict[str, Any]) -> None:
    import timm

    plain = timm.create_model(
        str(facts.architecture), num_classes=config["num_classes"], **config.get("model_args", {})
    )
    try:
        plain.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(
            f"{facts.name} is not plain timm {facts.architecture}: {str(error).splitlines()[0]} ..."
        ) from None
    vectors.replay(plain, known, label=f"timm's {facts.architecture} with the weights of {facts.name}")


def push(
    bundle: Bundle,
    *,
    message: str = "Weights, card and test vectors",
    endpoint: str | None = None,
    token: str | None = None,
    private: bool = False,
) -> Source:
    """Send a bundle in one commit; returns the source with the pins to write into the registry.

    Raises:
        HubError: refused, or somebody else committed meanwhile.
        IntegrityError: the Hub declares other bytes for the new commit than were sent.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils import httpx

    from zoo.hub import transport

    hub = settings.endpoint(endpoint)
    token = token or settings.token()
    api = HfApi(endpoint=hub, token=token or False)
    operations = [CommitOperationAdd(path_in_repo=f, path_or_fileobj=bundle.folder / f) for f in bundle.files]
    try:
        api.create_repo(bundle.repo, exist_ok=True, private=private)
        head = api.model_info(bundle.repo).sha
        done = api.create_commit(bundle.repo, operations, commit_message=message, parent_commit=head)
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise HubError(f"publishing {bundle.repo} failed: {_text_of(error, token)}") from None
    source = Source(bundle.repo.partition("/")[2], "", bundle.repo, WEIGHTS)
    known = transport.declared(source, done.oid, hub, token)
    if known.sha256 != bundle.sha256:
        raise IntegrityError(
            f"{bundle.repo} at {done.oid[:12]}: the Hub declares sha256 {known.sha256}, {bundle.sha256} was sent"
        )
    return Source(source.name, "", bundle.repo, WEIGHTS, done.oid, bundle.sha256, bundle.size)


def collections(facts: Facts, repo: str) -> list[Collection]:
    """One collection a paper, in the namespace of ``repo``: the paper (where it has an arXiv id) and the model."""
    namespace = repo.partition("/")[0]
    return [
        Collection(p.title[:59], namespace, ((("paper", p.arxiv),) if p.arxiv else ()) + (("model", repo),))
        for p in facts.papers
    ]


def collect(
    title: str,
    namespace: str,
    items: Sequence[tuple[str, str]],
    *,
    endpoint: str | None = None,
    token: str | None = None,
) -> str:
    """Put the paper (``("paper", arxiv id)``) and its models (``("model", repo)``) into a collection; returns its slug.

    What is there already stays: the same call twice changes nothing.

    Raises:
        HubError: refused or unreachable.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import httpx

    token = token or settings.token()
    api = HfApi(endpoint=settings.endpoint(endpoint), token=token or False)
    try:
        slug = api.create_collection(title, namespace=namespace, exists_ok=True).slug
        for kind, identity in items:
            api.add_collection_item(slug, identity, kind, exists_ok=True)  # type: ignore[arg-type]
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise HubError(f"collection {title!r} of {namespace}: {_text_of(error, token)}") from None
    return str(slug)


def _text_of(error: Exception, token: str | None) -> str:
    """First line of an error without the token."""
    text = (str(error).splitlines() or [""])[0][:300]
    return f"{type(error).__name__}: {text.replace(token, '***') if token else text}"
