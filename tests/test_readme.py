"""The README's code runs as it stands, and its commands are the ones that CI runs."""

from __future__ import annotations

import re
import subprocess
import sys


def test_snippet_runs(root) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), flags=re.S)
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("import")]
    assert len(lines) <= 6
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "conv=weight_standardization" in done.stdout
    assert "ioffe2017batch" in done.stdout


def test_ci_runs_the_documented_test_command(root) -> None:
    readme, ci = (root / "README.md").read_text(), (root / ".ci/run").read_text()
    assert 'pip install -e ".[test]" && pytest' in readme
    assert re.search(r"^pytest$", ci, flags=re.M)
    assert re.search(r"^zoo demo$", ci, flags=re.M)
