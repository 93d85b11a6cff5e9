"""Code on the pages. Every block that comes from here is executed by the tests, so a page cannot show what does not run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo.registry.schema import Method
from zoo.site.context import Site

BACKBONE = "resnet18"


@dataclass(frozen=True)
class Convention:
    """How a kind is constructed and called: lines before, positional arguments, lines after ({it} is the instance)."""

    name: str
    before: tuple[str, ...]
    arguments: str
    after: tuple[str, ...]
    given: int  # how many leading parameters ``arguments`` fills
    tensors: bool = True


_MODEL = ("model = torch.nn.Linear(16, 4)",)
_STEP = (
    "loss = model(torch.randn(8, 16)).square().mean()",
    "loss.backward()",
    "optimizer.step()",
)
CONVENTIONS: dict[str, Convention] = {
    "norm": Convention(
        "norm", (), "64", ("y = norm(torch.randn(8, 64, 14, 14))  # (N, C, H, W) -> the same shape",), 1
    ),
    "activation": Convention("act", (), "", ("y = act(torch.randn(8, 64, 14, 14))  # the same shape",), 0),
    "conv": Convention(
        "conv", (), "64, 128, 3, padding=1", ("y = conv(torch.randn(8, 64, 14, 14))  # (8, 128, 14, 14)",), 3
    ),
    "linear": Convention("linear", (), "64, 10", ("y = linear(torch.randn(8, 64))  # (8, 10)",), 2),
    "pool": Convention("pool", (), "64", ("y = pool(torch.randn(2, 64, 7, 7))  # (2, pool.out_features)",), 1),
    "block": Convention("block", (), "64", ("y = block(torch.randn(2, 64, 14, 14))",), 1),
    "upsample": Convention("up", (), "64, 32, 2", ("y = up(torch.randn(2, 64, 14, 14))  # (2, 32, 28, 28)",), 3),
    "optimizer": Convention("optimizer", _MODEL, "model.parameters(), lr=1e-3", _STEP, 1),
    "schedule": Convention(
        "schedule",
        (*_MODEL, "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)"),
        "optimizer",
        ("optimizer.step()", "schedule.step()"),
        1,
    ),
    "loss": Convention(
        "loss",
        ("logits = torch.randn(8, 10, requires_grad=True)", "target = torch.randint(10, (8,))"),
        "",
        ("loss(logits, target).backward()",),
        0,
    ),
    "flow": Convention("flow", (), "2", ("z, log_det = flow(torch.randn(8, 2))  # (8, 2), (8,)",), 1),
    "augmentation": Convention("augment", (), "", (), 0, tensors=False),
}


def convention(site: Site, method: Method) -> Convention | None:
    """The convention of the method's kind, or None where the kind has none or the constructor needs more than it fills."""
    found = CONVENTIONS.get(method.kind)
    if found is None:
        return None
    if "channels" in method.needs and method.kind == "activation":
        found = Convention("act", (), "64", found.after, 1)
    parameters = site.parameters(method.target)
    if parameters is None:
        return found if not method.needs or method.kind == "activation" else None
    names = list(parameters)
    missing = [n for n in names[found.given :] if parameters[n] == "required" and n not in method.defaults]
    missing = [n for n in missing if f"{n}=" not in found.arguments and not n.startswith("*")]
    return None if missing else found


def written(site: Site, method: str) -> str | None:
    """Hand-written example ``docs/snippets/<method>.py``, for kinds that no convention covers."""
    path = site.docs / "snippets" / f"{method}.py"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def _keywords(values: dict[str, Any]) -> str:
    return "".join(f", {k}={v!r}" for k, v in values.items())


def _block(found: Convention, imports: list[str], construct: str) -> str:
    lines = ["import torch"] if found.tensors else []
    return "\n".join([*lines, *imports, "", *found.before, f"{found.name} = {construct}", *found.after])


def library(site: Site, method: Method) -> str:
    """Through ``zoo.create``."""
    if text := written(site, method.id):
        return text
    found = convention(site, method)
    if found is None:
        return f'import zoo\n\n{_short(method)} = zoo.get("{method.id}")  # the {_word(method)} itself; its parameters stand under API'
    arguments = f", {found.arguments}" if found.arguments else ""
    return _block(found, ["import zoo"], f'zoo.create("{method.id}"{arguments})')


def _short(method: Method) -> str:
    name = method.target.rsplit(":", 1)[1]
    return name


def _word(method: Method) -> str:
    return "class" if _short(method)[:1].isupper() else "function"


def import_(site: Site, method: Method) -> str:
    """Without zoo's registry: the class as any Python library gives it."""
    module, name = method.target.split(":")
    found = convention(site, method)
    line = f"from {module} import {name}"
    if found is None:
        return line
    arguments = (found.arguments + _keywords(method.defaults)).removeprefix(", ")
    return _block(found, [line], f"{name}({arguments})")


def backbone(site: Site, method: Method) -> str | None:
    """In any timm architecture; None for kinds that do not go into a backbone."""
    swap = site.swap_kind(method)
    if swap is None:
        return None
    return (
        f'import zoo\n\nmodel = zoo.create("{BACKBONE}", {swap}="{method.id}", num_classes=10)\n'
        "print(zoo.swap_report(model))  # what was replaced, what was kept and why"
    )


def as_in_paper(site: Site, method: Method) -> list[tuple[str, str]]:
    """``(source, code)`` for each setting of the paper that the registry or the defaults table knows."""
    found = convention(site, method)
    if found is None:
        return []
    out = []
    presets = [(p.source, dict(p.values)) for p in method.presets.values()]
    if not presets and (values := _paper_values(site, method)):
        presets = [("defaults of the paper, table below", values)]
    for source, values in presets:
        shown = dict(values)
        arguments = found.arguments
        if "lr" in shown and "lr=1e-3" in arguments:
            arguments = arguments.replace("lr=1e-3", f"lr={shown.pop('lr')!r}")
        inside = f", {arguments}" if arguments else ""
        out.append((source, _block(found, ["import zoo"], f'zoo.create("{method.id}"{inside}{_keywords(shown)})')))
    return out


def _paper_values(site: Site, method: Method) -> dict[str, Any]:
    """Numbers of the defaults table whose name is a parameter of the constructor."""
    parameters = site.parameters(method.target) or {}
    found: dict[str, Any] = {}
    for row in site.paper(method.paper).defaults:
        value = row.paper
        if row.name in parameters and isinstance(value, int | float) and not isinstance(value, bool):
            default = method.defaults.get(row.name, parameters[row.name])
            whole = str(default).lstrip("-").isdigit()
            found[row.name] = int(value) if whole and float(value).is_integer() else value
    return found


def all_snippets(site: Site) -> list[tuple[str, str, str]]:
    """``(page, where, code)`` of every generated code block on paper pages, for the test that runs them."""
    out = []
    for paper in site.papers:
        page = site.path_of(paper)
        for method in site.methods_of(paper):
            out.append((page, f"{method.id}: library", library(site, method)))
            out.append((page, f"{method.id}: import", import_(site, method)))
            if text := backbone(site, method):
                out.append((page, f"{method.id}: backbone", text))
            out += [(page, f"{method.id}: {source}", text) for source, text in as_in_paper(site, method)]
    return out
