"""Folding gives the same outputs, folds only what may be folded, and says what it left."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import zoo
from zoo.errors import ZooError
from zoo.normalization.batch_channel_norm import BatchChannelNorm2d, EstimatedBatchNorm
from zoo.normalization.batch_renorm import BatchRenorm1d, BatchRenorm2d
from zoo.normalization.four_things_bn import weigh_examples
from zoo.normalization.moving_average_bn import CentredConv2d, CentredLinear, MovingAverageBatchNorm2d
from zoo.weights.weight_standardization import WSConv1d, WSConv2d


def lived_in(model: nn.Module) -> nn.Module:
    """Statistics, gains and shifts as after training, so that nothing folded is the identity; in evaluation."""
    torch.manual_seed(3)
    for module in model.modules():
        for name, tensor in (*module.named_buffers(recurse=False), *module.named_parameters(recurse=False)):
            if name in ("running_var", "running_std", "running_square", "long"):
                nn.init.uniform_(tensor, 0.5, 2)
            elif name in ("running_mean", "logs") or (name == "bias" and tensor is not None):
                nn.init.uniform_(tensor, -0.3, 0.3)
            elif name == "weight" and tensor.dim() == 1:
                nn.init.uniform_(tensor, 0.5, 1.5)
    return model.eval()


def check(model: nn.Module, x: Tensor, tolerance: float = 1e-5, example: bool = True) -> tuple[nn.Module, object]:
    """Fold, compare on an input that was not traced, and see the original unharmed."""
    before = {k: v.clone() for k, v in model.state_dict().items()}
    folded, report = zoo.fold(model, x if example else None)
    fresh = torch.randn(x.shape, dtype=x.dtype)
    expected, received = model(fresh), folded(fresh)
    assert (expected - received).abs().max() <= tolerance * expected.abs().max().clamp_min(1)
    assert report.error <= tolerance
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    return folded, report


BACKBONES = [
    ("resnet18", {}, 20), ("test_efficientnet", {}, 13), ("mobilenetv3_small_050", {}, 34), ("test_byobnet", {}, 14),
    ("test_resnet", {"norm": "batch_renorm"}, 15),
    ("test_efficientnet", {"norm": "estimated_batch_norm"}, 13),
    ("test_byobnet", {"norm": "moving_average_bn", "conv": "centred_conv"}, 14),
    ("test_resnet", {"conv": "weight_standardization"}, 15),
    ("test_efficientnet", {"norm": "actnorm"}, 13),
    ("test_efficientnet", {"norm": "mean_only_batch_norm"}, 13),
    ("test_efficientnet", {"norm": "streaming_norm"}, 13),
    ("test_efficientnet", {"norm": "four_things_bn"}, 13),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "swaps", "count"), BACKBONES, ids=[f"{n}-{'-'.join(s.values())}" for n, s, _ in BACKBONES]
)
def test_backbones(name: str, swaps: dict[str, str], count: int) -> None:
    model = lived_in(zoo.create(name, num_classes=7, allow_partial=True, **swaps))
    folded, report = check(model, torch.randn(1, 3, 32, 32), example=name != "test_efficientnet")
    assert (len(report.folded), report.kept) == (count, ())
    assert not any(
        isinstance(m, nn.modules.batchnorm._BatchNorm) or hasattr(m, "eval_affine") for m in folded.modules()
    )
    assert report.parameters_after == sum(p.numel() for p in folded.parameters())
    if "conv" in swaps:
        assert report.plain
        assert {type(m) for m in folded.modules() if isinstance(m, nn.Conv2d)} == {nn.Conv2d}


CHAINS = [
    (lambda: (nn.Conv2d(4, 6, 3, groups=2, stride=2, padding_mode="reflect", padding=1), nn.BatchNorm2d(6)), (2, 4, 9, 8)),
    (lambda: (nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6, affine=False, eps=0.3)), (2, 4, 9, 8)),
    (lambda: (nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6)), (2, 4, 9)),
    (lambda: (nn.Conv3d(2, 6, 2), nn.BatchNorm3d(6)), (2, 2, 4, 3, 5)),
    (lambda: (nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)), (2, 4, 5, 6)),
    (lambda: (nn.ConvTranspose1d(4, 6, 3), nn.BatchNorm1d(6)), (2, 4, 5)),
    (lambda: (nn.Linear(4, 6), nn.BatchNorm1d(6)), (5, 4)),
    (lambda: (CentredLinear(4, 6), nn.Identity(), BatchRenorm1d(6)), (5, 4)),
    (lambda: (CentredConv2d(4, 6, 3), MovingAverageBatchNorm2d(6)), (2, 4, 5, 6)),
    (lambda: (WSConv2d(4, 6, 3), BatchRenorm2d(6, affine=False)), (2, 4, 5, 6)),
    (lambda: (WSConv1d(4, 6, 3), nn.BatchNorm1d(6)), (2, 4, 9)),
    (lambda: (weight_norm(nn.Conv2d(4, 6, 3)), nn.BatchNorm2d(6)), (2, 4, 5, 6)),
    (lambda: (nn.Conv2d(4, 6, 3), EstimatedBatchNorm(6), nn.ReLU(inplace=True)), (2, 4, 5, 6)),
    (lambda: (nn.Conv2d(4, 6, 3), timm.layers.BatchNormAct2d(6)), (2, 4, 5, 6)),
    (lambda: (nn.Conv2d(4, 6, 3), timm.layers.FrozenBatchNormAct2d(6)), (2, 4, 5, 6)),
    (lambda: (timm.layers.StdConv2dSame(4, 6, 3), nn.SyncBatchNorm(6)), (2, 4, 5, 6)),
    (lambda: (timm.layers.Conv2dSame(4, 6, 3, stride=2), nn.BatchNorm2d(6)), (2, 4, 5, 6)),
    (lambda: (nn.Conv2d(4, 6, 3), BatchChannelNorm2d(6, num_groups=2)), (2, 4, 5, 6)),
    (lambda: (nn.Conv2d(4, 6, 3), zoo.create("four_things_bn", 6, num_groups=3)), (2, 4, 5, 6)),
    (lambda: (nn.Conv2d(4, 6, 3), zoo.create("streaming_norm", 6, p=1, affine=False)), (2, 4, 5, 6)),
    (lambda: (nn.Conv2d(4, 6, 3), zoo.create("actnorm", 6, logscale_factor=1.5)), (2, 4, 5, 6)),
    (lambda: (nn.Conv2d(4, 6, 3), zoo.create("mean_only_batch_norm", 6, affine=False)), (2, 4, 5, 6)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shape"), CHAINS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_kind_of_layer(make, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    model = lived_in(nn.Sequential(*make()).to(dtype))
    folded, report = check(model, torch.randn(shape, dtype=dtype), 1e-12 if dtype == torch.float64 else 1e-5)
    assert len(report.folded) == 1
    assert report.folded[0].into == "0"
    assert all(p.dtype == dtype for p in folded.parameters())
    assert type(folded[0]) in (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear) or (
        "Same" in type(folded[0]).__name__
    )


def test_against_torch() -> None:
    """torch's own fusion of one convolution and one batch norm gives the same numbers."""
    model = lived_in(nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)).double())
    oracle = nn.utils.fusion.fuse_conv_bn_eval(model[0], model[1])
    folded, _ = zoo.fold(model)
    torch.testing.assert_close(folded[0].weight, oracle.weight)
    torch.testing.assert_close(folded[0].bias, oracle.bias)


def test_fused_activation_and_dropout_stay() -> None:
    norm = timm.layers.BatchNormAct2d(6, act_layer=nn.SiLU, drop_layer=nn.Dropout)
    folded, _ = check(lived_in(nn.Sequential(nn.Conv2d(4, 6, 3), norm)), torch.randn(2, 4, 5, 6))
    assert isinstance(folded[1].act, nn.SiLU)
    assert isinstance(folded[1].drop, nn.Dropout)


class Branch(nn.Module):
    """The convolution's output goes into the norm and, by ``how``, somewhere else."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.conv, self.bn, self.other = how, nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        a = self.conv(x)
        if self.how == "in place":
            a.mul_(2)
        y = self.bn(self.conv(a) if self.how == "conv twice" else a)
        match self.how:
            case "add":
                return y + a
            case "later in place":
                return y + a.relu_()
            case "output":
                return y, a
            case "view":
                return y + a.view(-1)[0]
            case "two norms":
                return y + self.other(a)
            case "norm twice":
                return self.bn(y)
            case "weight":
                return y + self.conv.weight.sum()
            case "functional":
                return F.batch_norm(a, self.bn.running_mean, self.bn.running_var) + y
        return y


HOWS = [
    "in place",
    "conv twice",
    "add",
    "later in place",
    "output",
    "view",
    "two norms",
    "norm twice",
    "weight",
    "functional",
]


@pytest.mark.parametrize("how", HOWS)
def test_shared_outputs_are_left(how: str) -> None:
    model = lived_in(Branch(how))
    before = copy.deepcopy(model)
    folded, report = zoo.fold(model, torch.randn(2, 3, 4, 4))
    assert report.folded == ()
    reason = next(k.reason for k in report.kept if k.path == "bn")
    assert "straight" in reason or "elsewhere" in reason or "more than once" in reason or "weight" in reason
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(folded(x), before(x), rtol=0, atol=0)


def test_the_plain_branch_is_folded() -> None:
    """The same module without the second use folds: what the test above sees is the second use."""
    _, report = check(lived_in(Branch("nothing else")), torch.randn(2, 3, 4, 4))
    assert [f.path for f in report.folded] == ["bn"]
    assert [(k.path, k.reason) for k in report.kept] == [("other", "was not reached by the forward pass")]


@pytest.mark.parametrize(
    ("layers", "shape", "words"),
    [
        ((nn.Linear(4, 5), nn.BatchNorm1d(6)), (2, 6, 4), "not the output channels"),
        ((nn.Linear(4, 6), nn.BatchNorm1d(6)), (2, 6, 4), "not the output channels"),
        ((nn.Conv2d(4, 6, 1), nn.ReLU(), nn.BatchNorm2d(6)), (2, 4, 3, 3), "straight"),
        ((nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6, track_running_stats=False)), (2, 4, 3, 3), "no running statistics"),
        ((nn.Conv2d(4, 6, 1), nn.GroupNorm(2, 6)), (2, 4, 3, 3), "depends on its own input"),
        ((nn.Conv2d(4, 6, 1), weigh_examples(nn.BatchNorm2d(6))), (2, 4, 3, 3), "hook"),
        ((nn.Conv2d(4, 6, 1), zoo.create("four_things_bn", 6, example_weight=0.2)), (2, 4, 3, 3), "example_weight"),
    ],
)  # fmt: skip
def test_kept_with_a_reason(layers: tuple[nn.Module, ...], shape: tuple[int, ...], words: str) -> None:
    model = lived_in(nn.Sequential(*layers))
    folded, report = zoo.fold(model, torch.randn(shape))
    assert report.folded == ()
    assert words in report.kept[0].reason
    assert report.kept[0].reason in str(report)
    x = torch.randn(shape)
    torch.testing.assert_close(folded(x), model(x), rtol=0, atol=0)


def test_tied_weights_are_left() -> None:
    a, b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    b.weight = a.weight
    _, report = zoo.fold(lived_in(nn.Sequential(a, nn.BatchNorm2d(3), b)), torch.randn(2, 3, 4, 4))
    assert "shared" in report.kept[0].reason


def test_refusals() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    with pytest.raises(ZooError, match=r"call model\.eval"):
        zoo.fold(model)
    with pytest.raises(ZooError, match="received int"):
        zoo.fold(3)
    with pytest.raises(ZooError, match="meta device"):
        zoo.fold(copy.deepcopy(model).to("meta").eval())
    with pytest.raises(ZooError, match=r"on \(2, 5, 4, 4\) failed"):
        zoo.fold(model.eval(), torch.randn(2, 5, 4, 4))


@pytest.mark.parametrize(
    ("layer", "plain"),
    [
        (zoo.create("weight_standardization", 3, 8, 3, padding=1), nn.Conv2d),
        (WSConv1d(3, 8, 3, groups=1), nn.Conv1d),
        (zoo.create("centred_conv", 3, 4, 3), nn.Conv2d),
        (zoo.create("weight_norm", nn.Linear(5, 4)), nn.Linear),
        (zoo.create("weight_norm", nn.ConvTranspose2d(4, 6, 3, groups=2)), nn.ConvTranspose2d),
    ],
)
def test_a_layer_by_itself(layer: nn.Module, plain: type[nn.Module]) -> None:
    folded, report = zoo.fold(layer.eval())
    assert type(folded) is plain
    assert [(p.path, p.new) for p in report.plain] == [("", plain.__name__)]
    size = (layer.in_features,) if plain is nn.Linear else (layer.in_channels, *(7,) * len(layer.kernel_size))
    x = torch.randn(2, *size)
    torch.testing.assert_close(folded(x), layer(x), rtol=1e-5, atol=1e-6)
    with pytest.raises(ZooError, match="nothing to fold"):
        zoo.fold(folded)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Linear(3, 8), nn.BatchNorm1d(8)),
        (nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8)),
        (nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4)),
        (nn.ConvTranspose2d(3, 4, 2), nn.BatchNorm2d(4)),
    ],
)
def test_the_first_layer_tells_the_example(layers: tuple[nn.Module, ...]) -> None:
    folded, report = zoo.fold(lived_in(nn.Sequential(*layers)))
    assert len(report.folded) == 1
    assert isinstance(folded[1], nn.Identity)


@pytest.mark.parametrize(
    "model",
    [nn.BatchNorm2d(4), nn.LayerNorm(4), nn.Conv2d(3, 4, 3), nn.Linear(3, 4), nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())],
)  # fmt: skip
def test_nothing_to_fold_is_said(model: nn.Module) -> None:
    with pytest.raises(ZooError, match=f"nothing to fold in {type(model).__name__}: .*pass both"):
        zoo.fold(model.eval())


def test_trainability_and_half_precision_stay() -> None:
    model = lived_in(nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))).bfloat16().requires_grad_(False)
    folded, report = zoo.fold(model)
    assert folded[0].weight.dtype == torch.bfloat16
    assert not any(p.requires_grad for p in folded.parameters())
    assert report.error < 0.02
