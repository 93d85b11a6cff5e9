"""Recipes are refused early, with the line, what was received and what is allowed."""

from __future__ import annotations

import pytest

from zoo.errors import UnknownName
from zoo.training.recipe import RecipeError, bundled, load

GOOD = """\
model: gn_resnet8_digits
data:
  name: digits
noise: {name: pair, rate: 0.4}
method: elr
optimizer:
  sgd: {lr: 0.1}
epochs: 2
batch: 64
"""


@pytest.fixture
def write(tmp_path):
    def make(text: str = GOOD):
        path = tmp_path / "r.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return make


def test_good(write):
    loaded = load(write())
    assert loaded.recipe.method == "elr"
    assert loaded.recipe.model.name == "gn_resnet8_digits"
    assert loaded.name == "r"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("epochs: 2", "epoch: 2", 8, "Did you mean 'epochs'"),
        ("epochs: 2", "epochs: 0", 8, "greater than or equal to 1"),
        ("name: pair", "name: symetric_exclusive", 4, "Did you mean 'symmetric_exclusive'"),
        ("rate: 0.4", "rate: 1.4", 4, "less than or equal to 1"),
        ("method: elr", "method: erl", 5, "Did you mean 'elr'"),
        ("method: elr", "method: lamb", 5, "'lamb' is of kind optimizer"),
        ("method: elr", "method: facenet", 5, r"'facenet' (metric_learning) needs more than class scores and labels"),
        ("method: elr", "method: deep_ensembles", 5, r"'deep_ensembles' (ensembles) needs more than class scores"),
        ("method: elr", "method: {elr: {lamda: 3}}", 5, "elr takes no argument 'lamda'. Did you mean 'lam'"),
        ("method: elr", "method: learning_to_reweight", 2, "needs a clean set: data.clean_per_class"),
        ("method: elr", "method: {forward_correction: {T: [[1]]}}\nschedule: cosin", 6, "Did you mean 'cosine'"),
        ("sgd: {lr: 0.1}", "sgd: {lr: 0.1, momentun: 0.9}", 7, "Did you mean 'momentum'"),
        ("sgd: {lr: 0.1}", "gce: {}", 6, "'gce' is of kind loss"),
        ("name: digits", "name: digit", 3, "Did you mean 'digits'"),
        ("name: digits", "name: folder", 2, "both need a path"),
        ("batch: 64", "batch: 64\naugment: [{flop: {}}]", 10, "Did you mean 'flip'"),
        ("sgd: {lr: 0.1}", "sgd: {lr: 0.1}\n  sgd: {lr: 0.2}", 8, "duplicate key"),
        ("sgd: {lr: 0.1}", "riemannian_bn: {lr: 0.1}", 6, "parameter groups"),
    ],
)
def test_bad(write, old, new, line, says):
    with pytest.raises(RecipeError) as caught:
        load(write(GOOD.replace(old, new)))
    assert f"r.yaml:{line}: " in str(caught.value)
    assert says in str(caught.value)


def test_every_problem_at_once(write):
    with pytest.raises(RecipeError) as caught:
        load(write(GOOD.replace("method: elr", "method: erl").replace("pair", "pear")))
    assert len(caught.value.problems) == 2


def test_numbers_with_exponents(write):
    """YAML 1.1 would read 1e-3 as text."""
    text = GOOD.replace("lr: 0.1", "lr: 1e-3, weight_decay: 5E-4").replace("method: elr", "method: {elr: {lam: 3e0}}")
    loaded = load(write(text), ["optimizer.sgd.momentum=9e-1"])
    assert loaded.recipe.optimizer == {"sgd": {"lr": 0.001, "weight_decay": 0.0005, "momentum": 0.9}}
    assert loaded.recipe.method == {"elr": {"lam": 3.0}}
    assert load(write(GOOD.replace("0.1}", "'1e-3'}"))).recipe.optimizer == {"sgd": {"lr": "1e-3"}}


def test_set_wins_and_is_named_in_errors(write):
    loaded = load(write(), ["method.elr.lam=7", "optimizer.sgd.lr=0.5", "data.test=100", "seed=3"])
    assert loaded.recipe.method == {"elr": {"lam": 7}}
    assert loaded.recipe.optimizer == {"sgd": {"lr": 0.5}}
    assert (loaded.recipe.data.test, loaded.recipe.seed) == (100, 3)
    for item, says in [
        ("noise.name=pear", "--set noise.name=pear: noise.name: unknown noise 'pear'. Did you mean 'pair'"),
        ("batch=0", "--set batch=0: batch: "),
        ("epochs", "takes field=value"),
        ("method.gce.q=1", "which has no 'gce'"),
        ("epochs.x=1", "which has no fields"),
    ]:
        with pytest.raises(RecipeError) as caught:
            load(write(), [item])
        assert says in str(caught.value), item


def test_unknown_recipe():
    with pytest.raises(UnknownName, match="Did you mean 'digits_small'"):
        load("digit_small")


@pytest.mark.parametrize("name", sorted(bundled()))
def test_bundled_recipes_are_valid(name):
    assert load(name).recipe.summary


def test_digest_follows_what_decides_numbers(write):
    digest = load(write()).recipe.digest()
    assert load(write(), ["parallel=fsdp2"]).recipe.digest() == digest
    assert load(write(), ["checkpoint_steps=3"]).recipe.digest() == digest
    assert load(write(), ["seed=1"]).recipe.digest() != digest
