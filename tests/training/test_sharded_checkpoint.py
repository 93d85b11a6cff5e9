"""Sharded checkpoints: complete or not there, read by any number of processes, without running code they hold."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.checkpoint.metadata import BytesStorageMetadata
from two_processes import difference, double, fields, state, two

from zoo.errors import ZooError
from zoo.training import checkpoint, sharded
from zoo.training.distributed import World
from zoo.training.engine import train

ALONE = World(0, 1, torch.device("cpu"))


def parts(seed: int):
    """An algorithm's and an optimizer's state with what a flat list of tensors cannot hold."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 3))
    net.register_buffer("trust", torch.rand(9))
    net.register_buffer("empty", torch.zeros(0))
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.randn(4, 5)).square().sum().backward()
        optimizer.step()
        schedule.step()
    return net, optimizer, schedule


def write(folder: Path, seed: int, step: int) -> Path:
    net, optimizer, schedule = parts(seed)
    final = folder / f"checkpoint-{step:010d}"
    values = {"format": checkpoint.FORMAT, "algorithm": net.state_dict(), "optimizer": optimizer.state_dict()}
    progress = {"digest": "d", "step": step}
    sharded.save(final, {**values, "schedule": schedule.state_dict(), "progress": progress}, ALONE)
    return final


def flat(net, optimizer, schedule) -> list[torch.Tensor]:
    moments = [v for s in optimizer.state.values() for v in s.values()]
    return [*net.state_dict().values(), *moments, torch.tensor(schedule.get_last_lr())]


def test_everything_comes_back(tmp_path):
    write(tmp_path, seed=0, step=4)
    theirs = parts(0)
    for mine in (parts(1), (*(fresh := parts(2))[:1], torch.optim.AdamW(fresh[0].parameters(), lr=0.1))):
        if len(mine) == 2:
            mine = (*mine, torch.optim.lr_scheduler.ExponentialLR(mine[1], 0.5))
        assert not torch.equal(mine[0].trust, theirs[0].trust)
        found = checkpoint.read(tmp_path, "d", ALONE.device)
        checkpoint.restore(found, *mine)
        assert found["progress"]["step"] == 4
        assert all(torch.equal(a, b) for a, b in zip(flat(*mine), flat(*theirs), strict=True))


def test_newest_complete_one_counts(tmp_path, monkeypatch):
    first = write(tmp_path, seed=0, step=4)
    second = write(tmp_path, seed=1, step=11)
    assert checkpoint.published(tmp_path) == [first, second]
    assert checkpoint.read(tmp_path, "d", ALONE.device)["progress"]["step"] == 11

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sharded, "publish", crash)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, seed=2, step=20)
    assert (tmp_path / ".checkpoint-0000000020.tmp" / ".metadata").is_file()
    assert checkpoint.read(tmp_path, "d", ALONE.device)["progress"]["step"] == 11
    third = write(tmp_path, seed=2, step=20)
    checkpoint.remove_sharded(tmp_path, keep=third)
    assert [p.name for p in tmp_path.iterdir()] == [third.name]
    assert [p.name for p in checkpoint.published(tmp_path / "nowhere")] == []


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_index_runs_no_code(tmp_path):
    """DCP's own reader would: its index is a pickle."""
    path = write(tmp_path, seed=0, step=4)
    good = (path / ".metadata").read_bytes()
    (path / ".metadata").write_bytes(pickle.dumps(Evil(tmp_path / "executed")))
    with pytest.raises(ZooError, match=r"UnpicklingError: the index names .*mkdir, which is no record.*--fresh"):
        checkpoint.restore(checkpoint.read(tmp_path, "d", ALONE.device), *parts(1))
    metadata = pickle.loads(good)
    key = next(iter(metadata.state_dict_metadata))
    metadata.state_dict_metadata[key] = BytesStorageMetadata()
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(ZooError, match=rf"{key} is stored as BytesStorageMetadata, not as a tensor"):
        checkpoint.restore(checkpoint.read(tmp_path, "d", ALONE.device), *parts(1))
    (path / ".metadata").write_bytes(pickle.dumps([1]))
    with pytest.raises(ZooError, match="the index holds a list"):
        checkpoint.restore(checkpoint.read(tmp_path, "d", ALONE.device), *parts(1))
    assert not (tmp_path / "executed").exists()


def test_damaged_part(tmp_path):
    path = write(tmp_path, seed=0, step=4)
    (path / "rest.pt").write_bytes(b"half")
    with pytest.raises(ZooError, match=r"checkpoint-0000000004 cannot be read.*--fresh"):
        checkpoint.read(tmp_path, "d", ALONE.device)


# --------------------------------------------------------------------------- two processes

CASES = {
    "elr": fields(method="elr", optimizer={"lans": {"lr": 0.01}}, parallel="fsdp2", checkpoint_steps=1),
    "co_teaching": fields(
        method={"co_teaching": {"forget_rate": 0.4, "ramp": 1}}, optimizer={"adamw": {"lr": 0.01}}, clip=1.0,
        schedule="cosine", parallel="fsdp2", checkpoint_steps=1,
    ),
}  # fmt: skip


def killed(rank: int, folder: str, case: str, moment: str) -> None:
    """Train until the checkpoint of step 3 is being written; then one process is gone."""
    saves = []

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    real = FileSystemWriter.write_data

    def write_data(self, *rest):
        saves.append(1)
        if len(saves) == 3 and moment == "writing" and rank == 1:
            die()
        return real(self, *rest)

    FileSystemWriter.write_data = write_data
    publish = sharded.publish
    if moment == "publishing":
        sharded.publish = lambda *both: die() if len(saves) == 3 else publish(*both)
    with double():
        train(CASES[case], folder, device="cpu")


def rest_of_it(rank: int, folder: str) -> None:
    found = {}
    with double():
        for case in CASES:
            found[f"whole {case}"] = state(train(CASES[case], Path(folder) / f"whole {case}", device="cpu"))
            run = Path(folder) / f"two {case}"
            steps: list[int] = []
            found[f"two {case}"] = state(train(CASES[case], run, device="cpu", on_step=steps.append))
            assert steps == [3, 4], steps
            assert [p.name for p in checkpoint.published(run)] == ["checkpoint-0000000004"]
            assert not (run / checkpoint.FILE).exists()
    if rank == 0:
        torch.save(found, Path(folder) / "found.pt")


@pytest.mark.slow
def test_killed_while_it_writes(tmp_path):
    """Killed while data are written, or just before they are published: the checkpoint before is there, and two
    processes, or one, go on from it to the end of the uninterrupted run.
    """
    moments = dict(zip(CASES, ("writing", "publishing"), strict=True))
    for case, moment in moments.items():
        with pytest.raises(Exception, match="SIGKILL"):
            two(killed, str(tmp_path / f"two {case}"), case, moment)
        assert [p.name for p in checkpoint.published(tmp_path / f"two {case}")] == ["checkpoint-0000000002"]
        assert (tmp_path / f"two {case}" / ".checkpoint-0000000003.tmp").is_dir()
        for other in ("one", "ddp"):
            shutil.copytree(tmp_path / f"two {case}", tmp_path / f"{other} {case}")
    two(rest_of_it, str(tmp_path))
    found = torch.load(tmp_path / "found.pt")
    for case in CASES:
        assert difference(found[f"two {case}"], found[f"whole {case}"]) == 0, case
        steps: list[int] = []
        with double():
            alone = state(train(CASES[case], tmp_path / f"one {case}", device="cpu", on_step=steps.append))
        assert steps == [3, 4]
        assert difference(alone, found[f"whole {case}"]) <= 1e-10
        assert checkpoint.published(tmp_path / f"one {case}") == []
        assert (tmp_path / f"one {case}" / checkpoint.FILE).is_file()
        assert list((tmp_path / f"one {case}").glob(".*")) == []
