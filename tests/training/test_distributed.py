"""Two gloo processes end where one ends: plain methods, two networks, bilevel ones; DDP and FSDP2; and a control."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from zoo.errors import ZooError
from zoo.training import distributed
from zoo.training.data import Data
from zoo.training.engine import train

pytestmark = pytest.mark.slow

CLEAN = {"name": "digits", "test": 300, "validation": 0.1, "clean_per_class": 4}
MODEL = {
    "name": "zoo.models.resnet:resnet8",
    "args": {"width": 4},
    "swaps": {"norm": {"group_norm": {"num_groups": 2}}},
}
CASES = {
    "ce": {"method": "cross_entropy"},
    "ce lars": {"method": "cross_entropy", "optimizer": {"lars": {"lr": 1.0}}},
    "ce lamb clip": {"method": "gce", "optimizer": {"lamb": {"lr": 0.01}}, "clip": 0.5},
    "elr lans": {"method": "elr", "optimizer": {"lans": {"lr": 0.01}}},
    "elr adax": {"method": "elr", "optimizer": {"adax_w": {"lr": 0.01}}},
    "elr adabound": {"method": "elr", "optimizer": {"adabound": {"lr": 0.01}}},
    "mixup": {"method": "mixup", "augment": [{"shift": {"pixels": 1}}]},
    "peer_loss": {"method": "peer_loss"},
    "co_teaching": {"method": {"co_teaching": {"forget_rate": 0.4, "ramp": 1}}, "clip": 1.0},
    "dividemix": {"method": {"dividemix": {"warmup": 1}}},
    "learning_to_reweight": {"method": "learning_to_reweight"},
    "meta_weight_net": {"method": "meta_weight_net"},
    "mlnt": {"method": {"mlnt": {"num_sets": 1, "ramp": [0, 4]}}},
}  # fmt: skip
SHARDED = ("ce", "ce lars", "ce lamb clip", "elr lans", "elr adax", "elr adabound", "co_teaching")
#: Also in float32; look-ahead methods amplify its rounding to some 1e-5 within four steps.
SINGLE = ("ce", "elr lans", "co_teaching", "learning_to_reweight")


def fields(case: str, **more):
    base = {"model": MODEL, "data": CLEAN, "noise": {"name": "symmetric_exclusive", "rate": 0.4}}
    base |= {"optimizer": {"sgd": {"lr": 0.05, "momentum": 0.9}}, "epochs": 2, "batch": 512}
    return {**base, **CASES[case], **more}


def state(result) -> dict[str, torch.Tensor]:
    found = distributed.whole(result.algorithm.state_dict())
    return {k: v.clone() for k, v in found.items() if isinstance(v, torch.Tensor)}


@contextmanager
def double():
    """Networks and inputs in float64, where rounding explains no difference above 1e-9."""
    prepare = Data.prepare
    Data.prepare = lambda self, images: prepare(self, images).double()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        Data.prepare = prepare
        torch.set_default_dtype(torch.float32)


class Stop(Exception):
    pass


def stop(step: int) -> None:
    if step == 3:
        raise Stop


def worker(rank: int, port: int, folder: str) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
    }
    torch.set_num_threads(1)
    with distributed.world("cpu"):
        with double():
            found = {f"ddp {case}": state(train(fields(case), device="cpu")) for case in CASES}
            found |= {f"fsdp2 {case}": state(train(fields(case, parallel="fsdp2"), device="cpu")) for case in SHARDED}
        found |= {f"single {case}": state(train(fields(case), device="cpu")) for case in SINGLE}
        for parallel in ("ddp", "fsdp2"):  # stopped with two processes; the test goes on with one
            out = Path(folder) / parallel
            with pytest.raises(Stop):
                train(fields("elr lans", parallel=parallel, checkpoint_steps=1), out, device="cpu", on_step=stop)
            found[f"resumed by two {parallel}"] = state(
                train(fields("elr lans", parallel=parallel), Path(folder) / f"{parallel}2", device="cpu")
            )
        with pytest.raises(ZooError, match="needs whole parameters"):
            train(fields("learning_to_reweight", parallel="fsdp2"), device="cpu")
        with pytest.raises(ZooError, match="511 does not divide into 2 processes; take 510 or 512"):
            train(fields("ce", batch=511), device="cpu")
        real = distributed._Gather.backward
        distributed._Gather.backward = staticmethod(lambda ctx, g: real(ctx, g) / 2)
        found["control"] = state(train(fields("ce"), device="cpu"))
        distributed._Gather.backward = staticmethod(real)
    if rank == 0:
        torch.save(found, Path(folder) / "found.pt")


def difference(a, b) -> float:
    assert a.keys() == b.keys()
    return max(float((a[k].double().nan_to_num(9.0) - b[k].double().nan_to_num(9.0)).abs().max()) for k in a)


def test_two_processes_take_the_path_of_one(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(worker, args=(port, str(tmp_path)), nprocs=2)
    found = torch.load(tmp_path / "found.pt")
    with double():
        exact = {case: state(train(fields(case), device="cpu")) for case in CASES}
    single = {case: state(train(fields(case), device="cpu")) for case in SINGLE}
    errors = {case: difference(found[f"ddp {case}"], exact[case]) for case in CASES}
    errors |= {f"sharded {case}": difference(found[f"fsdp2 {case}"], exact[case]) for case in SHARDED}
    print(errors)
    assert {name: e for name, e in errors.items() if not e <= 1e-9} == {}
    errors = {case: difference(found[f"single {case}"], single[case]) for case in SINGLE}
    assert {name: e for name, e in errors.items() if not e <= 2e-6} == {}
    assert difference(found["control"], single["ce"]) > 1e-4, "half of the gradient went unnoticed"
    for parallel in ("ddp", "fsdp2"):
        resumed = state(train(fields("elr lans"), tmp_path / parallel, device="cpu"))
        assert difference(resumed, single["elr lans"]) <= 2e-6, parallel
