"""The loop gives each method what it needs; a killed run goes on bit for bit; the report is right."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.errors import ZooError
from zoo.training.data import load_data
from zoo.training.engine import derive, train
from zoo.training.recipe import RecipeError, load
from zoo.training.report import ranking

CLEAN = {"name": "digits", "test": 300, "validation": 0.1, "clean_per_class": 5}
METHODS = {
    "cross_entropy": {}, "gce": {}, "unigram_label_smoothing": {}, "forward_correction": {"T": "noise"},
    "confidence_penalty": {"beta": 0.2, "ramp": 8}, "elr": {}, "mixup": {}, "peer_loss": {}, "co_teaching": {}, "co_teaching_plus": {"warmup": 1},
    "jocor": {}, "learning_to_reweight": {}, "meta_weight_net": {}, "mlnt": {"num_sets": 1, "ramp": [0, 4]}, "dividemix": {"warmup": 1},
}  # fmt: skip


def tensors(state) -> dict[str, torch.Tensor]:
    return {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}


def same(a, b) -> bool:
    a, b = tensors(a.algorithm.state_dict()), tensors(b.algorithm.state_dict())
    return a.keys() == b.keys() and all(torch.equal(a[k].nan_to_num(7.0), b[k].nan_to_num(7.0)) for k in a)


def rows(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


class Stop(Exception):
    pass


def stop_at(step):
    def hook(done):
        if done == step:
            raise Stop

    return hook


def test_plain_run_equals_the_loop_written_out(small):
    """SGD with momentum on cross-entropy, step for step, from the same data and the same order."""
    fields = small(noise=None, epochs=3)
    result = train(fields, device="cpu")
    data = load_data(load(fields))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    velocity = [torch.zeros_like(p) for p in net.parameters()]
    for epoch in range(3):
        generator = torch.Generator().manual_seed(derive(0, "order", epoch))
        order = torch.randperm(len(data.train), generator=generator)
        for i in range(len(data.train) // 256):
            index = order[256 * i : 256 * (i + 1)]
            x = (data.train.images[index] - 0.5) / 0.5
            loss = -F.log_softmax(net(x), 1)[torch.arange(256), data.train.labels[index]].mean()
            gradients = torch.autograd.grad(loss, list(net.parameters()))
            with torch.no_grad():
                for p, g, v in zip(net.parameters(), gradients, velocity, strict=True):
                    v.mul_(0.9).add_(g)
                    p.sub_(0.05 * v)
    for mine, theirs in zip(result.network.parameters(), net.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)
    net.eval()
    right = (net((data.test.images - 0.5) / 0.5).argmax(1) == data.test.labels).double().mean()
    assert result.report["last"]["test"] == pytest.approx(100 * float(right), abs=0.5)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_runs_and_goes_on_inside_an_epoch(method, small, tmp_path):
    fields = small(method={method: METHODS[method]}, data=CLEAN, checkpoint_steps=3)
    whole = train(fields, device="cpu")
    assert whole.history[-1]["step"] == 2 * (len(whole.data.train) // 256)
    with pytest.raises(Stop):
        train(fields, tmp_path, device="cpu", on_step=stop_at(7))
    resumed = train(fields, tmp_path, device="cpu")
    assert same(whole, resumed)
    assert rows(whole.history) == rows(resumed.history)


@pytest.mark.parametrize("changes", [
    {"optimizer": {"lans": {"lr": 0.01}}, "schedule": {"sgdr": {"T_0": 0.5, "T_mult": 1}}},
    {"optimizer": {"adamw": {"lr": 0.01}}, "schedule": {"one_cycle": {}}, "decay_1d": False, "clip": 1.0},
    {"optimizer": {"adabound": {"lr": 0.01}}, "schedule": {"cosine": {"warmup": 0.5}}, "augment": [{"shift": {"pixels": 1}}, "flip"]},
    {"optimizer": {"lars": {"lr": 1.0}}, "schedule": {"multi_step": {"milestones": [1]}}, "precision": "bfloat16"},
])  # fmt: skip
def test_optimizers_schedules_and_augmentation_go_on_exactly(changes, small, tmp_path):
    model = {"name": "zoo.models.resnet:resnet8", "args": {"width": 4}}
    fields = small(model=model, checkpoint_steps=1, **changes)
    whole = train(fields, device="cpu")
    with pytest.raises(Stop):
        train(fields, tmp_path, device="cpu", on_step=stop_at(5))
    resumed = train(fields, tmp_path, device="cpu")
    assert same(whole, resumed)
    assert rows(whole.history) == rows(resumed.history)


KILLED = """
import json, os, signal, sys
from zoo.training.engine import train
kill = int(sys.argv[3])
hook = (lambda step: os.kill(os.getpid(), signal.SIGKILL) if step == kill else None) if kill else None
train(json.loads(sys.argv[1]), sys.argv[2], device="cpu", on_step=hook)
"""


def test_kill_9_then_resume(small, tmp_path):
    """A process killed in the second epoch, a step after its last checkpoint: another one ends at the same bytes."""
    fields = small(method="elr", checkpoint_steps=2, epochs=2)
    command = [sys.executable, "-c", KILLED, json.dumps(fields)]
    killed = subprocess.run([*command, str(tmp_path / "b"), "7"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "b" / "report.json").exists()
    train(fields, tmp_path / "b", device="cpu")
    train(fields, tmp_path / "a", device="cpu")
    for name in ("last.safetensors", "best.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    first, second = (
        rows(map(json.loads, (tmp_path / d / "metrics.jsonl").read_text().splitlines())) for d in ("a", "b")
    )
    assert first == second
    assert list((tmp_path / "b").glob(".*")) == []


def test_finished_run_stays_as_it_is_and_other_recipes_are_refused(small, tmp_path):
    done = train(small(), tmp_path, device="cpu")
    steps: list[int] = []
    again = train(small(), tmp_path, device="cpu", on_step=steps.append)
    assert steps == []
    assert again.report["last"] == done.report["last"]
    with pytest.raises(ZooError, match="another recipe"):
        train(small(seed=1), tmp_path, device="cpu")
    train(small(seed=1), tmp_path, device="cpu", fresh=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(ZooError, match=r"cannot be read.*--fresh"):
        train(small(seed=1), tmp_path, device="cpu")


def test_metrics_cut_short_are_repaired(small, tmp_path):
    with pytest.raises(Stop):
        train(small(), tmp_path, device="cpu", on_step=stop_at(7))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"epoch": 2, "lo', encoding="utf-8")
    train(small(), tmp_path, device="cpu")
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2]


def test_last_and_best_are_of_their_epochs(small, tmp_path):
    result = train(small(epochs=6), tmp_path, device="cpu")
    validation = [row["validation"] for row in result.history]
    best = validation.index(max(validation)) + 1
    assert result.report["best"] == {k: result.history[best - 1][k] for k in ("epoch", "validation", "test")}
    assert result.report["last"]["epoch"] == 6
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "last.safetensors")
    assert all(torch.equal(weights[k], v) for k, v in result.network.state_dict().items())
    assert train(small(data={"name": "digits", "validation": 0}), device="cpu").report["best"] is None


def test_suspects_are_found(small):
    result = train(small(method="elr", epochs=12, batch=64), device="cpu")
    found = result.report["suspects"]
    assert found["k"] == int(result.data.wrong.sum())
    assert found["precision"] > 80 > found["chance"] + 30
    chosen = result.algorithm.suspects(found["k"])
    assert 100 * float(result.data.wrong[chosen].double().mean()) == pytest.approx(found["precision"], abs=1e-3)


def test_ranking_figures():
    wrong = torch.tensor([True, False, True, False])
    assert ranking(torch.tensor([0, 2, 1, 3]), wrong) == {
        "k": 2,
        "precision": 100,
        "recall": 100,
        "average_precision": 100,
        "chance": 50,
    }
    figures = ranking(torch.tensor([1, 0, 3, 2]), wrong)
    assert (figures["precision"], figures["recall"]) == (50, 50)
    assert figures["average_precision"] == pytest.approx(100 * (1 / 2 + 2 / 4) / 2)
    assert ranking(torch.tensor([0]), wrong) == {
        "k": 2,
        "precision": 100,
        "recall": 50,
        "average_precision": 50,
        "chance": 50,
    }


@pytest.mark.parametrize(("changes", "says"), [
    ({"batch": 5000}, "5000 is more than the"),
    ({"model": {"name": "zoo.models.mlp:mlp", "args": {"num_classes": 5}}}, "the data have 10 classes"),
    ({"model": "resnet9000"}, "Unknown name"),
    ({"model": {"name": "zoo.models.mlp:mlp", "args": {"hiden": [3]}}}, "Did you mean 'hidden'"),
    ({"model": {"name": "zoo.models.mlp:mlp", "args": {"in_features": 3}}}, "1 x 8 x 8 images"),
    ({"method": {"elr": {"beta": 2.0}}}, "method: elr: elr needs 0 <= beta < 1"),
    ({"method": "metacleaner"}, "metacleaner needs a network with timm's"),
    ({"optimizer": {"sgd": {"lr": -1}}}, "optimizer: sgd: Invalid learning rate"),
    ({"schedule": "multi_step"}, "milestones lists the epochs"),
    ({"data": {"name": "digits", "test": 5000}}, "5000 were to be held out"),
])  # fmt: skip
def test_early_errors(changes, says, small):
    with pytest.raises(RecipeError, match=says):
        train(small(**changes), device="cpu")


def test_diverging_loss_and_missing_device_are_said(small):
    with pytest.raises(ZooError, match=r"the loss of epoch 1 is (nan|inf).*learning rate"):
        train(small(optimizer={"sgd": {"lr": 1e20}}), device="cpu")
    with pytest.raises(ZooError, match="cannot be used"):
        train(small(), device="cuda:77")
