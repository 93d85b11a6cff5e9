"""The committed swap matrix is what the installed timm gives: an upgrade that changes it is seen here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from zoo.factory.families import FAMILIES
from zoo.factory.matrix import SWAPS, build_family, functional_acts, try_swap

MATRIX = json.loads((Path(__file__).resolve().parents[2] / "docs" / "data" / "swap_matrix.json").read_text())
HAS_NORM = sorted(set(FAMILIES) - {"nfnet", "vgg"})


def test_covers_every_family_of_timm() -> None:
    from timm.models._registry import _module_to_models

    if timm.__version__ == MATRIX["timm_version"]:
        assert set(FAMILIES) == set(_module_to_models) - {"timm_bridge"}  # where zoo registers its own models
    assert set(MATRIX["families"]) == set(FAMILIES)


@pytest.mark.parametrize("method", ["group_norm", "layer_norm"])
def test_every_family_with_norms_swaps_completely(method: str) -> None:
    status = {family: MATRIX["families"][family][method]["status"] for family in FAMILIES}
    assert {f for f, s in status.items() if s == "complete"} == set(HAS_NORM)
    assert {s for f, s in status.items() if f not in HAS_NORM} == {"none"}


def test_every_family_swaps_its_activation_modules() -> None:
    assert {MATRIX["families"][f]["mish"]["status"] for f in FAMILIES} == {"complete"}


@pytest.mark.parametrize("family", FAMILIES)
def test_matrix_is_true(family: str) -> None:
    committed, model = MATRIX["families"][family], build_family(family)
    assert committed["model"] == FAMILIES[family]
    for method in ("group_norm", "layer_norm", "mish", "weight_standardization"):
        run = method == "group_norm"
        measured = try_swap(model, method, run=run)
        expected = {k: v for k, v in committed[method].items() if run or k != "forward"}
        assert measured == expected, method


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_full_row(family: str) -> None:
    model = build_family(family)
    assert {m: try_swap(model, m) for m in SWAPS} == {m: MATRIX["families"][family][m] for m in SWAPS}


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [f for f in HAS_NORM if f not in {"deepseek_vit", "gemma4_vit", "nasnet", "pnasnet", "vision_transformer_sam"}],
)
@pytest.mark.parametrize("method", ["group_norm", "layer_norm"])
def test_swapped_models_train_on_real_numbers(family: str, method: str) -> None:
    """Forward and backward on the CPU: finite output of the right shape, finite gradients that reach the new norms."""
    import zoo

    model = timm.create_model(FAMILIES[family])
    size = model.pretrained_cfg["input_size"]
    report = zoo.swap(model, norm=method)
    out = model(torch.randn(2, *size))
    out = out[0] if isinstance(out, tuple | list) else out
    assert out.shape[0] == 2
    assert torch.isfinite(out).all()
    out.square().mean().backward()
    gradients = [p.grad for r in report.replaced for p in model.get_submodule(r.path).parameters(recurse=False)]
    assert any(g is not None and bool(g.abs().sum() > 0) for g in gradients)
    assert all(torch.isfinite(g).all() for g in gradients if g is not None)


def test_functional_activations_are_counted() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pretrained_cfg = {"input_size": (3, 8, 8)}
            self.conv, self.act = nn.Conv2d(3, 4, 3), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.gelu(self.act(F.relu(self.conv(x))))

    with torch.device("meta"):
        assert functional_acts(Functional()) == 2
