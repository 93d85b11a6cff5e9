"""Sparse gradients and complex parameters, for every optimizer of the registry: an error, or what happens instead."""

from __future__ import annotations

import pytest
import torch
from timm.optim import Lamb

import zoo

OWN = ("lans", "adax", "adax_w", "adabound", "amsbound")
DECAYED = {"weight_decay": 0.01}  # timm's Lars and Lamb adapt groups with decay only


def test_these_are_all():
    assert {*OWN, "lars", "lamb", "riemannian_bn", "adam_g"} == set(zoo.list_methods(kind="optimizer"))


@pytest.mark.parametrize("name", [*OWN, "lars", "lamb", "riemannian_bn", "adam_g"])
def test_sparse_gradients_are_refused(name):
    """The sparse tensor stays as it is; zoo's own leave the dense one before it alone too."""
    dense, table = torch.ones(3, 2, requires_grad=True), torch.ones(4, 2, requires_grad=True)
    optimizer = zoo.create(name, [{"params": [dense, table], **(DECAYED if name in ("lars", "lamb") else {})}], lr=0.1)
    dense.grad = torch.ones(3, 2)
    table.grad = torch.sparse_coo_tensor([[1]], torch.ones(1, 2), (4, 2))
    with pytest.raises(RuntimeError, match=r"[Ss]parse"):
        optimizer.step()
    assert torch.equal(table.detach(), torch.ones(4, 2))
    if name not in ("lars", "lamb"):
        assert torch.equal(dense.detach(), torch.ones(3, 2))


@pytest.mark.parametrize("name", [*OWN, "lars", "lamb", "riemannian_bn", "adam_g"])
def test_complex_parameters_are_refused(name):
    with pytest.raises(TypeError, match="complex64"):
        zoo.create(name, [torch.ones(2, dtype=torch.complex64, requires_grad=True)])


@pytest.mark.parametrize("name", OWN)
def test_a_later_group_of_complex_parameters_is_refused(name):
    optimizer = zoo.create(name, [torch.ones(2, requires_grad=True)])
    with pytest.raises(TypeError, match="complex128"):
        optimizer.add_param_group({"params": [torch.ones(2, dtype=torch.complex128, requires_grad=True)]})
    assert len(optimizer.param_groups) == 1


def test_why_lamb_refuses_them():
    """timm's Lamb would square a complex gradient without its conjugate: not what the same numbers do as real pairs."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4, 3, dtype=torch.complex128, generator=generator)
    grads = torch.randn(5, 4, 3, dtype=torch.complex128, generator=generator)
    ends = []
    for real in (False, True):
        p = (torch.view_as_real(start) if real else start).clone().requires_grad_()
        optimizer = Lamb([{"params": [p], **DECAYED}], lr=0.1)
        for g in grads:
            p.grad = (torch.view_as_real(g) if real else g).clone()
            optimizer.step()
        ends.append(torch.view_as_complex(p.detach()) if real else p.detach())
    assert (ends[0] - ends[1]).abs().max() > 0.1
