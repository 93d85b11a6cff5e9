"""Contracts of optimizers and schedules, and what every entry of the registry owes its reader."""

from __future__ import annotations

import copy
import inspect
import io

import pytest
import torch
from torch import nn

import zoo
from zoo.factory.targets import load_target, parameters_of
from zoo.registry.lookup import registry

METHODS = registry().raw.methods
OPTIMIZERS = [n for n, m in METHODS.items() if m["kind"] == "optimizer"]
SCHEDULES = [n for n, m in METHODS.items() if m["kind"] == "schedule"]


def problem() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
    x = torch.randn(64, 6)
    return model, x, x[:, :1] * 2 - x[:, 1:2]


def make(name: str, model: nn.Module) -> torch.optim.Optimizer:
    return zoo.create(name, model.parameters(), lr=1e-2)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> float:
    loss = (model(x) - y).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_learns_and_stays_finite(name: str) -> None:
    model, x, y = problem()
    optimizer = make(name, model)
    losses = [step(model, optimizer, x, y) for _ in range(60)]
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert min(losses[-5:]) < 0.9 * losses[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_resumes_bit_for_bit(name: str) -> None:
    model, x, y = problem()
    optimizer = make(name, model)
    for _ in range(5):
        step(model, optimizer, x, y)
    buffer = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    twin, *_ = problem()
    other = make(name, twin)
    twin.load_state_dict(saved["model"])
    other.load_state_dict(saved["optimizer"])
    for _ in range(3):
        step(model, optimizer, x, y)
        step(twin, other, x, y)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_takes_a_closure_and_skips_missing_gradients(name: str) -> None:
    model, x, y = problem()
    optimizer = make(name, model)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        return loss

    assert float(optimizer.step(closure)) > 0
    model[0].weight.grad = None
    before = model[0].weight.detach().clone()
    optimizer.step()
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_updates_groups_added_later_and_deepcopies(name: str) -> None:
    model, x, y = problem()
    optimizer = zoo.create(name, model[0].parameters(), lr=1e-2)
    step(model, optimizer, x, y)
    optimizer.add_param_group({"params": list(model[2].parameters())})
    before = model[2].weight.detach().clone()
    step(model, optimizer, x, y)
    assert not torch.equal(model[2].weight, before)
    copy.deepcopy(optimizer)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_refuses_a_bad_rate(name: str) -> None:
    model, *_ = problem()
    if METHODS[name]["target"].startswith("timm."):
        pytest.skip("timm's optimizers do not check their learning rate")
    with pytest.raises(ValueError, match="lr"):
        zoo.create(name, model.parameters(), lr=-1.0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_resumes(name: str) -> None:
    def fresh() -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
        arguments = {"T_0": 5} if "T_0" in parameters_of(load_target(METHODS[name]["target"])) else {}
        return optimizer, zoo.create(name, optimizer, **arguments)

    optimizer, schedule = fresh()
    rates = []
    for _ in range(12):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    again, twin = fresh()
    for _ in range(6):
        again.step()
        twin.step()
    state = twin.state_dict()
    _, resumed = fresh()
    resumed.load_state_dict(state)
    assert resumed.get_last_lr()[0] == pytest.approx(rates[6])
    assert len(set(rates)) > 3


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_read(name: str) -> None:
    target = load_target(METHODS[name]["target"])
    assert callable(target)
    if METHODS[name]["target"].startswith("zoo."):
        assert inspect.getdoc(target), f"{name} has no docstring"
        assert len(inspect.getdoc(target)) > 60, f"{name}: its docstring says next to nothing"


@pytest.mark.parametrize("name", METHODS)
def test_parity_names_a_test_that_records_it(name: str, root) -> None:
    """Every method has independent evidence: the named test exists and calls the recorder with this method's id."""
    parity = METHODS[name].get("parity")
    assert parity, f"{name} has no parity entry"
    file, _, test = parity["test"].partition("::")
    text = (root / file).read_text(encoding="utf-8")
    function = test.rpartition("::")[2]
    assert f"def {function}(" in text, f"{name}: {parity['test']} does not exist"
    body = text.split(f"def {function}(", 1)[1].split("\ndef ", 1)[0]
    assert "parity(" in body, f"{name}: {parity['test']} records nothing"


def test_defaults_in_the_catalog_name_parameters_or_say_what_they_are() -> None:
    reg = registry()
    for paper, record in reg.raw.papers.items():
        names = [d["name"] for d in record.get("defaults", ())]
        assert len(names) == len(set(names)), f"{paper}: a default stands twice"
