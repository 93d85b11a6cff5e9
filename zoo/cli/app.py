"""Commands that read: list, show, search, cite, create, demo; the others are added from their modules."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from zoo.cli.output import big, print_json, say, table

app = typer.Typer(
    name="zoo",
    help="Every paper in the catalog can be read, run, checked and loaded by one name.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Name = Annotated[str, typer.Argument(help="Id, alias, arXiv id or title.", autocompletion=lambda: _names())]


def _names() -> list[str]:
    from zoo.registry.lookup import registry

    return registry().all_names()


def _version(value: bool) -> None:
    if value:
        import zoo

        print(f"paperzoo {zoo.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _year(text: str | None) -> Any:
    if text is None:
        return None
    first, dash, last = text.partition("-")
    try:
        return (int(first) if first else None, int(last) if last else None) if dash else int(first)
    except ValueError:
        raise typer.BadParameter(
            f"a year (2018) or a range (2016-2019), received {text!r}", param_hint="--year"
        ) from None


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="Wildcard over ids.")] = "*",
    what: Annotated[
        Literal["methods", "models", "papers", "checkpoints"], typer.Option(help="What to list.")
    ] = "methods",
    exclude: Annotated[list[str] | None, typer.Option(help="Wildcard of ids to leave out.")] = None,
    kind: Annotated[str | None, typer.Option(help="norm, optimizer, loss, ...")] = None,
    category: Annotated[str | None, typer.Option(help="normalization, pooling, ...")] = None,
    status: Annotated[str | None, typer.Option(help="reproduced, partly, refuted, not run")] = None,
    licence: Annotated[
        str | None,
        typer.Option("--license", "--licence", help="An SPDX id, or permissive / non-commercial / other / unknown."),
    ] = None,
    year: Annotated[str | None, typer.Option(help="2018, or 2016-2019.")] = None,
    backing: Annotated[str | None, typer.Option(help="zoo, torch, timm, torchvision (methods)")] = None,
    pretrained: Annotated[
        bool | None, typer.Option("--pretrained/--no-pretrained", help="With or without known weights.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="Checkpoints that realise this method.")] = None,
    as_json: Json = False,
) -> None:
    """List methods, models, papers or checkpoints, with filters."""
    from zoo.errors import UnknownName
    from zoo.registry.lookup import registry
    from zoo.registry.schema import CATEGORIES, KINDS

    for given, allowed, label in ((kind, KINDS, "kind"), (category, CATEGORIES, "category")):
        if given is not None and given not in allowed:
            raise UnknownName(label, given, allowed, f"One of: {', '.join(allowed)}.")
    where = {
        "kind": kind,
        "category": category,
        "status": status,
        "licence": licence,
        "year": _year(year),
        "backing": backing,
        "pretrained": pretrained,
        "method": method and registry().method_for(method),
    }
    where = {k: v for k, v in where.items() if v is not None}
    reg = registry()
    singular = what.removesuffix("s")
    found = reg.select(singular, pattern, exclude or (), where)  # type: ignore[arg-type]
    if what == "checkpoints" and as_json:  # whole records: figures as numbers, unknown as null
        print_json([{"checkpoint": identity, **reg.checkpoints[identity]} for identity in found])
        return
    rows = [_row(reg, singular, identity) for identity in found]
    if as_json:
        print_json(rows)
    elif rows:
        right = ("params", "MACs", "top-1", "year")
        table(f"{len(rows)} {what}", list(rows[0]), [list(r.values()) for r in rows], right=right)
    else:
        say(f"no {what} match")


def _row(reg: Any, what: str, identity: str) -> dict[str, Any]:
    from zoo.registry.fields import FIELDS

    fields = FIELDS[what]
    if what == "method":
        shown = ("kind", "category", "year", "backing", "status")
        return {"method": identity, **{f: fields[f](reg, identity) for f in shown}}
    if what == "model":
        return {
            "model": identity,
            "backbone": fields["backbone"](reg, identity),
            "papers": ", ".join(fields["paper"](reg, identity)),
            "params": big(fields["params"](reg, identity)),
            "MACs": big(fields["macs"](reg, identity)),
            "weights": ", ".join(_tags(reg, identity)) or "none known",
            "licence": ", ".join(
                x for x in fields["licence"](reg, identity) if x not in {"permissive", "non-commercial", "other"}
            ),
        }
    if what == "checkpoint":
        known = reg.checkpoints[identity]
        return {
            "checkpoint": identity,
            "methods": ", ".join(known["methods"]),
            "params": big(known["params"]),
            "MACs": big(known["macs"]),
            "input": "x".join(map(str, known["input_size"] or ())),
            "top-1": _top1(known),
            "licence": known["licence"],
            "bytes": "pinned" if known["pinned"] else "unpinned",
        }
    columns = ("year", "venue", "category", "status")
    return {
        "paper": identity,
        "title": reg.raw.papers[identity]["title"],
        **{f: fields[f](reg, identity) for f in columns},
    }


def _top1(known: dict[str, Any]) -> str:
    """``80.1 at 224``; empty where nothing was published."""
    return "" if known.get("top1") is None else f"{known['top1']:.1f} at {known['top1_size']}"


def _tags(reg: Any, model: str) -> list[str]:
    checkpoints = reg.raw.models[model].get("checkpoints", {})
    return [c["tag"] for s in ("bundled", "hub") for c in checkpoints.get(s, ())] + [
        t.split(".", 1)[1] for t in checkpoints.get("timm", ())
    ]


@app.command()
def show(
    name: Name, as_json: Json = False, notes: Annotated[bool, typer.Option(help="Print the notes as well.")] = False
) -> None:
    """Show all that is known under a name: paper, method, evidence, weights."""
    import zoo

    info = zoo.info(name)
    paper, evidence = info.paper, info.evidence
    if as_json:
        print_json({
            "name": info.name, "what": info.what, "papers": [p.model_dump(mode="json", exclude_none=True) for p in info.papers],
            "method": info.method and info.method.model_dump(mode="json", exclude_none=True),
            "model": info.model and info.model.model_dump(mode="json", exclude_none=True),
            "methods": info.methods, "models": info.models, "resolved": info.resolved, "status": info.status,
            "evidence": evidence.model_dump(mode="json", exclude_none=True),
        })  # fmt: skip
        return
    say(f"{paper.title}", "bold")
    say(f"{', '.join(paper.authors)}. {paper.venue} {paper.year}" + (f", arXiv {paper.arxiv}" if paper.arxiv else ""))
    say(paper.summary)
    say()
    if info.model:
        model = info.model
        swaps = ", ".join(f"{k}={v}" for k, v in model.swaps.items())
        say(
            f"model {model.id}: {model.backbone}{' with ' + swaps if swaps else ''}; "
            f""
            f"{big(info.resolved.get('params'))} parameters, {big(info.resolved.get('macs'))} MACs"
        )
        for line in weights_lines(info):
            say(f"  {line}")
        say(f"  create: zoo.create({model.id!r}" + (", pretrained=True)" if info.checkpoints else ")"))
    for identity in info.methods:
        method = zoo.info(identity).method
        if method:
            defaults = ", ".join(f"{k}={v}" for k, v in method.defaults.items())
            say(
                f"method {identity}: kind {method.kind}, from {method.target}"
                + (f", defaults {defaults}" if defaults else "")
            )
            for deviation in method.deviations:
                say(f"  deviates: {deviation}")
            say(f"  {filed_line(identity)}")
    if info.models and not info.model:
        say(f"models: {', '.join(info.models)}")
    say(f"evidence: {info.status}")
    for claim in paper.claims:
        record = evidence.claims.get(claim.id)
        say(
            f"  [{record.status if record else 'not run'}] {claim.statement}"
            + (f" ({record.date}, {record.duration_s} s)" if record else "")
        )
    for key, parity in evidence.parity.items():
        say(f"  parity {key}: {parity.error:.1e} against {parity.oracle} (tolerance {parity.tolerance:.0e})")
    if notes:
        from rich.markdown import Markdown

        from zoo.cli.output import console

        console.print(Markdown(info.notes))


def weights_lines(info: Any) -> list[str]:
    """One line a checkpoint: tag, licence, where it is, whether its bytes are pinned."""
    lines = []
    for checkpoint in info.checkpoints:
        c = checkpoint if isinstance(checkpoint, dict) else checkpoint.model_dump()
        place = (
            c.get("hub_id")
            or c.get("repo")
            or ("not resolved (zoo lock)" if isinstance(checkpoint, dict) else "bundled")
        )
        pinned = "pinned" if c.get("sha256") and (c.get("commit") or place == "bundled") else "unpinned"
        top1 = f", top-1 {_top1(c)} px" if c.get("top1") is not None else ""
        lines.append(f"weights {c['tag']}: {place}, licence {c.get('licence') or 'unknown'}{top1}, {pinned}")
    return lines or ["weights: none known"]


def filed_line(method: str) -> str:
    """How many weights realise a method, and under which class of licence; says so where none are known."""
    from collections import Counter

    from zoo.registry.licences import CLASSES, licence_class
    from zoo.registry.lookup import registry

    found = [c for c in registry().checkpoints.values() if method in c["methods"]]
    if not found:
        return "weights: none known"
    by_class = Counter(licence_class(c["licence"]) for c in found)
    shown = ", ".join(f"{by_class[c]} {c}" for c in CLASSES if by_class[c])
    return f"weights: {len(found)} ({shown}); zoo list --what checkpoints --method {method}"


@app.command()
def search(
    text: Annotated[list[str], typer.Argument(help="Words to look for.")], limit: int = 10, as_json: Json = False
) -> None:
    """Search titles, authors, aliases and notes."""
    import zoo

    hits = zoo.search(" ".join(text), limit)
    if as_json:
        print_json([h.__dict__ for h in hits])
    elif hits:
        table(
            f"{len(hits)} papers",
            ["paper", "title", "methods", "where"],
            [(h.paper, h.title, ", ".join(h.methods), h.excerpt) for h in hits],
        )
    else:
        say("nothing found")


@app.command()
def cite(name: Name, as_json: Json = False) -> None:
    """Print the BibTeX entry of a paper, or of the papers behind a method or model."""
    import zoo

    entry = zoo.cite(name)
    print_json({"bibtex": entry}) if as_json else print(entry, end="")


@app.command()
def create(
    name: Name,
    norm: Annotated[
        str | None, typer.Option(help="Method to swap in: group_norm, or {group_norm: {num_groups: 8}}.")
    ] = None,
    act: Annotated[str | None, typer.Option(help="Activation to swap in.")] = None,
    conv: Annotated[str | None, typer.Option(help="Convolution to swap in.")] = None,
    pool: Annotated[str | None, typer.Option(help="Global pooling to swap in.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="Argument of the backbone: --set num_classes=10.")
    ] = None,
    pretrained: Annotated[bool, typer.Option(help="With its default weights.")] = False,
    tag: Annotated[str | None, typer.Option(help="With the weights of this tag (or tag@commit).")] = None,
    partial: Annotated[bool, typer.Option(help="Accept a swap that leaves layers.")] = False,
    as_json: Json = False,
) -> None:
    """Create a model and print its summary: layers swapped, parameters, MACs, memory."""
    from zoo.factory.summary import summary

    swaps = {k: _yaml(v, f"--{k}") for k, v in (("norm", norm), ("act", act), ("conv", conv), ("pool", pool)) if v}
    arguments = {}
    for item in option or []:
        key, equals, value = item.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set takes name=value, received {item!r}")
        arguments[key] = _yaml(value, "--set")
    result = summary(name, {**swaps, **arguments, "pretrained": tag or pretrained, "allow_partial": partial})
    if as_json:
        print_json(result)
        return
    say(result["name"], "bold")
    for line in result["lines"]:
        say(line)


def _yaml(text: str, where: str) -> Any:
    from zoo.registry.yaml_io import parse

    return parse(text, where, exponents=True)


@app.command()
def demo(as_json: Json = False) -> None:
    """Classify handwritten digits with a bundled network, then look at gn_resnet50. No network needed."""
    from zoo.cli.demo import run

    result = run(quiet=as_json)
    if as_json:
        print_json(result)


def _add_others() -> None:
    from zoo.cli import maintain, train, weights

    for module in (train, weights, maintain):
        module.add_to(app)


_add_others()
