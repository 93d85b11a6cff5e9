"""What every layer with statistics owes its user: no state from bad input, one update a step, one kind of error."""

import contextlib
import copy

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import zoo
from zoo.registry.lookup import registry

OWN = [n for n, m in registry().raw.methods.items() if m["kind"] == "norm" and m["target"].startswith("zoo.")]
OTHERS = {
    "recurrent_batch_norm": (5, 6),
    "batch_norm_rnn": (5, 6),
    "cosine_norm": (32, 6, 3),
    "normalized_conv": (32, 6, 3),
}
#: Layers whose training step looks at statistics of the batch.
STATISTICAL = [n for n in OWN if n not in ("positional_norm", "ada_norm", "layer_norm_simple", "actnorm")]
SETTINGS = {
    "batch_renorm": {"schedule": (0, 1, 1)},
    "moving_average_bn": {"buffer_size": 2, "warmup": 2, "clip_after": 2},
    "four_things_bn": {"ghost_size": 2},
}


def make(name):
    torch.manual_seed(0)
    return zoo.create(name, *OTHERS.get(name, (32,)), **SETTINGS.get(name, {})).train()


def example(name):
    return torch.randn(3, 4, 5) if name in ("recurrent_batch_norm", "batch_norm_rnn") else torch.randn(4, 32, 5, 6)


def state(layer):
    return {k: v.clone() for k, v in layer.state_dict().items()}


def unchanged(layer, before):
    return all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())


@pytest.mark.parametrize("name", [*OWN, *OTHERS])
def test_integers_are_refused_by_type(name):
    layer = make(name)
    before = state(layer)
    with pytest.raises(TypeError, match=r"received torch\.int64"):
        layer(example(name).long())
    assert unchanged(layer, before)


@pytest.mark.parametrize("name", STATISTICAL)
def test_empty_batches_are_refused_in_training_and_pass_in_evaluation(name):
    layer, empty = make(name), torch.empty(0, 32, 5, 6)
    before = state(layer)
    with pytest.raises(ValueError, match=r"received \(0, 32, 5, 6\)"):
        layer(empty)
    assert unchanged(layer, before)
    assert layer.eval()(empty).shape == empty.shape


@pytest.mark.parametrize("name", ["recurrent_batch_norm", "batch_norm_rnn"])
def test_sequences_without_a_step(name):
    with pytest.raises(ValueError, match=r"needs a step or more, received .* of length 0"):
        make(name)(torch.empty(0, 4, 5))


@pytest.mark.parametrize("name", [n for n in [*OWN, *OTHERS] if list(make(n).parameters())])
def test_input_on_another_device_leaves_the_state_alone(name):
    """torch refuses to mix devices; what counts is that a layer has not begun to learn from what it cannot read."""
    layer = make(name)
    before = state(layer)
    for mode in (True, False):
        layer.train(mode)
        with contextlib.suppress(
            RuntimeError, ValueError
        ):  # convolutions on meta are planned, whatever the weight's device
            assert layer(example(name).to("meta"))[0].is_meta
        assert unchanged(layer, before)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize(
    "name", [n for n in [*OWN, "recurrent_batch_norm", "batch_norm_rnn"] if list(make(n).buffers())]
)
def test_checkpointing_counts_a_step_once(name, reentrant):
    plain = make(name)
    repeated = copy.deepcopy(plain)
    for step in range(3):
        x = (example(name) * (1 + step) + step).requires_grad_()
        other = x.detach().clone().requires_grad_()
        y, z = plain(x), checkpoint(repeated, other, use_reentrant=reentrant)
        y, z = (y[0], z[0]) if isinstance(y, tuple) else (y, z)
        for out in (y, z):
            (out * torch.linspace(-1, 2, out.numel()).view(out.shape)).sum().backward()
        assert torch.allclose(x.grad, other.grad, atol=1e-4, rtol=1e-4)
    for key, value in plain.state_dict().items():
        assert torch.allclose(value.float(), repeated.state_dict()[key].float(), atol=1e-4, rtol=1e-4), key
