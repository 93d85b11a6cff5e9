"""What an import costs and pulls in, and which way dependencies point."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

LIGHT = """
import sys
import zoo
zoo.list_methods(); zoo.list_models(licence="permissive"); zoo.list_papers(status="reproduced")
zoo.search("group normalization"); zoo.info("group_norm").evidence; zoo.cite("gn_resnet50")
heavy = [m for m in ("torch", "timm", "torchvision", "numpy", "huggingface_hub") if m in sys.modules]
assert not heavy, heavy
"""


def test_browsing_imports_no_torch() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], check=True)


def test_import_alone_is_standard_library_only() -> None:
    code = (
        "import sys, zoo; print(sorted(m for m in ('pydantic', 'yaml', 'typer', 'rich', 'torch') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


#: Who may import whom inside zoo. Categories stand for the folders of implementations.
CATEGORIES = {
    "normalization", "weights", "pooling", "convolution", "upsampling", "activations", "backward", "optimizers", "schedules",
    "augmentation", "noisy_labels", "losses", "long_tail", "distillation", "ensembles", "memory", "metric_learning", "generative",
}  # fmt: skip
ALLOWED = {
    "errors": set(),
    "pictures": set(),
    "registry": {"errors"},
    "hub": {"errors", "pictures", "registry", "hub"},
    "models": {"models", "numerics", *CATEGORIES},
    "factory": {"errors", "registry", "hub", "factory", "models", "claims", *CATEGORIES},
    "category": {"errors", "numerics", *CATEGORIES, "models"},
}
#: Through the front door (``import zoo``) only these may come, and only inside functions.
FRONT_DOOR = {"factory", "claims", "training", "site", "cli"}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        for name in names:
            if name == "zoo":
                found.add("")
            elif name.startswith("zoo."):
                found.add(name.split(".")[1])
    return found


def _files(root: Path) -> list[Path]:
    return sorted((root / "zoo").rglob("*.py"))


def test_dependencies_point_one_way(root: Path) -> None:
    wrong = []
    for path in _files(root):
        parts = path.relative_to(root / "zoo").parts
        package = parts[0].removesuffix(".py") if len(parts) == 1 else parts[0]
        role = "category" if package in CATEGORIES else package
        if role not in ALLOWED:
            continue
        for imported in _imports(path):
            if imported == "":
                if package not in FRONT_DOOR:
                    wrong.append(f"{path.name} imports zoo itself")
            elif imported != package and imported not in ALLOWED[role]:
                wrong.append(f"{'/'.join(parts)} imports zoo.{imported}")
    assert wrong == []


def test_registry_never_mentions_torch(root: Path) -> None:
    for path in sorted((root / "zoo" / "registry").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = {n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
        modules |= {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert modules.isdisjoint({"torch", "timm", "huggingface_hub"}), path


def test_files_stay_short(root: Path) -> None:
    long = [
        f"{p.relative_to(root)}: {n}"
        for p in _files(root)
        if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400
    ]
    assert long == []


@pytest.mark.parametrize("module", ["zoo.hub.source", "zoo.hub.download", "zoo.hub.weights"])
def test_hub_modules_are_light(module: str) -> None:
    code = f"import sys, {module}; assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
