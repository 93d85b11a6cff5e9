"""Commands that train: train, compare."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli.output import print_json, say, table

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Change a field: --set optimizer.sgd.lr=0.05.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; default: a GPU if there is one.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for function in (train, compare):
        app.command()(function)


def train(
    recipe: Annotated[str | None, typer.Argument(help="A YAML file, or the name of a bundled recipe.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default: runs/<recipe>.")] = None,
    option: Set = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over; what an earlier run wrote to the folder is removed.")
    ] = False,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train by a recipe; a run that was stopped goes on from its checkpoint. Starts under torchrun as it is."""
    from zoo.training.recipe import bundled, load

    if recipe is None:
        names = {name: load(name).recipe.summary for name in bundled()}
        print_json(names) if as_json else table("bundled recipes", ["recipe", "summary"], list(names.items()))
        return
    loaded = load(recipe, option or ())
    folder = out or Path("runs") / loaded.name
    from zoo.training.engine import train as run

    result = run(loaded, folder, fresh=fresh, device=device, show=not (quiet or as_json)).report
    if int(os.environ.get("RANK", "0")):
        return
    if as_json:
        print_json(result)
        return
    for line in summary_lines(result):
        say(line)
    say(f"metrics, weights and report: {folder}")
    if result["suspects_file"] is not None:
        say(f"labels to look at first: {folder / result['suspects_file']}")


def summary_lines(result: dict[str, Any]) -> list[str]:
    """A report in a few lines."""
    last, best, noise, suspects = (result[k] for k in ("last", "best", "noise", "suspects"))
    batch = (
        f"global batch {result['global_batch']}, {result['processes']} process{'es'[: 2 * (result['processes'] > 1)]}"
    )
    lines = [
        f"{result['recipe']}: {result['samples']['train']} training samples, {noise['wrong_labels']} with a wrong label; {batch}",
        f"last epoch {last['epoch']}: test {last['test']:.2f} %",
    ]
    if best is not None:
        lines.append(f"best epoch {best['epoch']} by noisy validation: test {best['test']:.2f} %")
    if noise["memorised"] is not None:
        lines.append(f"wrong labels that the network predicts: {noise['memorised']:.1f} %")
    if suspects is not None:
        lines.append(
            f"suspects: {suspects['precision']:.1f} % of the first {suspects['k']} are wrong "
            f"(chance {suspects['chance']:.1f} %), average precision {suspects['average_precision']:.1f} %"
        )
    return lines


def compare(
    methods: Annotated[str, typer.Option(help="Losses and algorithms, separated by commas: elr,gce,ce.")],
    data: Annotated[
        str | None,
        typer.Option(help="digits, mnist5k, a folder of class folders, or hfds/<owner>/<name>; default: the recipe's."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="The recipe that all of them share.")] = "digits_compare",
    noise: Annotated[str | None, typer.Option(help="Generator and rate: pair:0.4; none: labels as they are.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0",
    epochs: Annotated[int | None, typer.Option(help="Epochs instead of the recipe's.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a field for all, --set data.clean_per_class=10, or a parameter of one of the methods, "
            "--set method.co_teaching.forget_rate=0.4.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default: runs/compare.")] = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train several methods under one protocol; print, draw and record how they end. A run that fails is said in its row."""
    from zoo.training.compare import compare as run
    from zoo.training.compare import numbers

    folder = out or Path("runs") / "compare"
    result = run(
        [m.strip() for m in methods.split(",") if m.strip()],
        data=data,
        recipe=recipe,
        noise=noise,
        seeds=numbers(seeds),
        epochs=epochs,
        overrides=option or (),
        out=folder,
        device=device,
        show=not (quiet or as_json),
    )
    failed = any(r["errors"] for r in result["rows"])
    if as_json:
        print_json(result)
    else:
        _print_comparison(result)
        drawn = f"curves: {folder / 'compare.svg'}, " if result["curves"] else ""
        say(f"{drawn}figures: {folder / 'compare.json'}")
    if failed:
        raise typer.Exit(1)


def _print_comparison(result: dict[str, Any]) -> None:
    columns = ["last", "best", "memorised", "suspects", "seconds"]
    shown, failed = [], []
    for r in result["rows"]:
        name = " ".join([r["method"], *(f"{k}={_short(v)}" for k, v in r["parameters"].items())])
        last = _spread(r["last"]) if r["seeds"] else "failed"
        shown.append([name, last, *(_spread(r[c]) for c in columns[1:])])
        failed += [f"{r['method']} failed with seed {e['seed']}: {e['error']}" for e in r["errors"]]
    title = f"{result['setting']}; test accuracy in percent, best epoch by noisy validation"
    table(title, ["method", *columns], shown, right=columns)
    for line in failed:
        say(line)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 20 else text[:17] + "..."


def _spread(figure: dict[str, float] | None) -> str:
    if figure is None:
        return ""
    return f"{figure['mean']:.1f}" + (f" ± {figure['std']:.1f}" if figure["n"] > 1 else "")
