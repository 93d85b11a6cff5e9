"""Weights back to the Hub: a folder that can be looked at first, then one commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import HubError, IntegrityError, WeightsError
from zoo.hub import settings
from zoo.hub.card import Facts, render
from zoo.hub.source import Source

if TYPE_CHECKING:
    from torch import nn

WEIGHTS, CONFIG, CARD, VECTORS = "model.safetensors", "config.json", "README.md", "test/vectors.safetensors"


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


def prepare(model: nn.Module, facts: Facts, repo: str, folder: Path) -> Bundle:
    """Write weights, config, card and test vectors into ``folder``. Nothing is sent.

    Where ``facts.architecture`` is plain timm, its keys are checked against timm's own model, and timm loads the
    repository by ``hf-hub:``.

    Raises:
        LicenceError: unknown licence of the weights.
        WeightsError: said to be plain timm, but the keys or the output say otherwise; no input size declared.
    """
    from safetensors.torch import save

    from zoo.hub import vectors

    Source(facts.name, facts.checkpoint.tag, repo, WEIGHTS)  # refuses a bad name before anything is written
    card = render(facts, repo)
    if facts.checkpoint.input is None:
        raise WeightsError(f"{facts.name}: the checkpoint declares no input, so nobody could use the weights rightly")
    known = vectors.make(model, facts.checkpoint.input.size)
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
    assert c.input is not None
    cfg = {
        "tag": c.tag,
        "custom_load": False,
        "input_size": list(c.input.size),
        "fixed_input_size": bool(own.get("fixed_input_size", False)),
        "interpolation": c.input.interpolation,
        "crop_pct": c.input.crop_pct,
        "crop_mode": "center",
        "mean": list(c.input.mean),
        "std": list(c.input.std),
        "num_classes": c.classes,
        "pool_size": own.get("pool_size"),
        "first_conv": own.get("first_conv"),
        "classifier": own.get("classifier"),
        "license": c.licence,
    }
    config: dict[str, Any] = {"num_classes": c.classes, "pretrained_cfg": cfg}
    if hasattr(model, "num_features"):
        config["num_features"] = model.num_features
    if facts.architecture:
        arguments = {"in_chans": c.input.size[0]} if c.input.size[0] != 3 else {}
        config |= {"architecture": facts.architecture} | ({"model_args": arguments} if arguments else {})
    else:
        config["paperzoo"] = {"model": facts.name, "backbone": facts.backbone, "swaps": facts.swaps}
    return config


def _check_plain(facts: Facts, config: dict[str, Any], state: dict[str, Any], known: dict[str, Any]) -> None:
    import timm

    from zoo.hub.vectors import replay

    plain = timm.create_model(
        str(facts.architecture), num_classes=config["num_classes"], **config.get("model_args", {})
    )
    try:
        plain.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(
            f"{facts.name} is not plain timm {facts.architecture}: {str(error).splitlines()[0]} ..."
        ) from None
    replay(plain, known, label=f"timm's {facts.architecture} with the weights of {facts.name}")


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
        text = str(error).splitlines()[0][:300]
        text = text.replace(token, "***") if token else text
        raise HubError(f"publishing {bundle.repo} failed: {type(error).__name__}: {text}") from None
    source = Source(bundle.repo.partition("/")[2], "", bundle.repo, WEIGHTS)
    known = transport.declared(source, done.oid, hub, token)
    if known.sha256 != bundle.sha256:
        raise IntegrityError(
            f"{bundle.repo} at {done.oid[:12]}: the Hub declares sha256 {known.sha256}, {bundle.sha256} was sent"
        )
    return Source(source.name, "", bundle.repo, WEIGHTS, done.oid, bundle.sha256, bundle.size)


def collect(
    title: str,
    namespace: str,
    items: Sequence[tuple[str, str]],
    *,
    endpoint: str | None = None,
    token: str | None = None,
) -> str:
    """One collection a paper: the paper (``("paper", arxiv id)``) and its models (``("model", repo)``); returns its slug."""
    from huggingface_hub import HfApi

    token = token or settings.token()
    api = HfApi(endpoint=settings.endpoint(endpoint), token=token or False)
    slug = api.create_collection(title, namespace=namespace, exists_ok=True).slug
    for kind, identity in items:
        api.add_collection_item(slug, identity, kind, exists_ok=True)  # type: ignore[arg-type]
    return str(slug)
