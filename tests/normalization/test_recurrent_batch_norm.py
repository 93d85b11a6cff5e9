"""Recurrent batch normalization against a step-by-step LSTM around torch's own batch norm."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.checkpoint import checkpoint

from zoo.normalization.recurrent_batch_norm import RecurrentBatchNormLSTM


def plain(layer, x, h, c, running=None, training=True):
    """The cell written with ``F.batch_norm``, one instance per step and term."""
    outputs = []

    def bn(a, term, t, gain, shift=None):
        mean, var = (None, None) if running is None else (running[f"mean_{term}"][t], running[f"var_{term}"][t])
        return F.batch_norm(a, mean, var, gain, shift, training, 0.1, layer.eps)

    for t, xt in enumerate(x):
        gates = bn(h @ layer.weight_hh.T, "h", t, layer.gamma_h) + bn(xt @ layer.weight_ih.T, "x", t, layer.gamma_x)
        i, f, g, o = (gates + layer.bias).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(bn(c, "c", t, layer.gamma_c, layer.beta_c))
        outputs.append(h)
    return torch.stack(outputs), h, c


def case(steps=5):
    layer = RecurrentBatchNormLSTM(3, 4, max_length=6).double()
    for p in layer.parameters():
        nn.init.normal_(p)
    x, h, c = (torch.randn(s, 7, k, dtype=torch.float64, requires_grad=True) for s, k in ((steps, 3), (1, 4), (1, 4)))
    return layer, x, h, c


def test_against_torch_batch_norm(parity):
    layer, x, h, c = case()
    running = {k[8:]: v.clone() for k, v in layer.named_buffers() if k.startswith("running")}
    output, (hn, cn) = layer(x, (h, c))
    expected, eh, ec = plain(layer, x, h[0], c[0], running)
    wanted = [x, h, c, *layer.parameters()]
    upstream = torch.randn_like(output)
    ours = torch.autograd.grad((output * upstream).sum() + cn.pow(2).sum(), wanted)
    theirs = torch.autograd.grad((expected * upstream).sum() + ec.pow(2).sum(), wanted)
    pairs = [(output, expected), (hn[0], eh), (cn[0], ec), *zip(ours, theirs, strict=True)]
    pairs += [(getattr(layer, f"running_{k}")[:5], v[:5]) for k, v in running.items()]
    error = max((a - b).detach().abs().max() for a, b in pairs)
    parity(
        "recurrent_batch_norm",
        error,
        1e-10,
        oracle="LSTM loop around F.batch_norm, gradients and statistics",
    )


def test_evaluation_uses_the_row_of_the_step_and_the_last_one_beyond():
    layer, x, h, c = case(steps=6)
    for _ in range(3):
        layer(x, (h, c))
    layer.eval()
    running = {k[8:]: [*v, v[-1], v[-1]] for k, v in layer.named_buffers() if k.startswith("running")}
    longer = torch.randn(8, 2, 3, dtype=torch.float64)
    zero = torch.zeros(1, 2, 4, dtype=torch.float64)
    expected, _, _ = plain(layer, longer, zero[0], zero[0], running, training=False)
    assert torch.allclose(layer(longer)[0], expected, atol=1e-12)


def test_frozen_unit_statistics_give_torch_lstm():
    layer = RecurrentBatchNormLSTM(3, 4, gamma=1.0).double().eval()
    torch_lstm = nn.LSTM(3, 4).double()
    with torch.no_grad():
        for term in "xhc":
            getattr(layer, f"running_var_{term}").fill_(1 - layer.eps)
        torch_lstm.weight_ih_l0.copy_(layer.weight_ih)
        torch_lstm.weight_hh_l0.copy_(layer.weight_hh)
        torch_lstm.bias_ih_l0.copy_(layer.bias)
        torch_lstm.bias_hh_l0.zero_()
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    (a, (ah, ac)), (b, (bh, bc)) = layer(x), torch_lstm(x)
    assert max((a - b).abs().max(), (ah - bh).abs().max(), (ac - bc).abs().max()) < 1e-12


def test_long_training_sequences_share_the_last_row_and_momentum_none_averages():
    layer = RecurrentBatchNormLSTM(3, 4, max_length=2, momentum=None).double()
    xs = [torch.randn(4, 9, 3, dtype=torch.float64) for _ in range(3)]
    for x in xs:
        layer(x)
    variances = [(x @ layer.weight_ih.T).var(1)[1:].mean(0) for x in xs]
    assert torch.allclose(layer.running_var_x[1], torch.stack(variances).mean(0))
    assert layer.num_batches_tracked == 3


def test_defaults_of_the_paper():
    layer = RecurrentBatchNormLSTM(3, 4)
    assert all((p == 0.1).all() for p in (layer.gamma_x, layer.gamma_h, layer.gamma_c))
    assert layer.bias.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8
    assert torch.allclose(layer.weight_hh.T @ layer.weight_hh, torch.eye(4), atol=1e-5)


def test_noise_only_in_training():
    layer, x = RecurrentBatchNormLSTM(3, 4, initial_noise=0.5), torch.randn(2, 5, 3)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


def test_batch_first_checkpoint_and_constant_input():
    layer, x = RecurrentBatchNormLSTM(3, 4), torch.randn(3, 5, 3, requires_grad=True)
    first = copy.deepcopy(layer)
    first.batch_first = True
    y = layer(x)[0]
    assert torch.equal(first(x.transpose(0, 1))[0], y.transpose(0, 1))
    again = RecurrentBatchNormLSTM(3, 4)
    again.load_state_dict(first.state_dict())
    checkpoint(lambda v: again(v)[0], x, use_reentrant=False).sum().backward()
    assert again.num_batches_tracked == 2
    flat = torch.ones(3, 5, 3, requires_grad=True)
    layer(flat)[0].sum().backward()
    assert flat.grad.isfinite().all()


def test_copies_compile_autocast():
    layer, x = RecurrentBatchNormLSTM(3, 4), torch.randn(3, 5, 3)
    compiled = copy.deepcopy(layer)
    y = layer(x)[0]
    assert torch.allclose(torch.compile(compiled, backend="aot_eager", fullgraph=True)(x)[0], y, atol=1e-5)
    assert torch.allclose(compiled.running_mean_c, layer.running_mean_c, atol=1e-6)
    layer.eval()
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x)[0], layer(x)[0])
    with torch.autocast("cpu", torch.bfloat16):
        half = layer.train()(x)[0]
    assert (half - layer(x)[0]).abs().max() < 0.05
    assert layer.running_var_h.dtype is torch.float32


def test_bad_input():
    layer = RecurrentBatchNormLSTM(3, 4)
    with pytest.raises(ValueError, match="two samples or more in training, received 1"):
        layer(torch.randn(5, 1, 3))
    with pytest.raises(ValueError, match="received \\(5, 2, 4\\)"):
        layer(torch.randn(5, 2, 4))
    with pytest.raises(ValueError, match="takes states"):
        layer(torch.randn(5, 2, 3), (torch.zeros(2, 4), torch.zeros(2, 4)))
    with pytest.raises(TypeError, match="PackedSequence"):
        layer(pack_sequence([torch.randn(3, 3), torch.randn(2, 3)]))
