"""What is equal to what: every pair is implemented apart, so that an error in one shows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from timm.layers import GroupNorm, GroupNorm1, LayerNorm2d
from torch import nn

from zoo.normalization.ada_norm import AdaNorm2d
from zoo.normalization.batch_channel_norm import BatchChannelNorm2d, EstimatedBatchNorm
from zoo.normalization.batch_renorm import BatchRenorm2d
from zoo.normalization.four_things_bn import FourThingsBatchNorm2d
from zoo.normalization.layer_norm import ChannelLayerNorm
from zoo.normalization.moving_average_bn import MovingAverageBatchNorm2d
from zoo.normalization.positional_norm import PositionalNorm

EPS = 1e-3


@pytest.fixture
def x():
    return torch.randn(6, 4, 3, 5, dtype=torch.float64, requires_grad=True)


def same(first, second, x, tolerance=1e-12):
    """Equal outputs and equal gradients."""
    a, b = first(x), second(x)
    probe = torch.randn_like(a)
    assert torch.allclose(a, b, atol=tolerance)
    assert torch.allclose(torch.autograd.grad(a, x, probe)[0], torch.autograd.grad(b, x, probe)[0], atol=tolerance)


def test_group_norm_of_one_group_is_layer_norm_over_everything(x):
    same(GroupNorm(4, 1, eps=EPS, affine=False), lambda v: F.layer_norm(v, v.shape[1:], eps=EPS), x)
    same(GroupNorm(4, 1, eps=EPS, affine=False), GroupNorm1(4, eps=EPS, affine=False), x)


def test_group_norm_of_c_groups_is_instance_norm(x):
    same(GroupNorm(4, 4, eps=EPS, affine=False), nn.InstanceNorm2d(4, eps=EPS), x)


def test_positional_norm_with_biased_variance_is_channel_layer_norm(x):
    same(PositionalNorm(4, EPS, unbiased=False), LayerNorm2d(4, eps=EPS, affine=False), x)
    same(PositionalNorm(4, EPS, unbiased=False), ChannelLayerNorm(4, eps=EPS, affine=False), x)
    same(PositionalNorm(4, EPS, unbiased=False), AdaNorm2d(4, scale=1.0, k=0.0, eps=EPS), x)


def test_sample_variance_is_a_factor_and_another_eps(x):
    biased = PositionalNorm(4, EPS * 3 / 4, unbiased=False)
    same(PositionalNorm(4, EPS, unbiased=True), lambda v: (3 / 4) ** 0.5 * biased(v), x)


def test_batch_channel_norm_is_group_norm_of_batch_norm(x):
    bn = nn.BatchNorm2d(4, eps=EPS).double()
    same(BatchChannelNorm2d(4, 2, eps=EPS).double(), lambda v: F.group_norm(bn(v), 2, eps=EPS), x)


def test_estimated_batch_norm_that_stands_still_is_batch_norm_in_evaluation(x):
    estimated, bn = EstimatedBatchNorm(4, EPS, momentum=0.0).double(), nn.BatchNorm2d(4, EPS).double().eval()
    for norm in (estimated, bn):
        norm.running_mean.fill_(0.3)
        norm.running_var.fill_(1.7)
    same(estimated, bn, x)


def test_batch_renorm_without_clipping_is_normalisation_with_running_values(x):
    norm = BatchRenorm2d(4, EPS, r_max=1e12, d_max=1e12, schedule=(0, 0, 0)).double()
    norm.num_batches_tracked.fill_(10**9)
    norm.running_mean.normal_()
    norm.running_std.uniform_(0.5, 2)
    mean, std = norm.running_mean.clone().view(1, -1, 1, 1), norm.running_std.clone().view(1, -1, 1, 1)
    assert torch.allclose(norm(x), (x - mean) / std, atol=1e-9)


def test_batch_renorm_with_closed_clips_is_batch_norm(x):
    same(BatchRenorm2d(4, EPS).double(), nn.BatchNorm2d(4, EPS).double(), x)


def test_moving_average_bn_in_warm_up_is_rms_batch_norm(x):
    rms = lambda v: v / (v.square().mean((0, 2, 3), keepdim=True) + EPS).sqrt()  # noqa: E731
    same(MovingAverageBatchNorm2d(4, eps=EPS).double(), rms, x)


def test_moving_average_bn_of_centred_input_in_warm_up_is_batch_norm(x):
    centred = (x - x.mean((0, 2, 3), keepdim=True)).detach()
    norm = MovingAverageBatchNorm2d(4, eps=EPS).double()
    assert torch.allclose(norm(centred), nn.BatchNorm2d(4, EPS).double()(centred), atol=1e-12)


def test_ghost_batch_norm_by_chunks_is_one_batch_norm(x):
    def by_chunks(v):
        chunks = [F.batch_norm(v[b::3], None, None, training=True, eps=EPS) for b in range(3)]
        return torch.stack(chunks, 1).flatten(0, 1)

    same(FourThingsBatchNorm2d(4, 2, eps=EPS).double(), by_chunks, x)


def test_batch_and_group_in_the_limits(x):
    same(FourThingsBatchNorm2d(4, 1, 2, eps=EPS).double(), GroupNorm(4, 2, eps=EPS).double(), x)
    same(FourThingsBatchNorm2d(4, 6, 4, eps=EPS).double(), nn.BatchNorm2d(4, EPS).double(), x)
    everything = lambda v: (v - v.mean()) / (v.var(correction=0) + EPS).sqrt()  # noqa: E731
    same(FourThingsBatchNorm2d(4, 6, 1, eps=EPS).double(), everything, x)
