"""Streaming normalization against batch normalization as a limiting case and a bookkeeping loop."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from zoo.normalization.streaming_norm import StreamingNorm, follow_optimizer


def test_current_only_is_batch_norm():
    layer = StreamingNorm(4, alpha=(0, 1), beta=(0, 0, 1)).double()
    nn.init.normal_(layer.weight)
    for shape in ((6, 4), (3, 4, 5, 2)):
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        y, expected = layer(x), F.batch_norm(x, None, None, layer.weight, layer.bias, True, 0.0, layer.eps)
        up = torch.randn_like(y)
        assert torch.allclose(y, expected, atol=1e-12)
        ours, theirs = (torch.autograd.grad((v * up).sum(), [x, layer.weight, layer.bias]) for v in (y, expected))
        assert all(torch.allclose(a, b, atol=1e-11) for a, b in zip(ours, theirs, strict=True))
        layer.weight_update()


@pytest.mark.parametrize("p", [1, 2, 3])
def test_bookkeeping_loop(parity, p):
    """Several passes per update; the gradient of each statistic is taken by autograd and mixed by hand."""
    alpha, beta, kappa, eps = (0.6, 0.4), (0.5, 0.3, 0.2), (0.7, 0.3), 1e-3
    layer = StreamingNorm(3, alpha, beta, kappa, p, eps, affine=False).double()
    long, glong = [None, None], [None, None]
    error = 0.0
    for update in range(3):
        seen, gseen = [[], []], [[], []]
        for _ in range(1 + update):
            x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
            up = torch.randn(2, 3, 4, dtype=torch.float64)

            def mixed(row, current, seen=seen):
                seen[row].append(current.detach())
                short = sum(seen[row]) / len(seen[row])
                return (alpha[0] * (short if long[row] is None else long[row]) + alpha[1] * short).requires_grad_()

            mean = x.mean((0, 2))
            mu = mixed(0, mean)
            moment = (x - mu.view(1, 3, 1)).abs().pow(p).mean((0, 2))
            sigma = mixed(1, moment)
            y = (x - mu.view(1, 3, 1)) / (sigma.view(1, 3, 1) + eps).pow(1 / p)

            def stream(row, g, gseen=gseen):
                gseen[row].append(g)
                short = sum(gseen[row]) / len(gseen[row])
                return beta[0] * (short if glong[row] is None else glong[row]) + beta[1] * short + beta[2] * g

            direct_x, direct_mu, direct_sigma = torch.autograd.grad((y * up).sum(), [x, mu, sigma], retain_graph=True)
            via_x, via_mu = torch.autograd.grad(moment, [x, mu], stream(1, direct_sigma), retain_graph=True)
            (mean_x,) = torch.autograd.grad(mean, x, stream(0, direct_mu + via_mu))
            expected = direct_x + via_x + mean_x

            ours = layer(x)
            (grad,) = torch.autograd.grad((ours * up).sum(), x)
            error = max(error, float((ours - y).detach().abs().max()), float((grad - expected).abs().max()))
        layer.weight_update()
        for row in range(2):
            for store, found in ((long, seen), (glong, gseen)):
                short = sum(found[row]) / len(found[row])
                store[row] = short if store[row] is None else kappa[0] * store[row] + kappa[1] * short
    error = max(error, float((layer.long - torch.stack(long)).abs().max()))
    error = max(error, float((layer.grad_long - torch.stack(glong)).abs().max()))
    parity("streaming_norm", error, 1e-11, oracle="bookkeeping loop: outputs, streamed gradients, long-term stores")


def test_optimizer_hook_marks_updates_only():
    model = nn.Sequential(nn.Linear(3, 4), StreamingNorm(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    handle = follow_optimizer(model, optimizer)
    norm = model[1]
    for _ in range(3):
        model(torch.randn(1, 3)).sum().backward()
    assert norm.short_count.tolist() == [[3.0], [3.0]]
    assert norm.rolls == 0
    optimizer.step()
    assert norm.short_count.tolist() == [[0.0], [0.0]]
    assert norm.rolls == 1
    model(torch.randn(1, 3))
    optimizer.step()
    assert (norm.rolls, norm.grad_rolls) == (2, 1)  # no backward pass in between
    handle.remove()
    optimizer.step()
    assert norm.rolls == 2


def test_accumulated_micro_batches_have_the_statistics_of_the_whole():
    whole, parts = (StreamingNorm(3, alpha=(0.5, 0.5), p=1) for _ in range(2))
    x = torch.randn(8, 3)
    whole(x)
    for half in x.split(1):
        parts(half)
    assert torch.allclose(whole.short_sum[0], parts.short_sum[0] / 8, atol=1e-6)


def test_batch_of_one_learns_and_evaluates():
    layer = StreamingNorm(4, kappa=(0.98, 0.02))
    for _ in range(500):
        layer(torch.randn(1, 4) * 3 + 5)
        layer.weight_update()
    assert (layer.long[0] - 5).abs().max() < 1.5
    y = layer.eval()(torch.randn(500, 4) * 3 + 5)
    assert y.isfinite().all()
    assert 0.6 < y.std() < 1.6


def test_untouched_layer_is_identity_in_evaluation():
    x = torch.randn(3, 4)
    assert torch.allclose(StreamingNorm(4, eps=0.0).eval()(x), x)


def test_checkpointed_pass_counts_once():
    layer, x = StreamingNorm(4), torch.randn(5, 4, requires_grad=True)
    other = copy.deepcopy(layer)
    (a,) = torch.autograd.grad(checkpoint(layer, x, use_reentrant=False).pow(3).sum(), x)
    (b,) = torch.autograd.grad(other(x).pow(3).sum(), x)
    assert torch.equal(a, b)
    assert all(torch.equal(u, v) for u, v in zip(layer.buffers(), other.buffers(), strict=True))


def test_state_travels_and_compiles():
    layer, x = StreamingNorm(4), torch.randn(5, 4, 3, requires_grad=True)
    layer(x.detach() + 1)
    layer.weight_update()
    fresh, compiled = StreamingNorm(4), copy.deepcopy(layer)
    fresh.load_state_dict(layer.state_dict())
    y = layer(x)
    assert torch.equal(fresh(x), y)
    other = torch.compile(compiled, backend="aot_eager", fullgraph=True)(x)
    assert torch.allclose(other, y, atol=1e-6)
    (a,), (b,) = (torch.autograd.grad(v.pow(3).sum(), x) for v in (other, y))
    assert torch.allclose(a, b, atol=1e-5)
    for (name, u), v in zip(compiled.named_buffers(), layer.buffers(), strict=True):
        assert torch.allclose(u, v, atol=1e-5), name
    layer.eval()
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), layer(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.train()(x.bfloat16()).dtype is torch.bfloat16
    assert layer.long.dtype is torch.float32


def test_bad_input():
    with pytest.raises(ValueError, match="p >= 1, received 0"):
        StreamingNorm(4, p=0)
    with pytest.raises(ValueError, match="2 alpha, 3 beta, 2 kappa"):
        StreamingNorm(4, beta=(0.5, 0.5))
    with pytest.raises(ValueError, match="received \\(2, 5\\)"):
        StreamingNorm(4)(torch.randn(2, 5))
    with pytest.raises(TypeError, match="floating point"):
        StreamingNorm(4)(torch.ones(2, 4, dtype=torch.int64))
    linear = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="no StreamingNorm in Linear"):
        follow_optimizer(linear, optimizer)
