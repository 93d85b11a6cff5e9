"""The command line: exit codes, JSON, near names, nothing on stdout but what was asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toy import make


def run(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zoo.cli", *arguments],
        capture_output=True, text=True, cwd=cwd, env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment},
    )  # fmt: skip


def test_list_json_and_table() -> None:
    rows = json.loads(run("list", "--kind", "norm", "--json").stdout)
    assert {"group_norm", "batch_norm", "layer_norm", "positional_norm"} <= {r["method"] for r in rows}
    assert {"method", "kind", "category", "year", "backing", "status"} == set(rows[0])
    text = run("list", "group_*").stdout
    assert "1 methods" in text
    assert "group_norm" in text


def test_list_models_and_papers() -> None:
    models = json.loads(run("list", "--what", "models", "--pretrained", "--json").stdout)
    assert "gn_resnet50" in {m["model"] for m in models}
    papers = json.loads(run("list", "--what", "papers", "--year", "2018-2018", "--json").stdout)
    assert "group_norm" in {p["paper"] for p in papers}
    permissive = json.loads(run("list", "--what", "models", "--license", "permissive", "--json").stdout)
    assert "gn_resnet8_digits" in {m["model"] for m in permissive}


def test_show_search_cite() -> None:
    shown = json.loads(run("show", "gn", "--json").stdout)
    assert shown["name"] == "group_norm"
    assert shown["papers"][0]["arxiv"] == "1803.08494"
    assert "gn_resnet50" in run("show", "group_norm").stdout
    hits = json.loads(run("search", "group", "normalization", "--json").stdout)
    assert hits[0]["paper"] == "group_norm"
    assert run("cite", "gn_resnet50").stdout.startswith("@inproceedings{wu2018group,")


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("show", "GroupNrom"), 1, "Did you mean 'group_norm'"),
        (("list", "--kind", "nrom"), 1, "Did you mean 'norm'"),
        (("list", "--category", "normalisation"), 1, "Did you mean 'normalization'"),
        (("crate", "resnet50"), 2, "create"),
        (("list", "--year", "soon"), 2, "a year (2018) or a range"),
        (("reproduce",), 2, "give a name, or --all"),
        (("reproduce", "group_norm", "--claim", "nothing"), 1, "Unknown claim"),
        (("schema", "--what", "regisrty"), 1, "Did you mean 'registry'"),
        (("bench", "spnie"), 1, "Did you mean 'spine'"),
        (("diff", "/nowhere"), 1, "has no registry.yaml"),
        (("check", "/nowhere"), 1, "cannot be read"),
    ],
)
def test_errors(arguments: tuple[str, ...], code: int, expected: str) -> None:
    done = run(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert expected in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_create_summary() -> None:
    done = run(
        "create",
        "test_resnet",
        "--norm",
        "{group_norm: {num_groups: 4}}",
        "--act",
        "mish",
        "--set",
        "num_classes=7",
        "--json",
    )
    found = json.loads(done.stdout)
    assert found["params"] > 100_000
    assert found["macs"] > 1e6
    assert [(s["swap"], s["left"]) for s in found["swaps"]] == [("norm", 0), ("act", 0)]
    assert "error: " in run("create", "test_resnet", "--norm", "batch_nrm").stderr


def test_check_counts_and_fails(tmp_path: Path) -> None:
    good = run("check", str(make(tmp_path / "good")), ZOO_CACHE=str(tmp_path / "cache"))
    assert good.returncode == 0
    assert "0 problems; 3 papers, 4 methods, 1 models" in good.stdout
    bad = make(tmp_path / "bad")
    (bad / "registry.yaml").write_text((bad / "registry.yaml").read_text().replace("kind: norm", "kind: nrom"))
    done = run("check", str(bad), "--json", ZOO_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert any("registry.yaml:2" in p for p in json.loads(done.stdout)["problems"])


def test_check_targets_of_the_wrong_class(tmp_path: Path) -> None:
    root = make(tmp_path)
    text = (root / "registry.yaml").read_text()
    text = text.replace('"torch.nn:Softplus"', '"torch.optim:SGD"').replace(
        "defaults: {num_groups: 32}", "defaults: {num_grups: 32}"
    )
    (root / "registry.yaml").write_text(text.replace('"torch.nn:Hardtanh"', '"torch.nn:Hardtan"'))
    done = run("check", str(root), "--targets", ZOO_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert "kind activation needs a subclass of torch.nn.Module" in done.stdout
    assert "torch.nn has no 'Hardtan'. Did you mean 'Hardtanh'" in done.stdout


def test_diff(tmp_path: Path) -> None:
    old, new = make(tmp_path / "old"), make(tmp_path / "new")
    text = (new / "registry.yaml").read_text()
    (new / "registry.yaml").write_text(
        text.replace("num_groups: 32", "num_groups: 16").replace("hard_step", "harder_step")
    )
    changes = json.loads(run("diff", str(old), str(new), "--json", ZOO_CACHE=str(tmp_path / "cache")).stdout)
    assert {(c["what"], c["name"]) for c in changes} == {
        ("changed", "group_norm"), ("removed", "hard_step"), ("added", "harder_step"),
    }  # fmt: skip
    assert next(c for c in changes if c["what"] == "changed")["fields"] == ["defaults"]


def test_schema_is_the_committed_one(root: Path) -> None:
    for what, file in (
        ("registry", "registry.schema.json"),
        ("page", "page.schema.json"),
        ("evidence", "evidence.schema.json"),
    ):
        assert run("schema", "--what", what).stdout == (root / "docs" / "schema" / file).read_text(), (
            f"zoo schema --what {what} --out docs/schema/{file}"
        )


def test_registry_points_editors_at_the_schema(root: Path) -> None:
    first = (root / "registry.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=docs/schema/registry.schema.json"


def test_demo() -> None:
    found = json.loads(run("demo", "--json").stdout)
    assert found["images"] == 360
    assert found["top1"] > 97
    text = run("demo").stdout
    for part in ("accuracy 99", "Group Normalization", "a1h_in1k", "zoo show group_norm", "CC BY 4.0"):
        assert part in text


def test_verify_bundled() -> None:
    found = json.loads(run("verify", "gn_resnet8_digits", "--json").stdout)
    assert found["tensors"] == 29
    assert len(found["sha256"]) == 64


def test_download_offline_says_so(tmp_path: Path) -> None:
    done = run("download", "gn_resnet50", HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(tmp_path))
    assert done.returncode == 1
    assert "zoo download gn_resnet50" in done.stderr


def test_lock_is_in_step() -> None:
    done = run("lock", "--check", "--json")
    assert done.returncode == 0, done.stdout


def test_version_help_completion() -> None:
    assert run("--version").stdout.startswith("paperzoo 0.")
    shown = run("--help").stdout
    for command in (
        *[
            "list",
            "show",
            "search",
            "create",
            "cite",
            "check",
            "lock",
            "schema",
            "diff",
            "demo",
            "docs",
            "reproduce",
            "bench",
            "train",
            "compare",
        ],
        *["download", "verify", "predict", "convert", "publish"],
    ):
        assert command in shown
    assert "--install-completion" in shown


def test_publish_is_a_dry_run_by_default(tmp_path: Path) -> None:
    done = run("publish", "gn_resnet8_digits", "--to", "me/gn-resnet8-digits", "--folder", str(tmp_path / "card"))
    assert done.returncode == 0, done.stderr
    assert "dry run: nothing was sent" in done.stdout
    assert {"README.md", "config.json", "model.safetensors", "test"} <= {p.name for p in (tmp_path / "card").iterdir()}
    assert "license: apache-2.0" in (tmp_path / "card" / "README.md").read_text()
    assert run("publish", "gn_resnet50", "--to", "me/x").returncode == 1


def test_predict_names_classes(tmp_path: Path) -> None:
    from PIL import Image

    from zoo.training.heldout import digits_heldout

    images, labels, _ = digits_heldout()
    files = []
    for i in range(3):
        files.append(str(tmp_path / f"{i}.png"))
        Image.fromarray((images[i, 0] * 15).numpy()).save(files[-1])
    found = json.loads(run("predict", "gn_resnet8_digits", *files, "--top", "2", "--json").stdout)
    assert [found[f][0]["index"] for f in files] == labels[:3].tolist()
    assert run("predict", "gn_resnet8_digits", str(tmp_path / "no.png")).returncode == 1


def test_summary_of_a_model_that_cannot_be_counted_for_no_stated_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.factory import summary

    def refuse(*_: object) -> dict[str, int]:
        raise AssertionError

    monkeypatch.setattr(summary, "cost", refuse)
    lines = summary.summary("resnet18", {"pretrained": False})["lines"]
    assert any("not counted: AssertionError" in line for line in lines)
