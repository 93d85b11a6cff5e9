"""L2RW layer by layer against forward mode: equal where it is used, and not used where it would be wrong."""

from __future__ import annotations

import copy
import weakref
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from timm.layers import GroupNorm
from torch import nn
from torch.utils.checkpoint import checkpoint

from zoo.noisy_labels import _layers, layerwise
from zoo.noisy_labels.learning_to_reweight import LearningToReweight

N, K = 7, 3


class Twice(nn.Module):
    """A layer that runs twice, a residual and activations in place."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(6, 6, 3, padding=1), nn.GroupNorm(2, 6, eps=0.1), nn.ReLU(True)

    def forward(self, x):
        return self.act(self.norm(self.conv(self.act(self.norm(self.conv(x)))))) + x


class Passing(nn.Module):
    """A head over features that a function of the test makes."""

    def __init__(self, function):
        super().__init__()
        self.first, self.last, self.function = nn.Linear(10, 8), nn.Linear(8, K), function

    def forward(self, x):
        return self.last(self.function(self, self.first(x)))


class Rows(nn.Module):
    """A layer over rows that a function of the test cuts out of the batch."""

    def __init__(self, function):
        super().__init__()
        self.first, self.inner, self.last, self.function = nn.Linear(10, 8), nn.Linear(4, 4), nn.Linear(8, K), function

    def forward(self, x):
        return self.last(torch.tanh(self.function(torch.tanh(self.first(x)), self.inner)))


def checkpointed(model, h):
    return checkpoint(torch.tanh, h, use_reentrant=False)


def checkpointed_norm(model, h):
    return checkpoint(lambda t: torch.tanh(model.norm(t)), h, use_reentrant=False)


#: torch 2.11 has no forward mode for checkpoints, nor for norms over channels-last memory.
WITHOUT = {checkpointed: lambda m, h: torch.tanh(h), checkpointed_norm: lambda m, h: torch.tanh(m.norm(h))}


class Normed(Passing):
    """A norm of its own, between the layers."""

    def __init__(self, function):
        super().__init__(function)
        self.norm = nn.GroupNorm(2, 8, eps=0.1)


class Transposed(nn.Module):
    """What a norm reads lies otherwise in memory."""

    layout = torch.channels_last

    def forward(self, x):
        return x.contiguous(memory_format=self.layout)


class Overwriting(Rows):
    """A layer with a fixed weight, so that nobody but this method needs its input when it is overwritten."""

    def __init__(self):
        super().__init__(None)
        self.inner.weight.requires_grad_(False)

    def forward(self, x):
        h = torch.tanh(self.first(x)).unflatten(1, (2, 4)) + 0
        z = self.inner(h)
        h.add_(1)
        return self.last((2 * z + h).flatten(1))


class Tanh(nn.Module):
    def forward(self, x):
        return torch.tanh(x)


def parametrized():
    model = nn.Sequential(nn.Linear(10, 8), nn.Linear(8, K))
    nn.utils.parametrize.register_parametrization(model[0], "weight", Tanh())
    return model


class Own(nn.Linear):
    """A subclass that computes something else."""

    def forward(self, x):
        return super().forward(x).square()


def frozen(model, *names):
    for name in names:
        model.get_submodule(name).requires_grad_(False)
    return model


def pictures():
    front = nn.Conv2d(2, 6, 3, stride=2, dilation=2, padding=2), nn.ReLU(True), nn.Conv2d(6, 6, (3, 1), groups=3, bias=False)  # fmt: skip
    return nn.Sequential(*front, GroupNorm(6, 3), Twice(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, K))  # fmt: skip


def bias_only():
    model = pictures()
    for name, p in model.named_parameters():
        p.requires_grad_(name.endswith("bias"))
    return model


def tied():
    model = nn.Sequential(nn.Linear(10, 10), nn.Tanh(), nn.Linear(10, 10), nn.Linear(10, K))
    model[2].weight = model[0].weight
    return model


SUITABLE = {
    "pictures": (pictures, (2, 9, 8)),
    "frozen front": (lambda: frozen(pictures(), "0", "2"), (2, 9, 8)),
    "only biases": (bias_only, (2, 9, 8)),
    "signals": (lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.GroupNorm(2, 4, affine=False), nn.Flatten(), nn.Linear(32, K)), (2, 10)),
    "volumes": (lambda: nn.Sequential(nn.Conv3d(1, 3, 2), nn.Sigmoid(), nn.Flatten(), nn.Linear(24, K)), (1, 3, 3, 3)),
    "tokens": (lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6, eps=0.1), nn.GELU(), nn.Linear(6, 6), nn.LayerNorm((5, 6)), nn.Flatten(), nn.Linear(30, K)), (5, 4)),
    "tied": (tied, (10,)),
    "evaluated BatchNorm": (lambda: frozen(nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8).eval(), nn.Linear(8, K)), "1"), (10,)),
    "cut into rows": (lambda: Rows(lambda t, layer: layer(t.view(-1, 4)).view(-1, 8)), (10,)),
    "checkpointed": (lambda: Passing(checkpointed), (10,)),
    "checkpointed norm": (lambda: Normed(checkpointed_norm), (10,)),
    "norm over vectors": (lambda: Normed(lambda m, h: m.norm(h)), (10,)),
    "norm twice, tied": (lambda: Normed(lambda m, h: m.norm(torch.tanh(m.norm(h)) * 2)), (10,)),
    "norm first": (lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 2), nn.Flatten(), nn.Linear(8, K)), (4, 3, 3)),
    "channels last": (lambda: nn.Sequential(nn.Conv2d(2, 6, 3), Transposed(), nn.GroupNorm(3, 6), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(96, K)), (2, 6, 6)),
}  # fmt: skip

UNSUITABLE = {
    "BatchNorm": lambda: nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8), nn.Linear(8, K)),
    "BatchNorm without parameters": lambda: nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, K)),
    "centred over the batch": lambda: Passing(lambda m, h: h - h.mean(0)),
    "sees the next sample": lambda: Passing(lambda m, h: torch.tanh(h + 0.1 * h.roll(1, 0))),
    "a parameter used in another way": lambda: Passing(lambda m, h: torch.tanh(h) * m.last.weight[0]),
    "a parameter of its own": lambda: nn.Sequential(nn.Linear(10, 8), nn.PReLU(), nn.Linear(8, K)),
    "a subclass": lambda: nn.Sequential(Own(10, 8), nn.Linear(8, K)),
    "a parametrization": lambda: parametrized(),
    "samples on the second axis": lambda: Rows(lambda t, layer: layer(t.view(-1, 2, 4).transpose(0, 1)).transpose(0, 1).reshape(-1, 8)),
    "an input overwritten afterwards": Overwriting,
    "a look at no gradient": lambda: Passing(lambda m, h: h.detach() + 0 * m.first.weight.sum()),
}  # fmt: skip


def batch(shape, seed=0, n=N):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=g, dtype=torch.float64), torch.randint(K, (n,), generator=g)


def step(model, shape, seed=3, **options):
    algorithm = LearningToReweight(copy.deepcopy(model), **options)
    torch.manual_seed(seed)
    result = algorithm(*batch(shape, 1), meta_batch=batch(shape, 2))
    result["loss"].backward()
    return algorithm, result, [p.grad for p in algorithm.trainable_module.parameters()]


def same(model, shape):
    ours, found, gradients = step(model, shape)
    model.function = WITHOUT.get(getattr(model, "function", None), getattr(model, "function", None))
    with mock.patch.object(Transposed, "layout", torch.contiguous_format):
        _, wanted, expected = step(model, shape, layerwise=False)
    for key in ("loss", "output", "weights"):
        torch.testing.assert_close(found[key], wanted[key], rtol=1e-11, atol=1e-13)
    for g, e in zip(gradients, expected, strict=True):
        if e is None:
            assert g is None
        else:
            torch.testing.assert_close(g, e, rtol=1e-10, atol=1e-12)
    return ours, found


def by_layer(algorithm, shape=(10,)):
    """Whether a step goes by layer: then the output has no gradient left to give, by forward mode it has."""
    output = algorithm(*batch(shape, 1), meta_batch=batch(shape, 2))["output"]
    try:
        output.sum().backward()
    except RuntimeError as error:
        if "second time" not in str(error):
            raise
        return True
    return False


@pytest.mark.parametrize("name", SUITABLE)
def test_equal_to_forward_mode(name):
    make, shape = SUITABLE[name]
    torch.manual_seed(0)
    algorithm, found = same(make().double(), shape)
    assert by_layer(algorithm, shape)
    assert 0 < int((found["weights"] > 0).sum()) < N


def test_equal_in_pieces(monkeypatch):
    """What is split for the cache of a CPU: every map of more than two pieces."""
    cut = []
    whole = torch.Tensor.split
    monkeypatch.setattr(_layers, "PIECE", 16)
    monkeypatch.setattr(torch.Tensor, "split", lambda t, size, dim=0: cut.append(size) or whole(t, size, dim))
    for name in ("pictures", "tokens", "cut into rows", "channels last"):
        make, shape = SUITABLE[name]
        torch.manual_seed(0)
        cut.clear()
        same(make().double(), shape)
        assert any(isinstance(size, int) for size in cut)  # pieces of rows; sections of a table are lists


@pytest.mark.parametrize("name", UNSUITABLE)
def test_other_networks_go_by_forward_mode(name):
    torch.manual_seed(0)
    algorithm, _ = same(UNSUITABLE[name]().double(), (10,))
    assert not by_layer(algorithm)


def test_the_mode_of_the_network_and_its_hooks_are_part_of_the_answer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, K)).double()
    algorithm = LearningToReweight(model)
    seen = []
    for training in (True, False, True):
        model.train(training)
        seen.append(by_layer(algorithm))
    assert seen == [False, True, False]
    model.eval()
    handle = model[0].register_forward_hook(lambda m, a, out: out * 2)
    assert not by_layer(algorithm)
    handle.remove()
    assert by_layer(algorithm)


@pytest.mark.parametrize(
    "what", ["one sample", "autocast", "asked for", "gradient of the input", "hook", "backward hook"]
)
def test_circumstances_that_exclude_it(what):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, K))
    (x, y), (clean, labels) = batch((10,), 1), batch((10,), 2)
    x, clean = x.float(), clean.float()
    if what == "hook":
        model[0].register_forward_hook(lambda m, a, out: out * 2)
    elif what == "backward hook":
        model[1].register_full_backward_hook(lambda m, a, b: None)
    x = x[:1] if what == "one sample" else x
    x.requires_grad_(what == "gradient of the input")
    algorithm = LearningToReweight(model, layerwise=what != "asked for")
    with torch.autocast("cpu", torch.bfloat16, enabled=what == "autocast"):
        result = algorithm(x, y[: len(x)], meta_batch=(clean, labels))
    result["output"].sum().backward()  # by layer it would have no gradient left to give


def test_one_pass_with_the_masks_of_one_pass():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("passes", torch.zeros(()))

        def forward(self, x):
            self.passes += 1
            return x

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 8), Counting(), nn.Dropout(0.5), nn.Linear(8, K)).double()
    algorithm, found, _ = step(model, (10,))
    assert list(algorithm.layerwise.answers.values()) == [True]
    assert float(algorithm.trainable_module[1].passes) == 1
    torch.manual_seed(3)
    torch.testing.assert_close(found["output"], model(batch((10,), 1)[0]), rtol=0, atol=0)
    _, wanted, _ = step(model, (10,), layerwise=False)  # forward mode draws the same masks
    torch.testing.assert_close(found["weights"], wanted["weights"], rtol=1e-11, atol=1e-13)


def test_graph_serves_once_and_says_so():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, K)).double()

    def result():
        return LearningToReweight(model)(*batch((10,), 1), meta_batch=batch((10,), 2))

    loss = result()["loss"]
    first = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    doubled = torch.autograd.grad(2 * loss, list(model.parameters()))
    torch.testing.assert_close(doubled, tuple(2 * g for g in first))
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        result()["output"].sum().backward()
    with pytest.raises(RuntimeError, match="layerwise=False"):
        torch.autograd.grad(result()["loss"], list(model.parameters()), create_graph=True)


def test_no_agreement_gives_zero_gradients():
    model = nn.Linear(10, K).double()
    with torch.no_grad():
        model.bias[2] = -50  # two classes share the probability: the gradients of their labels are opposed
    (x, _), right, wrong = batch((10,), 1, n=1), torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.long)
    x = x.expand(2, -1)
    result = LearningToReweight(model)(x, wrong, meta_batch=(x, right))
    result["loss"].backward()
    assert float(result["weights"].abs().sum()) == 0 == float(result["loss"].detach())
    assert model.weight.grad is not None
    assert float(model.weight.grad.abs().sum()) == 0 == float(model.bias.grad.abs().sum())


def test_memory_of_the_kept_tensors_is_freed_by_backward():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, K)).double()
    loss = LearningToReweight(model)(*batch((10,), 1), meta_batch=batch((10,), 2))["loss"]
    assert len(loss.grad_fn.saved_tensors) > 4
    loss.backward()
    with pytest.raises(RuntimeError, match="freed"):
        _ = loss.grad_fn.saved_tensors


def test_nothing_of_a_step_stays(monkeypatch):
    """Hooks of a graph hold the pass, so the pass must not hold the graph: no collector finds such a circle."""
    made, whole = [], layerwise.Pass.__init__
    monkeypatch.setattr(layerwise.Pass, "__init__", lambda self, *a: made.append(weakref.ref(self)) or whole(self, *a))
    torch.manual_seed(0)
    algorithm = LearningToReweight(pictures().double())
    for i in range(3):
        result = algorithm(*batch((2, 9, 8), i), meta_batch=batch((2, 9, 8), 100 + i))
        result["loss"].backward()
    assert len(made) == 4  # one of them on the first samples of the first batch
    assert not any(one() for one in made)


def test_a_checkpoint_is_computed_again_once_a_pass():
    calls = []

    def counted(model, h):
        def block(t):
            calls.append(1)
            return torch.tanh(model.norm(t))

        return checkpoint(block, h, use_reentrant=False)

    torch.manual_seed(0)
    algorithm = LearningToReweight(Normed(counted).double())
    for _ in range(2):
        calls.clear()
        algorithm(*batch((10,), 1), meta_batch=batch((10,), 2))["loss"].backward()
    assert len(calls) == 4  # forward and again for the clean batch and for the other


def test_hooks_of_a_parameter_see_the_weighted_gradient_only():
    torch.manual_seed(0)
    algorithm, seen = LearningToReweight(pictures().double()), []
    (x, y), clean = batch((2, 9, 8), 1), batch((2, 9, 8), 2)
    algorithm(x, y, meta_batch=clean)  # the first batch decides by several passes
    weight = algorithm.trainable_module[0].weight
    weight.register_hook(lambda g: seen.append(g.clone()))
    algorithm(x, y, meta_batch=clean)["loss"].backward()
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], weight.grad)


def test_many_steps_follow_the_unrolled_course():
    torch.manual_seed(0)
    start = pictures().double()
    ends = []
    for way in (True, False):
        model = copy.deepcopy(start)
        algorithm = LearningToReweight(model, layerwise=way)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for i in range(5):
            optimizer.zero_grad()
            algorithm(*batch((2, 9, 8), i), meta_batch=batch((2, 9, 8), 100 + i))["loss"].backward()
            optimizer.step()
        ends.append(F.cross_entropy(model(batch((2, 9, 8), 50)[0]), batch((2, 9, 8), 50)[1]))
    torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-12)
