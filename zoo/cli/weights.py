"""Commands about weights: download, verify, forget, predict, convert, publish."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.output import print_json, say, table
from zoo.errors import UnknownName, WeightsError

if TYPE_CHECKING:
    from torch import nn

    from zoo.hub.card import Facts

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Tag = Annotated[str | None, typer.Option(help="Which weights; default: the first. tag@commit for another commit.")]
Strict = Annotated[
    bool | None,
    typer.Option("--strict-pins/--no-strict-pins", help="Refuse weights that the registry does not pin."),
]
Endpoint = Annotated[str | None, typer.Option(help="A Hub other than the default.")]
Model = Annotated[str, typer.Argument(help="Model of the registry, or a timm architecture.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for function in (download, verify, forget, predict, convert, publish):
        app.command()(function)


def download(
    name: Model,
    tag: Tag = None,
    strict_pins: Strict = None,
    endpoint: Endpoint = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
    as_json: Json = False,
) -> None:
    """Download the weights of a model, check every byte, and print where they are."""
    import zoo

    path = zoo.download(name, tag=tag, strict_pins=strict_pins, endpoint=endpoint, progress=progress and not as_json)
    print_json({"name": name, "path": str(path)}) if as_json else print(path)


def verify(
    name: Model,
    tag: Tag = None,
    replay: Annotated[bool, typer.Option(help="Also replay the test vectors that were published with them.")] = False,
    as_json: Json = False,
) -> None:
    """Check cached or bundled weights against size, SHA-256 and header limits; asks nobody unless vectors are replayed."""
    from zoo.factory.pretrained import _find
    from zoo.hub.download import obtain
    from zoo.hub.weights import verify_file

    source = _find(name, tag).source
    found = obtain(source, offline=True)
    entries = verify_file(found.path, found.source)
    result: dict[str, Any] = {
        "name": name,
        "path": str(found.path),
        "sha256": found.source.sha256,
        "tensors": len(entries),
        "pinned_by_registry": source.pinned,
    }
    if replay:
        result["vectors_error"] = _replay(name, tag, found.source)
    if as_json:
        print_json(result)
        return
    say(f"{found.source.label}: {len(entries)} tensors, sha256 {found.source.sha256} agrees", "green")
    if replay:
        say(f"test vectors answered with an error of {result['vectors_error']:.2e}", "green")
    say(str(found.path))


def _replay(name: str, tag: str | None, source: Any) -> float:
    import zoo
    from zoo.hub.download import fetch
    from zoo.hub.vectors import file_in, replay

    if source.repo is None:
        raise WeightsError(f"{source.label} is bundled; test vectors come with published repositories")
    model = zoo.create(name, pretrained=tag or True)
    return float(replay(model, fetch(source.sibling(file_in(source.repo))), label=source.label))


def forget(name: Model, tag: Tag = None) -> None:
    """Forget the commit and SHA-256 that were trusted on first use of unpinned weights."""
    from zoo.factory.pretrained import _find
    from zoo.hub.pins import forget as forget_pin

    source = _find(name, tag).source
    say(f"{source.label}: {'forgotten' if forget_pin(source) else 'nothing was remembered'}")


def predict(
    name: Model,
    images: Annotated[list[Path], typer.Argument(help="Pictures to classify.")],
    tag: Tag = None,
    top: Annotated[int, typer.Option(min=1, max=100, help="How many classes to name.")] = 5,
    as_json: Json = False,
) -> None:
    """Classify pictures with a pretrained model: its own preprocessing, the top classes by name."""
    import zoo
    from zoo.hub.predict import predict as run

    model = zoo.create(name, pretrained=tag or True)
    guesses = run(model, model.pretrained_cfg, images, top=top)
    if as_json:
        print_json({str(p): [asdict(g) for g in row] for p, row in zip(images, guesses, strict=True)})
        return
    for path, row in zip(images, guesses, strict=True):
        table(
            str(path),
            ["class", "name", "probability"],
            [(g.index, g.name, f"{100 * g.probability:.1f} %") for g in row],
            right=("probability",),
        )


def convert(
    file: Annotated[Path, typer.Argument(help="A .pth or .pt checkpoint of somebody else.")],
    backbone: Annotated[str, typer.Option(help="timm architecture or registry model whose keys the file shall get.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    rename: Annotated[list[str] | None, typer.Option(help="regex=replacement over keys, in order.")] = None,
    by_order: Annotated[bool, typer.Option(help="Match keys by order and shape where names differ.")] = False,
    vectors: Annotated[Path | None, typer.Option(help="Recorded input and output that the result must answer.")] = None,
    as_json: Json = False,
) -> None:
    """Turn a third-party pickle into safetensors: read in a process of its own, every key accounted for, answers compared."""
    import zoo
    from zoo.hub.convert import convert as run

    pairs = []
    for item in rename or []:
        pattern, equals, replacement = item.partition("=")
        if not equals:
            raise typer.BadParameter(f"--rename takes regex=replacement, received {item!r}")
        pairs.append((pattern, replacement))
    done = run(file, lambda: zoo.create(backbone), out, rename=pairs, by_order=by_order, vectors=vectors)
    print_json(asdict(done)) if as_json else say(str(done))


def publish(
    name: Annotated[
        str, typer.Argument(help="Model of the registry with bundled weights, or the folder of a run of zoo train.")
    ],
    to: Annotated[str, typer.Option(help="organisation/name on the Hub.")],
    tag: Tag = None,
    dry_run: Annotated[bool, typer.Option(help="Show what would be sent, send nothing.")] = True,
    folder: Annotated[Path | None, typer.Option(help="Keep the prepared files here.")] = None,
    collections: Annotated[bool, typer.Option(help="Also put paper and model into a collection, one a paper.")] = True,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="Of a run's weights; never guessed.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Of a run: last (default) or best.")] = None,
    name_: Annotated[str | None, typer.Option("--name", help="Id of a run's model; default: from --to.")] = None,
    endpoint: Endpoint = None,
) -> None:
    """Publish a model's weights: safetensors, configuration, card and test vectors in one commit. Dry run by default."""
    import tempfile

    from zoo.hub.publish import collect, prepare, push
    from zoo.hub.publish import collections as collections_of
    from zoo.registry.lookup import registry

    run = Path(name)
    if (run / "report.json").is_file() or (run.is_dir() and registry().find(name) is None):
        if tag is not None:
            raise typer.BadParameter("--tag goes with a model of the registry; of a run --weights says which")
        model, facts = _of_run(run, to, licence, weights, name_)
    else:
        given = {"--licence": licence, "--weights": weights, "--name": name_}
        wrong = [option for option, value in given.items() if value is not None]
        if wrong and registry().find(name) is not None:
            raise typer.BadParameter(
                f"{', '.join(wrong)}: only with the folder of a run; {name} is a name of the registry"
            )
        model, facts = _of_registry(name, tag)
    with tempfile.TemporaryDirectory() as temporary:
        bundle = prepare(model, facts, to, folder or Path(temporary))
        say(str(bundle))
        wanted = collections_of(facts, to) if collections else []
        for collection in wanted:
            say(f"  {collection}")
        if dry_run:
            say((bundle.folder / "README.md").read_text(encoding="utf-8"))
            say("dry run: nothing was sent; --no-dry-run publishes", "yellow")
            return
        source = push(bundle, endpoint=endpoint)
        say(f"published {source.repo} at {source.commit}", "green")
        say(f"for registry.yaml: commit: {source.commit}, sha256: {source.sha256}, size: {source.size}")
        for collection in wanted:
            say(f"in collection {collect(collection.title, collection.namespace, collection.items, endpoint=endpoint)}")


def _of_run(run: Path, to: str, licence: str | None, weights: str | None, name: str | None) -> tuple[nn.Module, Facts]:
    from dataclasses import replace

    from zoo.training.publish import from_run
    from zoo.training.publish_facts import identity_of

    identity = name or identity_of(to.rpartition("/")[2])
    model, facts = from_run(run, licence or "", weights or "last", name=identity)
    return model, replace(facts, zoo_commit=_commit())


def _of_registry(name: str, tag: str | None) -> tuple[nn.Module, Facts]:
    import zoo
    from zoo.hub.card import Facts
    from zoo.registry.cite import bibtex
    from zoo.registry.lookup import registry

    info = zoo.info(name)
    if info.model is None:
        raise WeightsError(f"{name} is no model; weights belong to models")
    bundled = {c.tag: c for c in info.model.checkpoints.bundled}
    if not bundled:
        raise WeightsError(f"{info.name} has no weights of our own to publish")
    if tag is not None and tag not in bundled:
        raise UnknownName(f"bundled weights of {info.name}", tag, bundled)
    checkpoint = bundled[tag] if tag else next(iter(bundled.values()))
    model = zoo.create(info.name, pretrained=checkpoint.tag).eval()
    facts = Facts.from_records(
        info.model,
        checkpoint,
        info.papers,
        tuple(bibtex(registry().raw.papers[p.id]) for p in info.papers),
        architecture=None if ":" in info.model.backbone or info.model.swaps else info.model.backbone,
        zoo_commit=_commit(),
        parameters=sum(p.numel() for p in model.parameters()),
    )
    return model, facts


def _commit() -> str:
    """Commit of the checkout that publishes; unknown in an installed wheel."""
    import subprocess

    from zoo.registry.files import checkout_root

    root = checkout_root()
    if root is None:
        return "unknown"
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
