"""zoo train and zoo compare on the command line, and what they write."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
import typer
import yaml
from typer.testing import CliRunner

from zoo.cli.train import add_to
from zoo.errors import ZooError
from zoo.training.chart import chart
from zoo.training.compare import compare
from zoo.training.recipe import RecipeError

QUICK = {"model.args.hidden": [16], "batch": 256}


@pytest.fixture(scope="module")
def run():
    app = typer.Typer(pretty_exceptions_enable=False)
    add_to(app)
    return lambda *arguments: CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_train(run, small, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(yaml.safe_dump(small(method="elr")), encoding="utf-8")
    out = tmp_path / "run"
    done = run("train", str(recipe), "--out", str(out), "--set", "epochs=1", "--device", "cpu", "-q")
    assert done.exit_code == 0
    assert "last epoch 1: test" in done.output
    assert "best epoch 1 by noisy validation" in done.output
    assert "global batch 256, 1 process\n" in done.output
    report = json.loads((out / "report.json").read_text())
    assert report["fields"]["method"] == "elr"
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 1
    again = run("train", str(recipe), "--out", str(out), "--set", "epochs=1", "--device", "cpu", "--json")
    assert json.loads(again.output)["last"] == report["last"]
    with pytest.raises(RecipeError, match="--set epochs=none"):
        run("train", str(recipe), "--set", "epochs=none")


def test_train_lists_recipes(run):
    assert "digits_small" in json.loads(run("train", "--json").output)


def test_compare(run, tmp_path):
    options = [x for k, v in QUICK.items() for x in ("--set", f"{k}={v}")]
    done = run(
        "compare",
        "--methods",
        "ce, elr,learning_to_reweight",
        "--epochs",
        "2",
        "--seeds",
        "0,1",
        "--out",
        str(tmp_path),
        "--device",
        "cpu",
        "--json",
        *options,
    )
    result = json.loads(done.output)
    assert [r["method"] for r in result["rows"]] == ["ce", "elr", "learning_to_reweight"]
    assert result == json.loads((tmp_path / "compare.json").read_text())
    for r in result["rows"]:
        assert r["last"]["n"] == 2
        curve = result["curves"][r["method"]]
        assert curve[-1] == pytest.approx(r["last"]["mean"], abs=1e-3)
    drawing = ET.parse(tmp_path / "compare.svg").getroot()
    assert len(drawing.findall("{http://www.w3.org/2000/svg}polyline")) == 3


def test_all_methods_of_a_comparison_see_the_same_samples(monkeypatch):
    seen = {}

    def fake(loaded, **more):
        seen[str(loaded.recipe.method)] = loaded.recipe.data
        raise KeyboardInterrupt

    monkeypatch.setattr("zoo.training.engine.train", fake)
    for methods in (["ce", "meta_weight_net"], ["ce"]):
        with pytest.raises(KeyboardInterrupt):
            compare(methods)
        assert seen["ce"].clean_per_class == (10 if len(methods) == 2 else 0)


@pytest.mark.parametrize(("arguments", "says"), [
    ({"methods": ["ce", "erl"]}, "Did you mean 'elr'"),
    ({"methods": ["ce"], "data": "/nowhere"}, "digits, mnist5k, a folder"),
    ({"methods": ["ce"], "noise": "pair"}, "name:rate"),
    ({"methods": ["ce"], "noise": "pear:0.4"}, "Did you mean 'pair'"),
    ({"methods": []}, "at least one method"),
])  # fmt: skip
def test_bad_comparisons(arguments, says):
    with pytest.raises(ZooError, match=says):
        compare(**arguments)


def test_chart_places_points():
    root = ET.fromstring(chart({"a<b": [0.0, 10.0], "c": [5.0, 5.0]}, title="t & u", x_label="x", y_label="y"))
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    points = [[tuple(map(float, p.split(","))) for p in line.get("points").split()] for line in lines]
    (x0, bottom), (x1, top) = points[0]
    assert x0 < x1
    assert top < bottom
    assert points[1] == [(x0, (top + bottom) / 2), (x1, (top + bottom) / 2)]
    with pytest.raises(ValueError, match="at least one curve"):
        chart({}, title="", x_label="", y_label="")
