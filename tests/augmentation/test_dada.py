"""RELAX against the exact gradient, the straight-through gradients, and the unrolled step against finite differences."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from zoo.augmentation.dada import DADA, OPERATIONS, policy_gradients, relax_bernoulli

TARGET = 0.45


def toy(b: torch.Tensor) -> torch.Tensor:
    return (b - TARGET) ** 2


def estimates(control, n: int = 100_000) -> torch.Tensor:
    logits = torch.full((n,), 0.3, dtype=torch.float64)
    return relax_bernoulli(toy, logits, control, torch.Generator().manual_seed(0))


def good(z: torch.Tensor) -> torch.Tensor:
    """Between the two values of f along the relaxed coin; f itself, which dips between them, would be a poor one."""
    return 0.45**2 + (0.55**2 - 0.45**2) * torch.sigmoid(z)


def test_relax_is_unbiased(parity):
    """d/dtheta of p (0.55^2) + (1 - p) (0.45^2) is 0.1 p (1 - p), whatever the control variate."""
    p = torch.sigmoid(torch.tensor(0.3, dtype=torch.float64))
    exact = (0.55**2 - 0.45**2) * p * (1 - p)
    worst = 0.0
    for control in (good, torch.sin, lambda z: 3 * torch.tanh(z), lambda z: torch.zeros_like(z)):
        found = estimates(control)
        standard_error = found.std() / len(found) ** 0.5
        worst = max(worst, float((found.mean() - exact).abs() / standard_error))
    parity("dada", worst, 4.0, oracle="exact gradient of the Bernoulli toy, error in standard errors of 100 000 draws")


def test_relax_has_less_variance_than_reinforce():
    assert estimates(good).var() < 0.5 * estimates(lambda z: torch.zeros_like(z)).var()


def test_without_control_it_is_reinforce():
    found = estimates(lambda z: torch.zeros_like(z), 1000)
    p = torch.sigmoid(torch.tensor(0.3, dtype=torch.float64))
    values = torch.stack([0.55**2 * (1 - p), 0.45**2 * -p])
    assert ((found[:, None] - values).abs().min(1).values < 1e-12).all()


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name):
    x = torch.rand(2, 3, 9, 8)
    for m in (0.0, 0.5, 1.0):
        out = OPERATIONS[name](x, m)
        assert out.shape == x.shape
        assert out.dtype == x.dtype
        assert out.min() >= 0
        assert out.max() <= 1 + 1e-6
    if name in (
        "shear_x",
        "shear_y",
        "translate_x",
        "translate_y",
        "rotate",
        "contrast",
        "color",
        "brightness",
        "sharpness",
    ):
        torch.testing.assert_close(OPERATIONS[name](x, 0.5), x, atol=1e-5, rtol=0)  # the middle changes nothing


def certain(pairs, applied: bool) -> DADA:
    policy = DADA(pairs)
    with torch.no_grad():
        policy.theta.fill_(50.0 if applied else -50.0)
    return policy


def test_limits():
    x = torch.rand(3, 1, 6, 6)
    pair = [("invert", "cutout")]
    for mode in (True, False):
        torch.testing.assert_close(certain(pair, False).train(mode)(x), x)
        out = certain([("invert", "invert")], True).train(mode)(x)
        torch.testing.assert_close(out, x)
    with torch.no_grad():
        policy = certain([("invert", "brightness")], True).eval()
    torch.testing.assert_close(policy(x), 1 - x, atol=1e-6, rtol=0)


def test_straight_through_gradients():
    x = torch.rand(2, 1, 4, 4)
    policy = certain([("invert", "invert")], True)
    policy(x).sum().backward()
    # 1 for each of the 32 pixels; the first operation's is turned round by the second, which inverts.
    torch.testing.assert_close(policy.magnitude.grad, torch.tensor([[-32.0, 32.0]]))
    policy = DADA([("invert", "brightness"), ("invert", "cutout")])
    policy(x).sum().backward()
    for parameter in policy.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
    assert policy.theta.grad.any()
    assert policy.alpha.grad.any()


def test_unrolled_step_against_differences():
    """With a policy whose output is smooth in its parameters, the step's gradient is that of the two-level loss."""

    class Smooth(DADA):
        def forward(self, x):
            return x * (1 + self.alpha.sum()) + self.magnitude[0, 0] * self.theta[0, 1]

    torch.manual_seed(0)
    model, policy = torch.nn.Linear(4, 3).double(), Smooth([("invert", "cutout")]).double()
    x, y = torch.randn(6, 4).double(), torch.randint(0, 3, (6,))
    policy_gradients(model, policy, (x, y), (x.flip(0), y), lr=0.7)
    assert all(w.grad is None for w in model.parameters())
    found = [p.grad.clone() for p in (policy.alpha, policy.theta, policy.magnitude)]

    def outer() -> float:
        inner = copy.deepcopy(model)
        with torch.enable_grad():
            F.cross_entropy(inner(policy(x)), y).backward()
        with torch.no_grad():
            for w in inner.parameters():
                w -= 0.7 * w.grad
        return float(F.cross_entropy(inner(x.flip(0)), y).detach())

    for parameter, grad, index in zip(
        (policy.alpha, policy.theta, policy.magnitude), found, ((0,), (0, 1), (0, 0)), strict=True
    ):
        with torch.no_grad():
            parameter[index] += 1e-5
            up = outer()
            parameter[index] -= 2e-5
            down = outer()
            parameter[index] += 1e-5
        assert float(grad[index]) == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-8)
    assert float(found[0].abs()) > 1e-4


def test_defaults_and_bad_input():
    policy = DADA()
    assert len(policy.pairs) == 105
    assert policy.eval()(torch.rand(5, 3, 8, 8)).shape == (5, 3, 8, 8)
    with pytest.raises(ValueError, match="received \\['blur'\\]"):
        DADA([("invert", "blur")])
    with pytest.raises(ValueError, match="temperature > 0"):
        DADA(temperature=0)
    with pytest.raises(TypeError, match="uint8"):
        policy(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"received \(3, 4, 4\)"):
        policy(torch.zeros(3, 4, 4))


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_can_stand_in_a_search_step(name):
    """Second order through each operation, first and second in its pair."""
    model, y = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)), torch.tensor([0, 1])
    x = torch.rand(2, 1, 4, 4)
    for pair in ((name, "brightness"), ("brightness", name)):
        policy = certain([pair], True)
        policy_gradients(model, policy, (x, y), (x, y), lr=0.1)
        assert torch.isfinite(policy.magnitude.grad).all()
