"""Singular Value Bounding and Bounded Batch Normalization (Jia et al., CVPR 2017, arXiv 1611.06013)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def _polar(x: Tensor, steps: int) -> Tensor:
    r"""Polar factor :math:`U V^\top` of ``(..., m, n)`` with ``m <= n`` by Newton-Schulz iteration, matmuls only.

    :math:`X \leftarrow \tfrac18 (15 I - 10 A + 3 A^2) X` with :math:`A = X X^\top`: singular values in (0, 1] go to one,
    small ones by a factor of 15/8 a step. Of a symmetric matrix this is the matrix sign.
    """
    # The largest singular value is at most the root of the Gram matrix' Frobenius norm.
    bound = torch.linalg.matrix_norm(x @ x.mT, keepdim=True).sqrt()
    x = x / bound.clamp_min(torch.finfo(x.dtype).tiny)
    one = torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)
    for _ in range(steps):
        gram = x @ x.mT
        x = (15 * one - 10 * gram + 3 * (gram @ gram)) @ x / 8
    return x


def _clip_by_products(w: Tensor, low: float, high: float, steps: int) -> Tensor:
    r"""Clip the singular values of ``(..., m, n)``, ``m <= n``, without decomposing it.

    With :math:`W = H Q` (polar; the eigenvalues of H are the singular values) and
    :math:`\mathrm{clip}(s, a, b) = \tfrac12 (a + b + |s - a| - |s - b|)`, :math:`|M| = M \,\mathrm{sign}(M)`.
    Where the sign has not converged its argument is close to zero, so the error stays small there, too.
    """
    q = _polar(w, steps)
    h = w @ q.mT
    one = torch.eye(h.shape[-1], dtype=h.dtype, device=h.device)
    off = torch.stack((h + h.mT - 2 * low * one, h + h.mT - 2 * high * one)) / 2
    above_low, above_high = off @ _polar(off, steps)
    return ((low + high) * one + above_low - above_high) @ q / 2


def bound_singular_values(
    matrices: Tensor, eps: float, method: Literal["svd", "newton_schulz"] = "svd", steps: int = 24
) -> Tensor:
    r"""Clip the singular values of ``(..., m, n)`` to :math:`[1/(1+\epsilon), 1+\epsilon]`; 0 is the polar factor.

    Args:
        matrices: ``(..., m, n)``, decomposed in float32 at least.
        eps: band.
        method: ``svd``, or ``newton_schulz``: matrix products only, for devices where an SVD is slow.
        steps: of the iteration. With 24, singular values end in the band within 5e-6 (float32) for condition numbers up
            to 1e5, and the result is the SVD's within about 3e-7 times the condition number. Directions whose singular
            value is below :math:`(8/15)^{steps}` of the largest stay below the band; zero stays zero.

    Returns:
        Same shape and dtype.
    """
    wide = matrices.float() if matrices.dtype in (torch.float16, torch.bfloat16) else matrices
    low, high = 1 / (1 + eps), 1 + eps
    if method == "newton_schulz":
        tall = wide.shape[-2] > wide.shape[-1]
        bounded = _clip_by_products(wide.mT if tall else wide, low, high, steps)
        return (bounded.mT if tall else bounded).to(matrices.dtype)
    u, s, vh = torch.linalg.svd(wide, full_matrices=False)
    return ((u * s.clamp(low, high).unsqueeze(-2)) @ vh).to(matrices.dtype)


class _Projection:
    """Counts calls and acts on every ``every``-th; can follow an optimizer."""

    def __init__(self, every: int) -> None:
        if every < 1:
            raise ValueError(f"every is 1 or more, received {every}")
        self.every, self._calls = every, 0

    def apply(self) -> None:
        raise NotImplementedError

    def project(self) -> None:
        """Call after every optimizer step."""
        self._calls += 1
        if self._calls % self.every == 0:
            self.apply()

    def follow(self, optimizer: torch.optim.Optimizer) -> RemovableHandle:
        """Project inside ``optimizer.step()``, so that whatever is evaluated or saved after it is bounded."""
        return optimizer.register_step_post_hook(lambda *_: self.project())


class SingularValueBounding(_Projection):
    r"""Keep all singular values of every weight matrix in a band around one.

    .. math:: W = U S V^\top, \qquad s_i \leftarrow \mathrm{clip}\left(s_i, \tfrac1{1+\epsilon}, 1+\epsilon\right)

    W is ``(out, in * kh * kw)``; a grouped convolution has one matrix a group. Matrices of one shape are decomposed in
    one batch, in float32 at least. Start from orthogonal weights (:meth:`orthogonal_init`), as the paper does.

    Args:
        model_or_params: a model (all its linear and convolution layers but the ones with a single filter a group) or
            weights ``(out, ...)``.
        eps: band (the paper's ConvNet study draws 0.05, the authors' CIFAR commands use 0.5).
        every: act on every T-th call of :meth:`project`; the authors' code acts once an epoch. Call :meth:`apply`
            before evaluation or a checkpoint when it is above 1: the authors' loop validates and saves first.
        method, steps: as in :func:`bound_singular_values`; Newton-Schulz is not in the paper.

    Raises:
        ValueError: nothing to bound, a parametrised weight (the projection would be undone), or a value out of range.
    """

    def __init__(
        self,
        model_or_params: nn.Module | Iterable[nn.Parameter],
        eps: float = 0.5,
        every: int = 1,
        method: Literal["svd", "newton_schulz"] = "svd",
        steps: int = 24,
    ) -> None:
        super().__init__(every)
        if eps < 0 or steps < 1 or method not in ("svd", "newton_schulz"):
            raise ValueError(
                f"singular_value_bounding needs eps >= 0, steps >= 1 and method svd or newton_schulz, received {eps}, "
                f"{steps} and {method!r}"
            )
        self.eps, self.method, self.steps = eps, method, steps
        self.weights: list[tuple[Tensor, int]] = []
        if isinstance(model_or_params, nn.Module):
            for name, layer in model_or_params.named_modules():
                if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                    if parametrize.is_parametrized(layer, "weight"):
                        raise ValueError(f"singular_value_bounding cannot bound the parametrised weight of {name!r}")
                    groups = getattr(layer, "groups", 1)
                    if groups == 1 or layer.weight.shape[0] > groups:
                        self.weights.append((layer.weight, groups))
        else:
            self.weights = [(w, 1) for w in model_or_params]
        if not self.weights:
            raise ValueError("singular_value_bounding found no linear or convolution weight")
        for w, _ in self.weights:
            if w.dim() < 2:
                raise ValueError(f"weights have shape (out, ...), received {tuple(w.shape)}")

    @torch.no_grad()
    def orthogonal_init(self) -> None:
        """Give every matrix orthonormal rows or columns, whichever are fewer."""
        for w, groups in self.weights:
            for part in w.chunk(groups):
                part.copy_(nn.init.orthogonal_(torch.empty_like(part, dtype=torch.float32)))

    @torch.no_grad()
    def apply(self) -> None:
        """Bound now, whatever ``every`` says."""
        batches: dict[Any, list[Tensor]] = defaultdict(list)
        for w, groups in self.weights:
            for part in w.view(groups, w.shape[0] // groups, -1):
                batches[part.shape, part.dtype, part.device].append(part)
        for parts in batches.values():
            bounded = bound_singular_values(torch.stack(parts), self.eps, self.method, self.steps)
            for part, new in zip(parts, bounded, strict=True):
                part.copy_(new)


class BoundedBatchNorm(_Projection):
    r"""Keep the gain-to-deviation ratios of every batch norm within a band around their mean.

    .. math:: a_i = \frac{\gamma_i}{\sigma_i}, \qquad
              \gamma_i \leftarrow \sigma_i\,\bar a\;
              \mathrm{clip}\left(\frac{a_i}{\bar a}, \tfrac1{1+\epsilon}, 1+\epsilon\right)

    with :math:`\sigma_i` from the running variance. ``form="relative"`` leaves sigma out and bounds gamma against its
    own mean: the authors' default, which their README calls even better.

    A negative gain keeps its sign (magnitudes are bounded); the authors' code clips it to the positive lower bound.

    Args:
        model: contains batch norms with affine parameters and running statistics.
        eps: band (authors' code: a factor of 2, so 1).
        every: act on every T-th call of :meth:`project`.
        form: ``ratio`` (the paper's BBN) or ``relative``.

    Raises:
        ValueError: no such batch norm, or a value out of range.
    """

    def __init__(
        self, model: nn.Module, eps: float = 1.0, every: int = 1, form: Literal["ratio", "relative"] = "ratio"
    ) -> None:
        super().__init__(every)
        if eps < 0 or form not in ("ratio", "relative"):
            raise ValueError(f"bounded_batch_norm needs eps >= 0, form ratio or relative, received {eps}, {form!r}")
        self.eps, self.form = eps, form
        self.layers = [
            m
            for m in model.modules()
            if isinstance(m, BATCH_NORMS) and m.affine and (form == "relative" or m.running_var is not None)
        ]
        if not self.layers:
            raise ValueError(f"bounded_batch_norm found no affine batch norm in {type(model).__name__}")

    @torch.no_grad()
    def apply(self) -> None:
        """Bound now, whatever ``every`` says."""
        for layer in self.layers:
            gain = layer.weight
            variance = None if self.form == "relative" else layer.running_var
            sigma = torch.ones_like(gain) if variance is None else torch.sqrt(variance + layer.eps)
            ratio = gain.abs() / sigma
            mean = ratio.mean()
            bounded = ratio.clamp(mean / (1 + self.eps), mean * (1 + self.eps)) * sigma
            gain.copy_(torch.where(gain < 0, -bounded, bounded))
