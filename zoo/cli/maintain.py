"""Commands that keep the catalog right: check, lock, schema, diff, reproduce, bench, docs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli.output import console, print_json, say, table
from zoo.errors import RegistryError, ZooError

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for function in (check, lock, schema, diff, reproduce, bench):
        app.command()(function)
    docs = typer.Typer(help="Build or serve the site.", no_args_is_help=True)
    docs.command("build")(docs_build)
    docs.command("serve")(docs_serve)
    app.add_typer(docs, name="docs")


def check(
    root: Annotated[
        Path | None, typer.Argument(help="Folder with registry.yaml and catalog/; default: what zoo ships.")
    ] = None,
    targets: Annotated[bool, typer.Option(help="Also import every target: class of its kind, defaults bind.")] = False,
    as_json: Json = False,
) -> None:
    """Check registry and catalog: every problem with file and line."""
    from zoo.registry.checks import cross_check
    from zoo.registry.files import data_root
    from zoo.registry.load import load

    where = root or data_root()
    problems: list[str] = []
    counts: dict[str, int] = {}
    try:
        raw = load(where, use_cache=False)
        problems = cross_check(raw, where)
        counts = {"papers": len(raw.papers), "methods": len(raw.methods), "models": len(raw.models)}
        if targets:
            from zoo.factory.check import check_targets

            problems += check_targets(raw)
    except RegistryError as error:
        problems = error.problems
    if as_json:
        print_json({"problems": problems, **counts})
    else:
        for problem in problems:
            say(problem, "red")
        counted = ", ".join(f"{n} {what}" for what, n in counts.items())
        say(
            f"{len(problems)} problems; {counted or 'not loaded'}"
            + (", targets imported" if targets and counts else "")
        )
    if problems:
        raise typer.Exit(1)


def lock(
    check_only: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 when the file is out of step.")
    ] = False,
    online: Annotated[bool, typer.Option(help="Also pin weights: ask the Hub for commit, SHA-256 and size.")] = False,
    results: Annotated[
        Path | None, typer.Option(help="Take top-1 from this results-imagenet.csv of timm's repository.")
    ] = None,
    results_commit: Annotated[str, typer.Option(help="Commit of timm that --results comes from.")] = "",
    recount: Annotated[bool, typer.Option(help="Count parameters and MACs of every tag again (slow).")] = False,
    as_json: Json = False,
) -> None:
    """Write registry.lock.json: what can be resolved about models and weights."""
    from zoo.factory.lock import compute, differences
    from zoo.registry.files import data_root, write_atomic

    path = data_root() / "registry.lock.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    new = compute(
        old,
        results=(results, results_commit) if results else None,
        recount=recount,
        tell=None if as_json else _counting,
    )
    problems: list[str] = []
    if online:
        from zoo.factory.lock import pin_all

        new, problems = pin_all(new)
    changes = differences(old, new)
    if as_json:
        print_json({"changes": changes, "problems": problems, "written": not check_only and bool(changes)})
    else:
        for change in changes[:40]:
            say(change)
        for problem in problems:
            say(problem, "red")
        pins = sum(1 for r in new["timm"].values() if r.get("sha256"))
        say(f"{len(changes)} changes; {len(new['models'])} models, {len(new['timm'])} timm tags, {pins} of them pinned")
    if check_only:
        raise typer.Exit(1 if changes else 0)
    if changes:
        write_atomic(path, dump_lock(new))
    if problems:
        raise typer.Exit(1)


def _counting(done: int, total: int) -> None:
    if done % 50 == 0 or done == total:
        say(f"counted {done} of {total} tags")


def dump_lock(value: dict[str, Any]) -> str:
    """One record a line: small, and a change shows as one line of a diff."""
    lines = ["{"]
    sections = list(value.items())
    for i, (section, content) in enumerate(sections):
        comma = "," if i + 1 < len(sections) else ""
        if not isinstance(content, dict) or not content:
            lines.append(f" {json.dumps(section)}: {json.dumps(content)}{comma}")
            continue
        lines.append(f" {json.dumps(section)}: {{")
        rows = [f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in content.items()]
        lines.append(",\n".join(rows))
        lines.append(f" }}{comma}")
    lines.append("}")
    return "\n".join(lines) + "\n"


def schema(
    out: Annotated[Path | None, typer.Option(help="Write to this file instead of stdout.")] = None,
    what: Annotated[str, typer.Option(help="registry, page (front matter) or evidence.")] = "registry",
) -> None:
    """Print the JSON Schema that editors and other programs can check against."""
    from zoo.registry.json_schema import SCHEMAS, json_schema

    if what not in SCHEMAS:
        from zoo.errors import UnknownName

        raise UnknownName("schema", what, SCHEMAS, f"Schemas: {', '.join(SCHEMAS)}.")
    text = json.dumps(json_schema(what), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if out is None:
        print(text, end="")
    else:
        from zoo.registry.files import write_atomic

        write_atomic(out, text)
        say(f"wrote {out}")


def diff(
    old: Annotated[Path, typer.Argument(help="Folder (or registry.yaml) of the old version.")],
    new: Annotated[Path | None, typer.Argument(help="The new version; default: what zoo ships.")] = None,
    as_json: Json = False,
) -> None:
    """What changed between two versions of the registry: added, removed and changed papers, methods, models."""
    from zoo.registry.diff import diff_registries
    from zoo.registry.files import data_root

    changes = diff_registries(_folder(old), _folder(new) if new else data_root())
    if as_json:
        print_json([c.__dict__ for c in changes])
    else:
        for change in changes:
            say(str(change), {"added": "green", "removed": "red"}.get(change.what, ""))
        say(f"{len(changes)} changes")


def _folder(path: Path) -> Path:
    folder = path.parent if path.is_file() else path
    if not (folder / "registry.yaml").is_file():
        raise ZooError(f"{path} has no registry.yaml")
    return folder


def reproduce(
    name: Annotated[str | None, typer.Argument(help="Paper, method or model; none with --all.")] = None,
    claim: Annotated[str | None, typer.Option(help="Only the claim of this id.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All claims of the catalog.")] = False,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Number of seeds (0, 1, ...).")] = 3,
    write: Annotated[bool, typer.Option(help="Record the result beside the catalog page (in a checkout).")] = True,
    as_json: Json = False,
) -> None:
    """Measure the claims of a paper on this machine and record what was found."""
    from zoo.claims.run import reproduce as run
    from zoo.registry.files import checkout_root
    from zoo.registry.lookup import registry

    if (name is None) == (not every):
        raise typer.BadParameter("give a name, or --all")
    names = [p for p, r in registry().raw.papers.items() if r.get("claims")] if every else [str(name)]
    writes = write and checkout_root() is not None
    results = []
    for identity in names:

        def announce(paper: str, item: Any) -> None:
            if not as_json:
                say(f"running {paper}.{item.id}: {item.statement}")

        for ran in run(identity, claim=claim, seeds=tuple(range(seeds)), write=writes, on_start=announce):
            record = ran.record.model_dump(mode="json", exclude_none=True) if ran.record else {"status": "not run"}
            results.append({"paper": ran.paper, "claim": ran.claim.id, "why": ran.why, **record})
            if not as_json:
                _show_claim(ran)
    if as_json:
        print_json(results)
    elif not results:
        say(f"{name} has no claims in the catalog")


def _show_claim(ran: Any) -> None:
    if ran.record is None:
        say(f"  not run: {ran.why}", "yellow")
        return
    colour = {"reproduced": "green", "partly": "yellow", "refuted": "red"}[ran.record.status]
    say(f"  {ran.record.status} in {ran.record.duration_s} s ({ran.record.tolerance})", colour)
    say(f"  setting: {ran.record.setting}")
    for key, value in ran.record.measured.items():
        say(f"  {key}: {json.dumps(value)}")


def bench(
    name: Annotated[
        str | None, typer.Argument(help="Benchmark of benchmarks/, without ending; none lists them.")
    ] = None,
    write: Annotated[bool, typer.Option(help="Write benchmarks/results/<name>.json.")] = False,
    as_json: Json = False,
) -> None:
    """Run a benchmark of the checkout: ratios in one run, interleaved, medians."""
    import runpy
    import sys

    from zoo.registry.files import checkout_root

    root = checkout_root()
    if root is None:
        raise ZooError("benchmarks run in a checkout: clone the repository and pip install -e .")
    folder = root / "benchmarks"
    known = sorted(p.stem for p in folder.glob("bench_*.py"))
    if name is None:
        print_json(known) if as_json else table("benchmarks", ["name"], [[k.removeprefix("bench_")] for k in known])
        return
    if f"bench_{name}" not in known:
        from zoo.errors import UnknownName

        raise UnknownName("benchmark", name, [k.removeprefix("bench_") for k in known])
    sys.path.insert(0, str(folder))
    sys.argv = [name, *(["--write"] if write else []), *(["--json"] if as_json else [])]
    runpy.run_path(str(folder / f"bench_{name}.py"), run_name="__main__")


def docs_build(
    strict: Annotated[bool, typer.Option(help="Warnings are errors.")] = False,
    offline: Annotated[bool, typer.Option(help="Build the copy that opens from a file, and its zip.")] = False,
    fresh: Annotated[bool, typer.Option(help="Use nothing that an earlier build left.")] = False,
) -> None:
    """Generate pages from registry, catalog, lock and evidence, then build the site."""
    from zoo.site.build import build

    code = build(strict=strict, offline=offline, fresh=fresh)
    if code:
        raise typer.Exit(code)


def docs_serve(port: int = 8000) -> None:
    """Serve the site and generate again on every change."""
    from zoo.site.build import serve

    console.print(f"http://127.0.0.1:{port}")
    serve(address=f"127.0.0.1:{port}")
