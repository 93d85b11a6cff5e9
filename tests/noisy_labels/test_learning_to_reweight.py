"""L2RW against the paper's unrolled look-ahead; flipped copies, BatchNorm, dropout, attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from zoo.noisy_labels.learning_to_reweight import LearningToReweight, agreement


def unrolled(model, x, y, meta, a):
    """-d/d eps of the meta loss after one explicit step with eps-weighted losses, by double backward."""
    params = dict(model.named_parameters())
    eps = torch.zeros(len(x), dtype=x.dtype, requires_grad=True)
    inner = (eps * F.cross_entropy(functional_call(model, params, (x,)), y, reduction="none")).sum()
    slopes = torch.autograd.grad(inner, list(params.values()), create_graph=True)
    moved = {n: p - a * g for (n, p), g in zip(params.items(), slopes, strict=True)}
    outer = F.cross_entropy(functional_call(model, moved, (meta[0],)), meta[1])
    return -torch.autograd.grad(outer, eps)[0]


def test_unrolled_look_ahead(parity):
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    x, y = torch.randn(9, 5, dtype=torch.float64), torch.randint(0, 3, (9,))
    meta = (torch.randn(6, 5, dtype=torch.float64), torch.randint(0, 3, (6,)))
    expected = unrolled(model, x, y, meta, 0.3)
    error = (0.3 * agreement(model, x, y, meta) - expected).abs().max()
    result = LearningToReweight(model)(x, y, meta_batch=meta)
    w = expected.clamp_min(0) / expected.clamp_min(0).sum()
    error = torch.maximum(error, (result["weights"] - w).abs().max())
    loss = (w * F.cross_entropy(model(x), y, reduction="none")).sum()
    pair = [torch.autograd.grad(v, model[0].weight)[0] for v in (result["loss"], loss)]
    error = torch.maximum(error, (pair[0] - pair[1]).abs().max())
    parity("learning_to_reweight", error, 1e-12, oracle="the unrolled inner step, differentiated twice")


def test_flipped_copies_get_nothing():
    model = nn.Linear(4, 2)
    x, y = torch.randn(16, 4), torch.randint(0, 2, (16,))
    task = LearningToReweight(model, num_samples=32)
    for index, label in ((torch.arange(16), y), (torch.arange(16, 32), 1 - y)):
        task(x, label, meta_batch=(x, y), index=index)
    w = task(torch.cat([x, x]), torch.cat([y, 1 - y]), meta_batch=(x, y))["weights"]
    assert float(w.sum()) == pytest.approx(1.0)
    assert float(w[16:].sum()) < float(w[:16].sum())
    opposite = task(x, 1 - y, meta_batch=(x, y))["weights"]
    single = task(x[:1], 1 - y[:1], meta_batch=(x[:1], y[:1]))
    assert float(single["weights"]) == 0 == float(single["loss"])
    assert opposite.isfinite().all()


def test_buffers_stay_and_masks_are_shared():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
    before = model[1].running_mean.clone()
    torch.manual_seed(1)
    agreement(model, x, y, (x, y))
    assert torch.equal(model[1].running_mean, before)
    torch.manual_seed(1)
    result = LearningToReweight(model)(x, y, meta_batch=(x, y))
    assert int(model[1].num_batches_tracked) == 1
    torch.manual_seed(1)
    model[1].momentum = 0.0
    assert torch.equal(result["output"], model(x))


def test_attention():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(24, 3)).double()
    x, y = torch.randn(4, 3, 8, dtype=torch.float64), torch.randint(0, 3, (4,))
    meta = (torch.randn(4, 3, 8, dtype=torch.float64), torch.randint(0, 3, (4,)))
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        expected = unrolled(model, x, y, meta, 1.0)
    assert torch.allclose(agreement(model, x, y, meta), expected, atol=1e-12)


def test_missing_meta_batch():
    with pytest.raises(ValueError, match="meta_batch="):
        LearningToReweight(nn.Linear(2, 2))(torch.randn(2, 2), torch.tensor([0, 1]))
