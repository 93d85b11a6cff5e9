"""The built wheel works outside the checkout, and says so when its data are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

USE = """
import sys
from pathlib import Path
import zoo
assert "site" in str(Path(zoo.__file__)) , zoo.__file__
assert len(zoo.list_papers()) > 10
assert zoo.info("gn_resnet50").paper.arxiv == "1803.08494"
assert "torch" not in sys.modules
model = zoo.create("gn_resnet8_digits", pretrained=True)
assert zoo.load_report(model).share == 1.0
import zoo.cli
sys.argv = ["zoo", "show", "group_norm"]
zoo.cli.main()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = Path(__file__).resolve().parent.parent
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(root)],
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with only the wheel; the heavy dependencies are those of this interpreter."""
    folder = tmp_path_factory.mktemp("clean")
    site = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return folder


def _run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    # -P and an own first path: the checkout is neither the working directory nor found before the wheel.
    environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "ZOO_CACHE": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_wheel_holds_its_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "zoo/_data/registry.yaml",
        "zoo/_data/registry.lock.json",
        "zoo/_data/catalog/normalization/group_norm.md",
        "zoo/models/weights/gn_resnet8_digits.safetensors",
        "zoo/py.typed",
    ):
        assert needed in names
    assert not [n for n in names if n.startswith(("tests/", "docs/", "benchmarks/"))]
    assert len(names) == len(set(names))


def test_installed_wheel_creates_lists_and_shows(environment: Path) -> None:
    done = _run(environment, USE)
    assert done.returncode == 0, done.stderr
    assert "Group Normalization" in done.stdout


def test_wheel_without_data_says_so(environment: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(environment / "site", broken / "site")
    shutil.rmtree(broken / "site" / "zoo" / "_data")
    done = _run(broken, "import zoo; zoo.list_models()")
    assert done.returncode == 1
    assert "has no registry.yaml and catalog; install it again" in done.stderr
