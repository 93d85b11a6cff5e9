"""Commands about weights: download, verify, forget."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from zoo.cli.output import print_json, say

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Tag = Annotated[str | None, typer.Option(help="Which weights; default: the first. tag@commit for another commit.")]
Strict = Annotated[
    bool | None,
    typer.Option("--strict-pins/--no-strict-pins", help="Refuse weights that the registry does not pin."),
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for function in (download, verify, forget):
        app.command()(function)


def download(
    name: Annotated[str, typer.Argument(help="Model of the registry, or a timm architecture.")],
    tag: Tag = None,
    strict_pins: Strict = None,
    endpoint: Annotated[str | None, typer.Option(help="A Hub other than the default.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
    as_json: Json = False,
) -> None:
    """Download the weights of a model, check every byte, and print where they are."""
    import zoo

    path = zoo.download(name, tag=tag, strict_pins=strict_pins, endpoint=endpoint, progress=progress and not as_json)
    print_json({"name": name, "path": str(path)}) if as_json else print(path)


def verify(
    name: Annotated[str, typer.Argument(help="Model of the registry, or a timm architecture.")],
    tag: Tag = None,
    as_json: Json = False,
) -> None:
    """Check cached or bundled weights against size, SHA-256 and header limits; asks nobody."""
    from zoo.factory.pretrained import _find
    from zoo.hub.download import obtain
    from zoo.hub.weights import verify_file

    found = obtain(_find(name, tag).source, offline=True)
    entries = verify_file(found.path, found.source)
    result: dict[str, Any] = {
        "name": name,
        "path": str(found.path),
        "sha256": found.source.sha256,
        "tensors": len(entries),
        "pinned_by_registry": _find(name, tag).source.pinned,
    }
    if as_json:
        print_json(result)
    else:
        say(f"{found.source.label}: {len(entries)} tensors, sha256 {found.source.sha256} agrees", "green")
        say(str(found.path))


def forget(name: Annotated[str, typer.Argument(help="Model of the registry.")], tag: Tag = None) -> None:
    """Forget the commit and SHA-256 that were trusted on first use of unpinned weights."""
    from zoo.factory.pretrained import _find
    from zoo.hub.pins import forget as forget_pin

    source = _find(name, tag).source
    say(f"{source.label}: {'forgotten' if forget_pin(source) else 'nothing was remembered'}")
