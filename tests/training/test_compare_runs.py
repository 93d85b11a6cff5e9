"""zoo compare: what it takes from a recipe, methods with parameters, what is refused at once, runs that fail."""

from __future__ import annotations

import json

import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from zoo.cli.train import add_to
from zoo.errors import ZooError
from zoo.training import noise_table
from zoo.training.compare import compare, protocol
from zoo.training.recipe import RecipeError, load

QUICK = {"model.args.hidden": [16], "batch": 256, "epochs": 1}
#: Cross-entropy is NaN in its second epoch; the loss of MAE is bounded.
DIVERGING = {**QUICK, "epochs": 2, "optimizer.sgd.lr": 1e6}
TINY = {"data.per_class": 16, "data.test": 10, "batch": 12, "epochs": 1}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Ten classes of 16 training and 2 test images."""
    root = tmp_path_factory.mktemp("pictures")
    for part, count in (("train", 16), ("test", 2)):
        for label in range(10):
            place = root / part / f"class{label}"
            place.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8), (25 * label, 5 * i, 7)).save(place / f"{i}.png")
    return str(root)


@pytest.fixture
def caught(monkeypatch):
    """The recipes that were to be trained, in order; no run finishes."""
    found = []

    def fake(loaded, **more):
        found.append(loaded)
        raise ZooError("not trained")

    monkeypatch.setattr("zoo.training.engine.train", fake)
    return found


def cli(*arguments):
    app = typer.Typer(pretty_exceptions_enable=False)
    add_to(app)
    return CliRunner().invoke(app, ["compare", "--device", "cpu", "-q", *arguments], catch_exceptions=False)


def options(changes):
    return [x for k, v in changes.items() for x in ("--set", f"{k}={v}")]


# --------------------------------------------------------------------------- protocol


@pytest.mark.parametrize("column", ["symmetric 40", "asymmetric 40"])
def test_the_bundled_recipe_repeats_the_runs_of_the_noise_table(pictures, caught, column):
    for method in ("gce", "co_teaching", "dividemix"):
        with pytest.raises(ZooError, match="not trained"):
            noise_table.run(method, column, 3, pictures, TINY)
    wanted = [loaded.recipe.digest() for loaded in caught]
    caught.clear()
    name, rate = noise_table.NOISE[column]
    forget = 0.4 if column == "symmetric 40" else 0.2
    compare(
        ["gce", "co_teaching", "dividemix"], recipe="cifar10_small", data=pictures, noise=f"{name}:{rate}", seeds=[3],
        overrides={
            **TINY, "data.clean_per_class": 10, "method.co_teaching.forget_rate": forget, "method.dividemix.warmup": 5,
        },
    )  # fmt: skip
    assert [loaded.recipe.digest() for loaded in caught] == wanted


def test_a_clean_set_is_held_out_of_methods_that_leave_it_unused(pictures, tmp_path):
    changes = {**TINY, "data.clean_per_class": 6}
    done = cli(
        "--recipe", "cifar10_small", "--data", pictures, "--methods", "ce,gce", "--noise", "symmetric_exclusive:0.4",
        "--out", str(tmp_path), "--json", *options(changes),
    )  # fmt: skip
    assert done.exit_code == 0
    result = json.loads(done.output)
    assert result["setting"] == f"{pictures}, symmetric_exclusive 0.4, small_convnet, 1 epochs"
    assert [row["last"]["n"] for row in result["rows"]] == [1, 1]
    with pytest.raises(
        RecipeError, match="100 is more than the 90 training samples that are left"
    ):  # 10 * (16 - 6) * 0.9
        compare(["ce"], recipe="cifar10_small", data=pictures, overrides={**changes, "batch": 100})


def test_a_recipe_about_something_else_gets_a_network_for_images(pictures, caught):
    compare(["ce"], data=pictures, overrides={"data.size": 8, "batch": 12})
    recipe = caught[0].recipe
    assert (recipe.model.name, recipe.model.args, recipe.noise) == ("zoo.models.resnet:resnet20", {}, None)
    assert (recipe.data.name, recipe.data.test, recipe.optimizer) == (
        "folder",
        None,
        load("digits_compare").recipe.optimizer,
    )


def test_a_recipe_of_timms_names_keeps_its_fields_for_another_name(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("data: {path: hfds/a/b, test_split: test}\n", encoding="utf-8")
    assert protocol("hfds/c/d", str(recipe), None, None, ()) == {"data.path": "hfds/c/d"}
    assert protocol(str(tmp_path), str(recipe), None, None, ())["data.name"] == "folder"
    recipe.write_text("data: hfds/a/b\n", encoding="utf-8")
    assert protocol("hfds/c/d", str(recipe), None, None, ()) == {"data.path": "hfds/c/d"}


def test_without_data_the_data_are_those_of_the_recipe(pictures, caught):
    compare(["ce"], recipe="cifar10_small", overrides={**TINY, "data.path": pictures})
    compare(["ce"], overrides=QUICK)
    assert [(c.recipe.data.name, c.recipe.noise.rate) for c in caught] == [("folder", 0.4), ("digits", 0.4)]


def test_the_clean_set_of_the_recipe_is_left_as_it_is(tmp_path, caught, small):
    recipe = tmp_path / "mine.json"
    fields = small()
    for clean, wanted in ((7, 7), (0, 10)):
        fields["data"]["clean_per_class"] = clean
        recipe.write_text(json.dumps(fields), encoding="utf-8")
        compare(["ce", "meta_weight_net"], recipe=str(recipe))
        assert [c.recipe.data.clean_per_class for c in caught[-2:]] == [wanted, wanted]


# --------------------------------------------------------------------------- parameters of a method


def test_methods_take_parameters():
    matrix = torch.full((10, 10), 0.4 / 9).fill_diagonal_(0.6)
    methods = ["ce", {"forward_correction": {"T": matrix}}, {"backward_correction": {"T": "noise"}}, {"gce": None}]
    result = compare(methods, overrides={**QUICK, "method.gce.q": 0.3}, device="cpu")
    assert [row["errors"] for row in result["rows"]] == [[]] * 4
    assert list(result["curves"]) == ["ce", "forward_correction", "backward_correction", "gce"]
    given = {row["method"]: row["parameters"] for row in result["rows"]}
    assert given["ce"] == {}
    assert given["gce"] == {"q": 0.3}
    assert given["forward_correction"]["T"] == matrix.tolist()
    same = compare({"gce": {"q": 0.3}, "forward_correction": {"T": "noise"}}, overrides=QUICK, device="cpu")
    assert same["curves"] == {name: result["curves"][name] for name in ("gce", "forward_correction")}
    assert same["curves"]["gce"] != compare(["gce"], overrides=QUICK, device="cpu")["curves"]["gce"]


def test_a_parameter_is_set_for_its_method_alone(caught, tmp_path):
    own = ("--set", "method.cross_entropy.label_smoothing=0.1", "--set", "method.co_teaching.forget_rate=0.4")
    cli("--methods", "ce,elr,co_teaching", "--out", str(tmp_path), *own)
    wanted = [{"ce": {"label_smoothing": 0.1}}, "elr", {"co_teaching": {"forget_rate": 0.4}}]
    assert [c.recipe.method for c in caught] == wanted


@pytest.mark.parametrize(("methods", "more", "says"), [
    (["elr", "gce"], {"overrides": {"method.rel.beta": 0.4}}, r"method\.rel\.beta=0\.4: .*Did you mean 'elr'.*has: elr, gce"),
    (["elr"], {"overrides": {"method.gce.q": 0.4}}, "Unknown method of this comparison 'gce'"),
    (["elr"], {"overrides": {"method": "ce"}}, "--methods says which methods are compared"),
    (["elr"], {"overrides": {"method.elr": {}}}, "--methods says which methods are compared"),
    (["elr"], {"overrides": {"method.elr.lamb": 1}}, "no argument 'lamb'. Did you mean 'lam'"),
    ([{"gce": {"p": 1}}], {}, "gce takes no argument 'p'"),
    ([{"gce": {"q": {1, 2}}}], {}, "parameters of gce are JSON types"),
    ([{"gce": {}, "elr": {}}], {}, "one name with its parameters"),
    (["elr", "gce", "elr"], {}, "'elr' is given twice; each"),
    (["ce", {"cross_entropy": {"label_smoothing": 0.1}}], {}, "'cross_entropy' is given twice .as 'ce'"),
    (["elr"], {"seeds": [0, 1, 0]}, "each seed is given once, received 0 more"),
])  # fmt: skip
def test_what_is_refused(methods, more, says, caught):
    with pytest.raises(ZooError, match=says):
        compare(methods, **more)
    assert not caught


# --------------------------------------------------------------------------- before the first training


def test_every_problem_is_said_before_the_first_training(caught):
    with pytest.raises(RecipeError) as error:
        compare(["ce", "metacleaner", "forward_correction", {"elr": {"beta": 7}}], seeds=[0, 1])
    assert len(error.value.problems) == 3
    for problem, name in zip(error.value.problems, ("metacleaner", "forward_correction", "elr"), strict=True):
        assert f"--set method={name}: method: {name}:" in problem
    assert not caught


@pytest.mark.parametrize(("changes", "says"), [
    ({"batch": 5000}, "5000 is more than"),
    ({"optimizer.sgd.lr": -1}, "sgd: Invalid learning rate"),
    ({"schedule": "multi_step"}, "milestones lists"),
    ({"model.args.hidden": "wide"}, "model: zoo.models.mlp:mlp"),
])  # fmt: skip
def test_what_a_training_would_refuse_is_refused_before_the_first(changes, says, caught):
    with pytest.raises(RecipeError, match=says):
        compare(["ce", "elr"], overrides=changes)
    with pytest.raises(ZooError, match="device 'cudo'"):
        compare(["ce"], device="cudo")
    assert not caught


def test_groups_of_a_class_fit_the_batch(pictures, caught):
    for batch in (12, 60):  # no multiple of 5; twelve groups of ten classes
        with pytest.raises(RecipeError, match=f"a multiple of 5, at most 50; received {batch}"):
            compare(["metacleaner"], recipe="cifar10_small", data=pictures, overrides={**TINY, "batch": batch})
    assert not caught
    compare(["metacleaner"], recipe="cifar10_small", data=pictures, overrides={**TINY, "batch": 50})
    assert len(caught) == 1


def test_the_folder_of_the_results_is_made_before_the_first_training(tmp_path, caught):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="cannot be the folder of the results"):
        compare(["ce"], overrides=QUICK, out=tmp_path / "file")
    assert not caught


# --------------------------------------------------------------------------- runs that fail


def test_a_run_that_fails_is_a_row_and_the_others_go_on(tmp_path):
    arguments = ("--seeds", "0,1", "--out", str(tmp_path), *options(DIVERGING))
    done = cli("--methods", "mae_loss,ce,gce", *arguments)
    assert done.exit_code == 1
    assert "ce failed with seed 1: the loss of epoch 2 is nan: lower the learning rate" in done.output
    result = json.loads((tmp_path / "compare.json").read_text())
    mae, ce, gce = result["rows"]
    assert [e["seed"] for e in ce["errors"]] == [0, 1]
    assert "the loss of epoch 2 is nan" in ce["errors"][0]["error"]
    assert (ce["last"], ce["seeds"]) == (None, [])
    for row in (mae, gce):
        assert (row["errors"], row["seeds"], row["last"]["n"]) == ([], [0, 1], 2)
    assert list(result["curves"]) == ["mae_loss", "gce"]
    assert "gce" in (tmp_path / "compare.svg").read_text()
    again = cli("--methods", "ce", "--json", *arguments)
    assert again.exit_code == 1
    assert json.loads(again.output)["curves"] == {}
    assert not (tmp_path / "compare.svg").exists()  # it would show another comparison


@pytest.mark.parametrize(
    "error", [ZooError("one"), ValueError("one"), torch.OutOfMemoryError("one"), OverflowError("one")]
)
def test_figures_are_those_of_the_seeds_that_finished(monkeypatch, error):
    from zoo.training.engine import train

    def fails(loaded, **more):
        if loaded.recipe.seed == 1:
            raise error
        return train(loaded, **more)

    monkeypatch.setattr("zoo.training.engine.train", fails)
    found = compare(["ce"], seeds=[0, 1, 2], overrides=QUICK, device="cpu")
    row = found["rows"][0]
    said = "one" if isinstance(error, ZooError) else f"{type(error).__name__}: one"
    assert (row["seeds"], row["last"]["n"], row["errors"]) == ([0, 2], 2, [{"seed": 1, "error": said}])
    assert found["curves"]["ce"] == compare(["ce"], seeds=[0, 2], overrides=QUICK, device="cpu")["curves"]["ce"]


def test_results_are_on_the_disk_after_every_run(tmp_path, monkeypatch):
    from zoo.training.engine import train

    seen = []

    def stops(loaded, **more):
        file = tmp_path / "compare.json"
        rows = json.loads(file.read_text())["rows"] if file.exists() else []
        seen.append([(row["method"], row["seeds"]) for row in rows])
        if len(seen) == 4:
            raise KeyboardInterrupt
        return train(loaded, **more)

    monkeypatch.setattr("zoo.training.engine.train", stops)
    with pytest.raises(KeyboardInterrupt):
        compare(["ce", "gce"], seeds=[0, 1], overrides=QUICK, out=tmp_path, device="cpu")
    assert seen == [[], [("ce", [0])], [("ce", [0, 1])], [("ce", [0, 1]), ("gce", [0])]]
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["compare.json", "compare.svg"]
