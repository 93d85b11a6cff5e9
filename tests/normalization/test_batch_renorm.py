"""Batch renormalization: the equations with explicit detach, its limits, schedule, state and repetition."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from zoo.normalization.batch_renorm import PAPER_STEPS, BatchRenorm1d, BatchRenorm2d, BatchRenorm3d, batch_renorm


def written_out(x, gain, shift, mean, std, r_max, d_max, eps, stop=True):
    """The equations of the paper term by term; autograd does the rest."""
    batch_mean = x.mean((0, 2, 3))
    batch_std = (((x - batch_mean.view(1, -1, 1, 1)) ** 2).mean((0, 2, 3)) + eps) ** 0.5
    r = torch.minimum(torch.maximum(batch_std / std, torch.tensor(1 / r_max)), torch.tensor(r_max))
    d = torch.minimum(torch.maximum((batch_mean - mean) / std, torch.tensor(-d_max)), torch.tensor(d_max))
    if stop:
        r, d = r.detach(), d.detach()
    c = (1, -1, 1, 1)
    normal = (x - batch_mean.view(c)) / batch_std.view(c)
    return gain.view(c) * (normal * r.view(c) + d.view(c)) + shift.view(c)


def state(channels=3):
    gain = torch.randn(channels, dtype=torch.float64, requires_grad=True)
    shift = torch.randn(channels, dtype=torch.float64, requires_grad=True)
    return gain, shift, torch.randn(channels, dtype=torch.float64), torch.rand(channels, dtype=torch.float64) + 0.3


@pytest.mark.parametrize(("r_max", "d_max"), [(1.0, 0.0), (1.3, 0.2), (3.0, 5.0), (1e9, 1e9)])
def test_written_out(parity, r_max, d_max):
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    gain, shift, mean, std = state()
    y, _, _ = batch_renorm(x, gain, shift, mean, std, r_max, d_max, 1e-2)
    expected = written_out(x, gain, shift, mean, std, r_max, d_max, 1e-2)
    probe = torch.randn_like(y)
    found = torch.autograd.grad(y, (x, gain, shift), probe)
    wanted = torch.autograd.grad(expected, (x, gain, shift), probe)
    error = max((a - b).abs().max().item() for a, b in zip((y, *found), (expected, *wanted), strict=True))
    parity("batch_renorm", error, 1e-11, oracle="the equations in plain tensor arithmetic with autograd and detach")


def test_without_the_stop_the_gradient_is_another():
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    gain, shift, mean, std = state()
    probe = torch.randn_like(x)
    y, _, _ = batch_renorm(x, gain, shift, mean, std, 3.0, 5.0, 1e-2)
    flowing = written_out(x, gain, shift, mean, std, 3.0, 5.0, 1e-2, stop=False)
    assert torch.allclose(y, flowing, atol=1e-12)
    a, b = torch.autograd.grad(y, x, probe)[0], torch.autograd.grad(flowing, x, probe)[0]
    assert (a - b).abs().max() > 0.01


def test_unclipped_is_the_running_normalisation():
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    gain, shift, mean, std = state()
    y, _, _ = batch_renorm(x, gain, shift, mean, std, 1e12, 1e12, 1e-5)
    c = (1, -1, 1, 1)
    assert torch.allclose(y, gain.view(c) * (x - mean.view(c)) / std.view(c) + shift.view(c), atol=1e-9)


def test_closed_clips_are_batch_norm():
    norm = BatchRenorm2d(3).double()
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    assert torch.allclose(norm(x), F.batch_norm(x, None, None, training=True, eps=1e-5), atol=1e-12)


def test_running_deviation_not_variance_and_r_from_before_the_update():
    norm = BatchRenorm2d(3, eps=1e-3, momentum=0.25, schedule=(0, 0, 0)).double()
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64) * 1.7 + 0.4
    y = norm(x)
    values = x.transpose(0, 1).flatten(1)
    std = (values.var(1, correction=0) + 1e-3).sqrt()
    assert torch.allclose(norm.running_std, 0.75 + 0.25 * std, atol=1e-12)
    assert torch.allclose(norm.running_mean, 0.25 * values.mean(1), atol=1e-12)
    # step 0 with a schedule that ends at 0: `passed` is 0, so the clips are still closed; the next step is open.
    assert torch.allclose(y, F.batch_norm(x, None, None, training=True, eps=1e-3), atol=1e-12)
    mean, running = norm.running_mean.clone(), norm.running_std.clone()
    c = (1, -1, 1, 1)
    assert torch.allclose(norm(x), (x - mean.view(c)) / running.view(c), atol=1e-9)


def test_evaluation_uses_the_running_values():
    norm = BatchRenorm2d(3).double()
    norm.running_mean.normal_()
    norm.running_std.uniform_(0.5, 2)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    c = (1, -1, 1, 1)
    expected = norm.weight.view(c) * (x - norm.running_mean.view(c)) / norm.running_std.view(c) + norm.bias.view(c)
    assert torch.allclose(norm.eval()(x), expected, atol=1e-12)
    scale, shift = norm.eval_affine()
    assert torch.allclose(x * scale.view(c) + shift.view(c), expected, atol=1e-12)


@pytest.mark.parametrize("n", [0, 4999, 5000, 15000, 22500, 25000, 40000, 90000])
def test_schedule_is_the_papers(n):
    """The two lines of the well-known third-party layer, in its own numbers."""
    r_max, d_max = BatchRenorm2d(3).limits(torch.tensor(n))
    assert float(r_max) == pytest.approx(min(max(2 / 35000 * n + 25 / 35, 1), 3), abs=1e-5)
    assert float(d_max) == pytest.approx(min(max(5 / 20000 * n - 25 / 20, 0), 5), abs=1e-5)


def test_schedule_in_fractions():
    norm = BatchRenorm2d(3, schedule=(0.1, 0.5, 0.2), total_steps=1000)
    assert norm.schedule == (100, 500, 200)
    default = BatchRenorm2d(3, total_steps=160_000)
    assert default.schedule == PAPER_STEPS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": (0.1, 0.5, 0.2)}, "total_steps"),
        ({"schedule": (10, 50, 20), "total_steps": 100}, "fractions"),
        ({"schedule": (50, 10, 20)}, "start"),
        ({"r_max": 0.5}, "r_max"),
        ({"momentum": 0}, "momentum"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        BatchRenorm2d(3, **arguments)


@pytest.mark.parametrize(
    ("norm", "x"),
    [
        (BatchRenorm2d(3), torch.ones(2, 4, 2, 2)),
        (BatchRenorm2d(3), torch.ones(2, 3)),
        (BatchRenorm2d(3), torch.ones(1, 3, 1, 1)),
        (BatchRenorm1d(3), torch.ones(1, 3)),
        (BatchRenorm3d(3), torch.ones(2, 3, 2, 2)),
    ],
)
def test_refused_inputs(norm, x):
    with pytest.raises(ValueError, match="batch_renorm"):
        norm(x)


def test_integers_are_refused():
    with pytest.raises(TypeError, match="floating-point"):
        BatchRenorm2d(3)(torch.ones(2, 3, 2, 2, dtype=torch.int64))


def opened(momentum=0.3):
    """In the middle of the ramps, so that the step counts."""
    norm = BatchRenorm2d(3, momentum=momentum, schedule=(1, 40, 30)).double()
    for _ in range(3):
        norm(torch.randn(4, 3, 2, 2, dtype=torch.float64) * 2 + 1)
    return norm


def test_state_survives_dict_copy_and_pickle():
    norm, x = opened(), torch.randn(4, 3, 2, 2, dtype=torch.float64)
    fresh = BatchRenorm2d(3, momentum=0.3, schedule=(1, 40, 30)).double()
    fresh.load_state_dict(norm.state_dict())
    copies = [fresh, copy.deepcopy(norm), pickle.loads(pickle.dumps(norm))]
    outputs = [n(x) for n in [norm, *copies]]
    assert all(torch.equal(outputs[0], y) for y in outputs[1:])


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_moves_the_state_once_and_keeps_the_gradient(reentrant):
    plain = opened()
    repeated = copy.deepcopy(plain)
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    probe = torch.randn_like(x)
    (plain(x) * probe).sum().backward()
    (checkpoint(repeated, other, use_reentrant=reentrant) * probe).sum().backward()
    assert torch.allclose(x.grad, other.grad, atol=1e-12)
    for key, value in plain.state_dict().items():
        assert torch.allclose(value, repeated.state_dict()[key], atol=1e-14), key


@pytest.mark.parametrize("affine", [True, False])
def test_compiled_steps_follow_eager_ones(affine):
    """Several steps, gradients too: a compiled backward must not see the buffers as the forward pass left them."""
    plain = BatchRenorm2d(3, momentum=0.3, schedule=(1, 3, 2), affine=affine)
    other = copy.deepcopy(plain)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager_decomp_partition")
    for _ in range(5):
        x = torch.randn(4, 3, 2, 2) * 2 + 1
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        plain(a).pow(3).sum().backward()
        compiled(b).pow(3).sum().backward()
        assert torch.allclose(a.grad, b.grad, atol=1e-3, rtol=1e-4)
    assert torch.allclose(plain.running_std, other.running_std)
    assert int(other.num_batches_tracked) == 5


def test_statistics_in_float32_for_half_input():
    norm = BatchRenorm2d(3, schedule=(0, 0, 0))
    x = (torch.randn(16, 3, 4, 4) * 0.1 + 20).bfloat16()
    y = norm(x)
    assert y.dtype == torch.bfloat16
    expected = 0.99 + 0.01 * (x.float().transpose(0, 1).flatten(1).var(1, correction=0) + 1e-5).sqrt()
    assert torch.allclose(norm.running_std, expected, atol=1e-6)
