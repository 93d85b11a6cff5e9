"""Batch-normalised RNNs against torch's batch norm in front of torch's recurrent layers."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from zoo.normalization.batch_norm_rnn import BatchNormRNN

LENGTHS = torch.tensor([2, 6, 4, 5])


def torch_layer(layer):
    """torch's layer with the identity as input matrix: it adds its (already normalised) input to W_h h."""
    width = layer.weight_ih.shape[0]
    if layer.mode == "lstm":
        other = nn.LSTM(width, layer.hidden_size, bias=False)
    else:
        other = nn.RNN(width, layer.hidden_size, bias=False, nonlinearity=layer.mode)
    other = other.double()
    with torch.no_grad():
        other.weight_ih_l0.copy_(torch.eye(width))
        other.weight_hh_l0.copy_(layer.weight_hh)
    return other


def case(**kwargs):
    layer = BatchNormRNN(3, 5, **kwargs).double()
    for p in (layer.weight, layer.bias):
        nn.init.normal_(p)
    x = torch.randn(6, 4, 3, dtype=torch.float64)
    x[torch.arange(6).unsqueeze(1) >= LENGTHS] = 100.0  # padding that must not be seen
    return layer, x.requires_grad_()


@pytest.mark.parametrize("mode", ["lstm", "tanh", "relu"])
def test_packed_sequence_wise(parity, mode):
    layer, x = case(mode=mode)
    packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    mean, var = torch.zeros(layer.bias.numel()).double(), torch.ones(layer.bias.numel()).double()
    data = F.batch_norm(packed.data @ layer.weight_ih.T, mean, var, layer.weight, layer.bias, True, 0.1, layer.eps)
    expected, state = torch_layer(layer)(PackedSequence(data, *packed[1:]))
    output, ours = layer(packed)
    assert isinstance(output, PackedSequence)
    upstream = torch.randn_like(output.data)
    wanted = [x, layer.weight_ih, layer.weight, layer.bias]
    grads = [torch.autograd.grad((o.data * upstream).sum(), wanted, retain_graph=True) for o in (output, expected)]
    pairs = [
        (output.data, expected.data),
        (layer.running_mean, mean),
        (layer.running_var, var),
        *zip(*grads, strict=True),
    ]
    pairs += zip(ours, state, strict=True) if mode == "lstm" else [(ours, state)]
    error = max((a - b).detach().abs().max() for a, b in pairs)
    parity("batch_norm_rnn", error, 1e-11, oracle="F.batch_norm on packed frames in front of torch's LSTM and RNN")
    padded, last = layer.eval()(x, lengths=LENGTHS)
    again, _ = layer(packed)
    assert torch.allclose(padded, pad_packed_sequence(again)[0], atol=1e-12)
    last = last[0] if mode == "lstm" else last
    assert torch.allclose(last[0], padded[LENGTHS - 1, torch.arange(4)])


def test_frame_wise_by_step_loop():
    layer, x = case(statistics="frame", mode="tanh", max_length=8)
    normalised = torch.zeros(6, 4, 5, dtype=torch.float64)
    for t in range(6):
        alive = t < LENGTHS
        a = (x[t] @ layer.weight_ih.T)[alive]
        mean, var = a.mean(0), a.var(0, correction=0)
        normalised[t, alive] = (a - mean) / torch.sqrt(var + layer.eps) * layer.weight + layer.bias
    expected, _ = torch_layer(layer)(pack_padded_sequence(normalised, LENGTHS, enforce_sorted=False))
    output, _ = layer(x, lengths=LENGTHS)
    assert torch.allclose(output, pad_packed_sequence(expected)[0], atol=1e-12)
    a = (x[3] @ layer.weight_ih.T)[LENGTHS > 3]
    assert torch.allclose(layer.running_mean[3], 0.1 * a.mean(0))
    assert torch.allclose(layer.running_var[3], 0.9 + 0.1 * a.var(0))
    assert (layer.running_var[5] == 1).all()  # one sequence left: no variance to learn from
    assert (layer.running_mean[6:] == 0).all()


def test_frame_wise_steps_beyond_the_last_row():
    layer = BatchNormRNN(3, 2, "tanh", "frame", max_length=2).double()
    x = torch.randn(5, 6, 3, dtype=torch.float64)
    layer(x)
    means = (x @ layer.weight_ih.T).mean(1)
    assert torch.allclose(layer.running_mean, 0.1 * torch.stack([means[0], means[1:].mean(0)]))
    assert layer.eval()(x)[0].shape == (5, 6, 2)


def test_frozen_unit_statistics_give_torch_rnn():
    layer = BatchNormRNN(3, 5, batch_first=True).double().eval()
    layer.running_var.fill_(1 - layer.eps)
    lstm = nn.LSTM(3, 5, bias=False, batch_first=True).double()
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(layer.weight_ih)
        lstm.weight_hh_l0.copy_(layer.weight_hh)
    x, state = torch.randn(2, 4, 3).double(), (torch.randn(1, 2, 5).double(), torch.randn(1, 2, 5).double())
    assert torch.allclose(layer(x, state)[0], lstm(x, state)[0], atol=1e-12)


@pytest.mark.parametrize("statistics", ["sequence", "frame"])
def test_copies_compile_checkpoint_autocast(statistics):
    layer, x = BatchNormRNN(3, 4, statistics=statistics), torch.randn(3, 5, 3, requires_grad=True)
    compiled, checked = copy.deepcopy(layer), copy.deepcopy(layer)
    y = layer(x, lengths=torch.tensor([3, 1, 2, 3, 3]))[0]
    compiled = torch.compile(compiled, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(x, lengths=torch.tensor([3, 1, 2, 3, 3]))[0], y, atol=1e-6)
    layer = copy.deepcopy(checked)
    checkpoint(lambda v: checked(v)[0], x, use_reentrant=False).sum().backward()
    y = layer(x)[0]
    assert torch.allclose(checked.running_var, layer.running_var)
    with torch.autocast("cpu", torch.bfloat16):
        assert (layer(x)[0] - y).abs().max() < 0.1
    layer.eval()
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x)[0], layer(x)[0])


def test_bad_input():
    with pytest.raises(ValueError, match="mode is one of lstm, tanh, relu, received 'gru'"):
        BatchNormRNN(3, 4, mode="gru")
    with pytest.raises(ValueError, match="statistics is sequence or frame"):
        BatchNormRNN(3, 4, statistics="batch")
    layer = BatchNormRNN(3, 4, statistics="frame")
    with pytest.raises(ValueError, match="two frames or more"):
        layer(torch.randn(5, 1, 3))
    with pytest.raises(ValueError, match="received \\(5, 2, 4\\)"):
        layer(torch.randn(5, 2, 4))
    with pytest.raises(ValueError, match="lengths has shape \\(2,\\)"):
        layer(torch.randn(5, 2, 3), lengths=torch.tensor([5]))
    with pytest.raises(TypeError, match="floating point"):
        layer(torch.ones(5, 2, 3, dtype=torch.int64))
