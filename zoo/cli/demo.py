"""``zoo demo``: the main job on real input, with nothing to download."""

from __future__ import annotations

import time
from typing import Any

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from zoo.cli.output import big, console, say

_SHADES = " .:-=+*#%@"


def run(quiet: bool = False, shown: int = 6) -> dict[str, Any]:
    """Classify the bundled held-out digits, print some, then describe ``gn_resnet50``; returns the figures."""
    started = time.perf_counter()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        step = progress.add_task("importing torch and timm")
        import torch

        import zoo
        from zoo.hub.load import LoadReport
        from zoo.training.heldout import digits_heldout

        progress.update(step, description="loading gn_resnet8_digits (bundled weights, SHA-256 checked)")
        model = zoo.create("gn_resnet8_digits", pretrained=True).eval()
        images, labels, x = digits_heldout()
        progress.update(step, description=f"classifying {len(labels)} held-out digits")
        with torch.inference_mode():
            probability = model(x).softmax(1)
        confidence, guess = probability.max(1)
        right = guess == labels
        accuracy = 100.0 * right.float().mean().item()
        progress.update(step, description="creating gn_resnet50")
        big_model = zoo.create("gn_resnet50")
        info = zoo.info("gn_resnet50")
    report = zoo.load_report(model)
    assert isinstance(report, LoadReport)
    result = {
        "model": "gn_resnet8_digits", "images": len(labels), "right": int(right.sum()), "top1": round(accuracy, 2),
        "gn_resnet50": {"params": sum(p.numel() for p in big_model.parameters()), "paper": info.paper.title},
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip
    if quiet:
        return result
    say("1. A bundled network reads handwritten digits", "bold")
    say(f"{report}")
    wrong = torch.nonzero(~right).flatten().tolist()
    picks = (wrong[:1] + [i for i in range(len(labels)) if bool(right[i])])[:shown]
    for line in _pictures(images[picks]):
        say("  " + line)
    say("  " + "".join(f"{_caption(int(guess[i]), int(labels[i]), float(confidence[i])):<20}" for i in picks))
    say(
        f"accuracy {accuracy:.2f} % on {len(labels)} digits that it never saw ({int((~right).sum())} wrong)",
        "bold green",
    )
    say(
        "Digits: UCI Optical Recognition of Handwritten Digits (Alpaydin, Kaynak), CC BY 4.0. Trained by: "
        "python -m zoo.training.digits"
    )
    say()
    say("2. One name, the paper, the code, the weights", "bold")
    paper = info.paper
    say(f"gn_resnet50: {info.model.summary if info.model else ''} {big(result['gn_resnet50']['params'])} parameters")
    say(f"paper: {paper.title} ({', '.join(paper.authors)}, {paper.venue} {paper.year}, arXiv {paper.arxiv})")
    swapped = zoo.swap_report(big_model)
    say(f"{swapped}")
    from zoo.cli.app import weights_lines

    for line in weights_lines(info):
        say(line)
    say()
    say("3. What to type next", "bold")
    for command, why in (
        ("zoo list --kind norm", "methods by kind; --what models, --what papers"),
        ("zoo show group_norm", "paper, defaults, evidence, weights"),
        ("zoo create resnet18 --norm group_norm --act mish", "put methods into any timm backbone"),
        ("zoo reproduce group_norm", "measure the paper's claim on this machine"),
        (
            "python -c \"import zoo; zoo.create('gn_resnet50', pretrained=True)\"",
            "download its weights (needs the network)",
        ),
    ):
        say(f"  {command:<72} {why}")
    say(f"done in {result['seconds']} s")
    return result


def _caption(guess: int, label: int, confidence: float) -> str:
    return (
        f"{guess} ({100 * confidence:.0f} %)" if guess == label else f"{guess}, is {label} ({100 * confidence:.0f} %)"
    )


def _pictures(images: Any) -> list[str]:
    """Digits side by side, two characters a pixel, 0 to 16 as shades."""
    rows = []
    for y in range(images.shape[-2]):
        line = ""
        for image in images:
            line += (
                "".join(2 * _SHADES[min(int(v) * len(_SHADES) // 17, len(_SHADES) - 1)] for v in image[0, y]) + "    "
            )
        rows.append(line.rstrip())
    return rows
