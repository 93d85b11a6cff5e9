"""Sparse gradients and complex parameters, for every optimizer of the registry: an error, or what happens instead."""

from __future__ import annotations

import pytest
import torch

import zoo

OWN = ("lans", "adax", "adax_w", "adabound", "amsbound")
DECAYED = {"weight_decay": 0.01}  # timm's Lars and Lamb adapt groups with decay only


def test_these_are_all():
    assert {*OWN, "lars", "lamb", "riemannian_bn", "adam_g"} == set(zoo.list_methods(kind="optimizer"))


@pytest.mark.parametrize("name", [*OWN, "lars", "lamb", "riemannian_bn", "adam_g"])
def test_sparse_gradients_are_refused(name):
    """The sparse tensor stays as it is; those of `zoo.optimizers` leave the dense one before it alone too."""
    dense, table = torch.ones(3, 2, requires_grad=True), torch.ones(4, 2, requires_grad=True)
    optimizer = zoo.create(name, [{"params": [dense, table], **(DECAYED if name in ("lars", "lamb") else {})}], lr=0.1)
    dense.grad = torch.ones(3, 2)
    table.grad = torch.sparse_coo_tensor([[1]], torch.ones(1, 2), (4, 2))
    with pytest.raises(RuntimeError, match=r"[Ss]parse"):
        optimizer.step()
    assert torch.equal(table.detach(), torch.ones(4, 2))
    if name in OWN:
        assert torch.equal(dense.detach(), torch.ones(3, 2))


@pytest.mark.parametrize("name", OWN)
def test_complex_parameters_are_refused(name):
    with pytest.raises(TypeError, match="complex64"):
        zoo.create(name, [torch.ones(2, dtype=torch.complex64, requires_grad=True)])
    optimizer = zoo.create(name, [torch.ones(2, requires_grad=True)])
    with pytest.raises(TypeError, match="complex128"):
        optimizer.add_param_group({"params": [torch.ones(2, dtype=torch.complex128, requires_grad=True)]})
    assert len(optimizer.param_groups) == 1


def complex_and_real(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Five steps of a complex parameter, and of the same numbers as pairs of real ones."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4, 3, dtype=torch.complex128, generator=generator)
    grads = torch.randn(5, 4, 3, dtype=torch.complex128, generator=generator)
    ends = []
    for real in (False, True):
        p = (torch.view_as_real(start) if real else start).clone().requires_grad_()
        optimizer = zoo.create(name, [{"params": [p], **DECAYED}], lr=0.1)
        for g in grads:
            p.grad = (torch.view_as_real(g) if real else g).clone()
            optimizer.step()
        ends.append(p.detach() if not real else torch.view_as_complex(p.detach()))
    return ends[0], ends[1]


def test_lars_takes_complex_parameters_as_pairs():
    torch.testing.assert_close(*complex_and_real("lars"))


def test_lamb_does_not():
    """The trap that its page names: the square of a complex gradient is taken without conjugate."""
    ours, pairs = complex_and_real("lamb")
    assert (ours - pairs).abs().max() > 0.1
