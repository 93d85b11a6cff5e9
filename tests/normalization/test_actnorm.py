"""ActNorm against normflows, autograd's Jacobian and the moments of its first batch."""

import copy
import pickle

import normflows
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from zoo.normalization.actnorm import ActNorm, ActNormFlow


def initialised(shape=(8, 4, 3, 5), cls=ActNorm, **kwargs):
    layer = cls(shape[1], **kwargs).double()
    x = torch.randn(shape, dtype=torch.float64) * 3 + 7
    layer(x)
    return layer, x


def test_normflows(parity):
    layer, x = initialised(cls=ActNormFlow)
    theirs = normflows.flows.ActNorm((4, 1, 1)).double()
    theirs.data_dep_init_done = torch.tensor(1.0)
    s = layer.logs.detach() * 3
    theirs.s.data, theirs.t.data = s.view(1, 4, 1, 1), (layer.bias.detach() * s.exp()).view(1, 4, 1, 1)
    y, log_det = layer(x)
    expected, expected_log_det = theirs(x)
    back, back_log_det = layer.inverse(y)
    theirs_back, theirs_back_log_det = theirs.inverse(expected)
    pairs = [(y, expected), (log_det, expected_log_det.expand(8)), (back, theirs_back)]
    pairs += [(back_log_det, theirs_back_log_det.expand(8))]
    error = max((a - b).detach().abs().max() for a, b in pairs)
    parity("actnorm_flow", error, 1e-12, oracle="normflows.flows.ActNorm, both directions and log-determinants")


def test_first_batch_has_unit_moments(parity):
    layer, x = initialised(eps=0.0)
    y = layer(x)
    var, mean = torch.var_mean(y, (0, 2, 3), correction=0)
    parity("actnorm", max(mean.detach().abs().max(), (var.detach() - 1).abs().max()), 1e-12, oracle="moments 0 and 1")


def test_initialisation_is_biased_with_eps_beside_the_deviation():
    layer = ActNorm(1, eps=0.5).double()
    layer(torch.tensor([[1.0], [-1.0]], dtype=torch.float64))
    assert torch.allclose((3 * layer.logs).exp(), torch.tensor([1 / 1.5], dtype=torch.float64))


def test_normflows_initialisation_differs_by_the_sample_deviation_only():
    x = torch.randn(16, 3, dtype=torch.float64)
    layer, theirs = ActNorm(3, eps=1e-6).double(), normflows.flows.ActNorm((3,)).double()
    assert torch.allclose(layer(x), theirs(x)[0] * (16 / 15) ** 0.5, atol=1e-5)


def test_log_det_is_the_jacobian():
    layer, _ = initialised((6, 2, 2, 2), ActNormFlow)
    z = torch.randn(1, 2, 2, 2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v)[0], z).view(8, 8)
    assert torch.allclose(torch.linalg.slogdet(jacobian)[1], layer(z)[1][0], atol=1e-12)


def test_round_trip_and_gradcheck():
    layer, x = initialised()
    assert torch.allclose(layer.inverse(layer(x)), x, atol=1e-12)
    assert torch.autograd.gradcheck(layer, torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True))


def test_only_the_first_training_batch_counts():
    layer = ActNorm(4)
    x = torch.randn(8, 4, 3, 3) * 2 + 5
    assert torch.equal(layer.eval()(x), x)
    layer.inverse(x)
    assert not layer.initialized
    layer.train()(x)
    state = copy.deepcopy(layer.state_dict())
    layer(100 * x)
    assert all(torch.equal(state[k], v) for k, v in layer.state_dict().items())
    loaded = ActNorm(4)
    loaded.load_state_dict(state)
    assert torch.equal(loaded.train()(10 * x), layer(10 * x))


def test_an_untrained_state_or_reset_initialises_again():
    x = torch.randn(8, 4, 3, 3) * 2 + 5
    layer, fresh = ActNorm(4), copy.deepcopy(ActNorm(4).state_dict())
    layer(10 * x)
    layer.load_state_dict(fresh)
    assert torch.allclose(layer(x).mean((0, 2, 3)), torch.zeros(4), atol=1e-5)
    layer.reset()
    assert not layer.initialized
    assert torch.allclose(layer(3 * x).std(), torch.ones(()), atol=1e-2)
    twin = pickle.loads(pickle.dumps(layer))
    assert torch.equal(twin(7 * x), layer(7 * x))


def test_one_value_per_channel_waits_for_a_batch():
    layer = ActNorm(4)
    x = torch.randn(1, 4)
    assert torch.equal(layer(x), x)
    assert not layer.initialized
    layer(torch.randn(16, 4))
    assert layer.initialized
    layer(x).sum().backward()


def test_twice_in_one_graph_and_checkpointed():
    layer, x = ActNorm(3), torch.randn(4, 3, 5, requires_grad=True)
    (layer(x) + checkpoint(layer, 2 * x, use_reentrant=False)).square().sum().backward()
    assert layer.logs.grad.isfinite().all()


def test_logscale_factor_multiplies_the_exponents_gradient():
    x = torch.randn(8, 3)
    grads = []
    for factor in (1.0, 3.0):
        layer = ActNorm(3, logscale_factor=factor)
        layer(x).pow(3).sum().backward()
        grads.append(layer.logs.grad)
    assert torch.allclose(grads[1], 3 * grads[0], rtol=1e-4)


def test_constant_channel_is_finite():
    y = ActNorm(2)(torch.full((4, 2, 3), 7.0))
    assert y.isfinite().all()


def test_copies_compile_autocast():
    layer, x = ActNorm(4), torch.randn(8, 4, 6, 6) * 3 + 1
    compiled = copy.deepcopy(layer)
    y = layer(x)
    assert torch.allclose(torch.compile(compiled, backend="aot_eager", fullgraph=True)(x), y, atol=1e-6)
    assert compiled.initialized
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.export.export(layer, (x,)).module()):
        assert torch.equal(other(x), y)
    half = ActNorm(4)
    with torch.autocast("cpu", torch.bfloat16):
        assert half(x.bfloat16()).dtype is torch.bfloat16
    assert half.logs.dtype is torch.float32
    x = x.to(memory_format=torch.channels_last)
    assert layer(x).is_contiguous(memory_format=torch.channels_last)


def test_bad_input():
    with pytest.raises(ValueError, match="received \\(2, 5\\)"):
        ActNorm(4)(torch.randn(2, 5))
    with pytest.raises(TypeError, match="floating point"):
        ActNorm(4)(torch.ones(2, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="logscale_factor"):
        ActNorm(4, logscale_factor=0)


def test_gradients_of_the_written_out_equation():
    layer, _ = initialised()
    x = torch.randn(3, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    expected = torch.exp(3 * layer.logs).view(1, 4, 1, 1) * (x + layer.bias.view(1, 4, 1, 1))
    y = layer(x)
    assert torch.allclose(y, expected, atol=1e-13)
    wanted = [x, layer.bias, layer.logs]
    for ours, theirs in zip(*(torch.autograd.grad(v.pow(3).sum(), wanted) for v in (y, expected)), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-11)
