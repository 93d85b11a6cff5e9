"""DUC against index arithmetic in loops, and the loss on rearranged labels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo.upsampling.dense_upsampling_conv import DenseUpsamplingConv, labels_in_cells


def test_index_arithmetic(parity):
    layer = DenseUpsamplingConv(2, 3, 2, dilations=(1, 2)).double()
    x = torch.randn(2, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    out = torch.zeros(2, 3, 8, 6, dtype=torch.float64)
    padded = F.pad(x, (2, 2, 2, 2))
    for r, conv in zip((1, 2), layer.convs, strict=True):
        for n in range(2):
            for o in range(12):
                for y in range(4):
                    for z in range(3):
                        taps = padded[n, :, y + 2 - r : y + 3 + r : r, z + 2 - r : z + 3 + r : r]
                        value = (taps * conv.weight[o]).sum() + conv.bias[o]
                        place = torch.zeros_like(out)
                        place[n, o // 4, 2 * y + (o % 4) // 2, 2 * z + o % 2] = 1
                        out = out + place * value
    y, g = layer(x), torch.randn(2, 3, 8, 6, dtype=torch.float64)
    got, want = (torch.autograd.grad((v * g).sum(), x)[0] for v in (y, out))
    error = max(float((y - out).detach().abs().max()), float((got - want).abs().max()))
    parity("dense_upsampling_conv", error, 1e-12, oracle="index arithmetic value by value, gradient included")


@pytest.mark.parametrize("scale", [2, 4])
def test_loss_on_rearranged_labels(scale):
    layer = DenseUpsamplingConv(3, 5, scale).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    labels = torch.randint(0, 5, (2, 4 * scale, 4 * scale))
    labels[0, 0] = -100
    cells = layer.scores_in_cells(x).unflatten(1, (5, scale * scale))
    assert torch.allclose(
        F.cross_entropy(cells, labels_in_cells(labels, scale)), F.cross_entropy(layer(x), labels), atol=1e-12
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenseUpsamplingConv(3, 2, 0), "dense_upsampling_conv needs"),
        (lambda: DenseUpsamplingConv(3, 2, 2, dilations=()), "dense_upsampling_conv needs"),
        (lambda: DenseUpsamplingConv(3, 2, 2, 2), "odd kernel_size"),
        (lambda: DenseUpsamplingConv(3, 2, 2)(torch.zeros(1, 2, 4, 4)), "received"),
        (lambda: labels_in_cells(torch.zeros(1, 3, 4), 2), "divisible by 2"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
