"""CONTRIBUTING says that a paper is four files. This adds one in exactly that way, in a copy of the repository's data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

IMPLEMENTATION = '''"""Halving (Toy, 2026)."""

from torch import Tensor, nn


class Halve(nn.Module):
    """y = x / divisor."""

    def __init__(self, divisor: float = 2.0) -> None:
        super().__init__()
        self.divisor = divisor

    def forward(self, x: Tensor) -> Tensor:
        return x / self.divisor
'''
PAGE = """---
title: Halving Considered Helpful
authors: [Tove Toy]
venue: arXiv
published_as: preprint
year: 2026
arxiv: "2601.00001"
summary: Divide every activation by two.
claims:
  - {id: halves, statement: The output is half of the input.}
---
Halve everything.

## Method

$$y = x / 2$$

## When to use it

Never.

## Where re-implementations go wrong

- They multiply.
"""
ENTRY = """
  toy_halve:
    paper: toy_halve
    kind: activation
    target: zoo.activations.toy_halve:Halve
    parity: {oracle: arithmetic, test: "tests/activations/test_toy_halve.py::test_halves", tolerance: 0.0}
"""
TEST = """import torch

import zoo


def test_halves(parity):
    x = torch.randn(3, dtype=torch.float64)
    parity("toy_halve", (zoo.create("toy_halve")(x) - 0.5 * x).abs().max(), 0.0, oracle="arithmetic")
"""
USE = """
import zoo
assert "toy_halve" in zoo.list_methods(kind="activation", year=2026)
assert zoo.search("halving considered")[0].paper == "toy_halve"
assert zoo.cite("2601.00001").startswith("@misc{toy2026halving,")
assert zoo.create("toy_halve")(4.0) == 2.0
model = zoo.create("test_resnet", act="toy_halve")
assert zoo.swap_report(model).complete
assert zoo.info("toy_halve").status == "not run"
"""


def test_four_files(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "repository"
    ignore = shutil.ignore_patterns("__pycache__", "*.safetensors", "build", "docs", ".git")
    shutil.copytree(root / "zoo", copy / "zoo", ignore=ignore)
    shutil.copytree(root / "catalog", copy / "catalog")
    for name in ("registry.yaml", "registry.lock.json", "pyproject.toml"):
        shutil.copy(root / name, copy / name)
    (copy / "tests" / "activations").mkdir(parents=True)
    shutil.copy(root / "tests" / "conftest.py", copy / "tests" / "conftest.py")

    (copy / "zoo" / "activations" / "toy_halve.py").write_text(IMPLEMENTATION)  # 1
    (copy / "catalog" / "activations" / "toy_halve.md").write_text(PAGE)  # 2
    (copy / "tests" / "activations" / "test_toy_halve.py").write_text(TEST)  # 3
    registry = (copy / "registry.yaml").read_text()
    (copy / "registry.yaml").write_text(registry.replace("\nmodels:", ENTRY + "\nmodels:", 1))  # 4

    environment = {**os.environ, "PYTHONPATH": str(copy), "ZOO_CACHE": str(tmp_path / "cache")}

    def run(*command: str) -> str:
        done = subprocess.run([sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "0 problems" in run("-m", "zoo.cli", "check", "--targets")
    run("-c", USE)
    run("-m", "pytest", "-n", "0", "-o", "addopts=", "tests/activations/test_toy_halve.py", "--write-evidence")
    evidence = (copy / "catalog" / "activations" / "toy_halve.evidence.json").read_text()
    assert '"error": 0.0' in evidence
