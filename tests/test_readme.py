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


def test_the_project_speaks_only_of_itself(root) -> None:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True)
    if done.returncode != 0:
        return  # an unpacked archive has no list of its own files
    leaks = []
    pattern = re.compile(
        r"(^|[^A-Za-z0-9_./-])/(?:work|root|tmp/lab)/|pythonhosted|pypi\.org/simple|registry\.npmjs", flags=re.M
    )
    kinds = {".py", ".md", ".yaml", ".yml", ".toml", ".json", ".sh"}
    for path in (root / name for name in done.stdout.split("\0") if name and name != "tests/test_readme.py"):
        readable = path.suffix in kinds and path.is_file()
        if readable and pattern.search(path.read_text(encoding="utf-8", errors="ignore")):
            leaks.append(str(path))
    assert leaks == []
