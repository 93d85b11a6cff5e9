"""Two gloo processes end where one ends: every optimizer, plain methods, two networks, bilevel ones; DDP and FSDP2.

In float64 the two paths agree to 1e-12 after four steps, so that they are one computation. In float32 they differ by
the order in which a sum is rounded and by nothing else: one process that takes the same rows in another order moves as far.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from two_processes import difference, double, fields, state, two, unsafe_optimizer

from zoo.errors import ZooError
from zoo.training import distributed
from zoo.training.engine import Engine, train
from zoo.training.names import OPTIMIZERS, of_kind
from zoo.training.recipe import Loaded, RecipeError, load

MLP = {"name": "zoo.models.mlp:mlp", "args": {"hidden": [16]}}
STEPS = {"sgd": {"lr": 0.05, "momentum": 0.9}, "lars": {"lr": 1.0}}
#: Optimizers that a recipe can name; the others need parameter groups of their own.
NAMES = [*OPTIMIZERS, "adabound", "adax", "adax_w", "amsbound", "lamb", "lans", "lars"]
CASES = {name: {"model": MLP, "optimizer": {name: STEPS.get(name, {"lr": 0.01})}} for name in NAMES} | {
    "resnet": {},
    "gce clip": {"method": "gce", "optimizer": {"lamb": {"lr": 0.01}}, "clip": 0.5},
    "elr": {"method": "elr", "optimizer": {"lans": {"lr": 0.01}}},
    "mixup": {"method": "mixup", "augment": [{"shift": {"pixels": 1}}]},
    "peer_loss": {"method": "peer_loss"},
    "co_teaching": {"method": {"co_teaching": {"forget_rate": 0.4, "ramp": 1}}, "clip": 1.0},
    "co_teaching_plus": {"method": {"co_teaching_plus": {"warmup": 1}}},
    "jocor": {"method": "jocor"},
    "dividemix": {"method": {"dividemix": {"warmup": 1}}},
    "learning_to_reweight": {"method": "learning_to_reweight"},
    "meta_weight_net": {"method": "meta_weight_net"},
    "mlnt": {"method": {"mlnt": {"num_sets": 1, "ramp": [0, 4]}}},
}  # fmt: skip
SHARDED = (
    *NAMES,
    "resnet",
    "gce clip",
    "elr",
    "mixup",
    "peer_loss",
    "co_teaching",
    "co_teaching_plus",
    "jocor",
    "dividemix",
)
#: Cases whose draws do not go by the place of a row in its batch, so that the order of the rows decides rounding alone.
REORDERED = (*NAMES, "resnet", "gce clip", "elr", "co_teaching", "learning_to_reweight", "meta_weight_net")


def run(case: str, **more) -> dict[str, torch.Tensor]:
    return state(train(fields(**CASES[case], **more), device="cpu"))


def past_the_refusal(**changes) -> Loaded:
    """A sharded recipe whose optimizer was not asked whether it is right on shards."""
    loaded = load(fields(model=MLP, optimizer={"local_ratio": {"lr": 0.1}}))
    return Loaded(loaded.recipe.model_copy(update=changes), "unsafe")


class Stop(Exception):
    pass


def stop(step: int) -> None:
    if step == 3:
        raise Stop


def work(rank: int, folder: str) -> None:
    found = {}
    with double():
        found |= {f"ddp {case}": run(case) for case in CASES}
        found |= {f"fsdp2 {case}": run(case, parallel="fsdp2") for case in SHARDED}
    found |= {f"single {case}": run(case) for case in CASES}
    for parallel in ("ddp", "fsdp2"):  # stopped with two processes; the test goes on with one
        recipe = fields(**CASES["elr"], parallel=parallel, checkpoint_steps=1)
        with pytest.raises(Stop):
            train(recipe, Path(folder) / parallel, device="cpu", on_step=stop)
    with pytest.raises(ZooError, match="needs whole parameters"):
        run("learning_to_reweight", parallel="fsdp2")
    with pytest.raises(ZooError, match="511 does not divide into 2 processes; take 510 or 512"):
        run("resnet", batch=511)
    with unsafe_optimizer(Path(folder)), double():
        for parallel in ("ddp", "fsdp2"):
            found[f"unsafe {parallel}"] = state(train(past_the_refusal(parallel=parallel), device="cpu"))
    real = distributed._Gather.backward
    distributed._Gather.backward = staticmethod(lambda ctx, g: real(ctx, g) / 2)
    found["control"] = run("resnet")
    distributed._Gather.backward = staticmethod(real)
    if rank == 0:
        torch.save(found, Path(folder) / "found.pt")


def backwards(monkeypatch) -> None:
    real = Engine._indices
    monkeypatch.setattr(Engine, "_indices", lambda self, epoch: [rows.flip(0) for rows in real(self, epoch)])


@pytest.mark.slow
def test_two_processes_take_the_path_of_one(tmp_path, monkeypatch):
    two(work, str(tmp_path))
    found = torch.load(tmp_path / "found.pt")
    with double():
        exact = {case: run(case) for case in CASES}
    single = {case: run(case) for case in CASES}
    with monkeypatch.context() as patch:
        backwards(patch)
        reordered = {case: difference(run(case), single[case]) for case in REORDERED}
        with double():
            assert max(difference(run(case), exact[case]) for case in REORDERED) <= 1e-12, "the order of rows matters"

    errors = {case: difference(found[f"ddp {case}"], exact[case]) for case in CASES}
    errors |= {f"sharded {case}": difference(found[f"fsdp2 {case}"], exact[case]) for case in SHARDED}
    print("float64", errors)
    assert {name: e for name, e in errors.items() if not e <= 1e-12} == {}

    errors = {case: difference(found[f"single {case}"], single[case]) for case in CASES}
    print("float32", errors, "one process, rows backwards", reordered)
    assert {name: e for name, e in errors.items() if not e <= max(1e-6, 4 * reordered.get(name, 1e-6))} == {}
    assert max(errors.values()) <= 2e-5

    assert difference(found["control"], single["resnet"]) > 1e-4, "half of the gradient went unnoticed"
    for parallel in ("ddp", "fsdp2"):
        recipe = fields(**CASES["elr"])
        assert difference(state(train(recipe, tmp_path / parallel, device="cpu")), single["elr"]) <= 2e-6, parallel

    with unsafe_optimizer(tmp_path), double():
        alone = state(train(past_the_refusal(), device="cpu"))
    differences = {parallel: difference(found[f"unsafe {parallel}"], alone) for parallel in ("ddp", "fsdp2")}
    print("optimizer that is not right on shards", differences)
    assert differences["ddp"] <= 1e-12
    assert differences["fsdp2"] > 1e-3, "an optimizer that takes norms of shards went unnoticed"


def test_optimizer_that_is_wrong_on_shards_is_refused(tmp_path):
    """In the normal path; what it would do is measured in the test with two processes."""
    recipe = fields(model=MLP, optimizer={"local_ratio": {"lr": 0.1}})
    with unsafe_optimizer(tmp_path):
        load(recipe)
        with pytest.raises(
            RecipeError, match="local_ratio is not right on shards: its update looks at a whole parameter"
        ):
            load({**recipe, "parallel": "fsdp2"})
        with pytest.raises(RecipeError, match="local_ratio is not right on shards"):
            train(recipe, overrides={"parallel": "fsdp2"}, device="cpu")
    with pytest.raises(RecipeError, match="local_ratio"):
        load(recipe)


def test_every_optimizer_is_tried():
    """A new optimizer joins the list, or needs groups that a recipe cannot express."""
    from zoo.registry.lookup import registry

    grouped = {n for n in of_kind("optimizer") if "parameter_groups" in registry().method(n).needs}
    assert set(NAMES) == {*OPTIMIZERS, *of_kind("optimizer")} - grouped
