"""Joint training on the bAbI tasks: the data put together, a tiny run of the command, and that a run goes on."""

from __future__ import annotations

import json

import pytest
import torch

from zoo.training.bundled import babi_joint, memn2n


def test_together_keeps_every_task_apart():
    parts = [memn2n.load(t, True, questions=20) for t in (1, 4, 19)]
    joint = babi_joint.together(parts)
    assert joint.stories.shape[0] == joint.questions.shape[0] == len(joint.answers) == 60
    assert joint.stories.shape[2] == joint.questions.shape[1] == max(p.stories.shape[2] for p in parts)
    slots = joint.stories.shape[1]
    assert slots == max(int((p.stories != 0).any(-1).sum(1).max()) for p in parts)
    for i, part in enumerate(parts):
        rows, words = slice(20 * i, 20 * i + 20), part.stories.shape[2]
        assert torch.equal(joint.stories[rows, :, :words], part.stories[:, :slots])
        assert not joint.stories[rows, :, words:].any()
        assert not joint.questions[rows, words:].any()
        assert torch.equal(joint.questions[rows, :words], part.questions)
        assert torch.equal(joint.answers[rows], part.answers)


def test_errors_of_every_task():
    """A network that always gives the first answer of task 1."""
    joint = babi_joint.together([memn2n.load(t, False, questions=20) for t in (1, 15)])

    class Constant(torch.nn.Module):
        def forward(self, stories, questions):
            return torch.nn.functional.one_hot(joint.answers[:1], 400).expand(len(stories), -1)

    want = [100 - 5.0 * int((joint.answers[i : i + 20] == joint.answers[0]).sum()) for i in (0, 20)]
    assert babi_joint.errors(Constant(), joint, 2) == want


def test_command(tmp_path, capsys):
    out = tmp_path / "joint.json"
    options = [
        "--tasks",
        "1",
        "20",
        "--questions",
        "64",
        "--linear",
        "1",
        "--epochs",
        "2",
        "--halve",
        "1",
        "--dim",
        "8",
    ]
    babi_joint.main([*options, "--out", str(out)])
    first = json.loads(out.read_text())
    assert [r["task"] for r in first["rows"]] == first["tasks"] == [1, 20]
    assert first["mean"] == pytest.approx(sum(r["memn2n"] for r in first["rows"]) / 2, abs=0.01)
    _, again = babi_joint.run([1, 20], 0, 64, 1, 2, 1, 8)
    assert again["test"] == [r["memn2n"] for r in first["rows"]]
    babi_joint.main([*options, "--restarts", "2", "--out", str(out)])  # goes on with the second seed
    both = json.loads(out.read_text())
    assert both["restarts"][0] == first["restarts"][0]
    assert len(both["restarts"]) == 2
    best = min(both["restarts"], key=lambda r: sum(r["train"]))
    assert [r["memn2n"] for r in both["rows"]] == best["test"]
    with pytest.raises(SystemExit):
        babi_joint.main([*options, "--epochs", "3", "--out", str(out)])
    assert "give another --out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        babi_joint.main(["--tasks", "21"])


def test_rate_is_halved_where_told():
    torch.manual_seed(0)
    data = memn2n.load(1, True, questions=32)
    ends = []
    for halve in (1, 2, 25):
        torch.manual_seed(0)
        model = babi_joint.MemN2N(400, 8, noise=0.0)
        memn2n.train(model, data, 0, linear=0, epochs=2, halve=halve)
        ends.append(model.tables[0].weight.detach())
    assert torch.equal(ends[1], ends[2])
    assert not torch.equal(ends[0], ends[1])
