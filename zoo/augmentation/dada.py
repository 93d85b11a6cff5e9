"""DADA: augmentation policies found by gradient (Li et al., arXiv 2003.03780). Written from the equations; no policy data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from torch import Tensor, nn

Operation = Callable[[Tensor, float], Tensor]


def _uint8(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: function((x * 255).round().to(torch.uint8)).to(x.dtype) / 255


def _cutout(x: Tensor, m: float) -> Tensor:
    """A grey square of up to 0.6 of the side in the middle: the place does not matter for the search."""
    h, w = x.shape[-2:]
    side_h, side_w = round(0.6 * m * h), round(0.6 * m * w)
    top, left = (h - side_h) // 2, (w - side_w) // 2
    x = x.clone()
    x[..., top : top + side_h, left : left + side_w] = 0.5
    return x


def _auto_contrast(x: Tensor) -> Tensor:
    """Each channel stretched to [0, 1]. torchvision's writes in place into what autograd still needs."""
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp_min(1e-6), x)


def _affine(
    x: Tensor, angle: float = 0.0, move: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0, 0)
) -> Tensor:
    return TF.affine(x, angle, list(move), 1.0, list(shear))


#: The 15 operations on float images in [0, 1], each with a magnitude in [0, 1].
OPERATIONS: dict[str, Operation] = {
    "shear_x": lambda x, m: _affine(x, shear=(34.0 * (2 * m - 1), 0.0)),
    "shear_y": lambda x, m: _affine(x, shear=(0.0, 34.0 * (2 * m - 1))),
    "translate_x": lambda x, m: _affine(x, move=(round(0.9 * (m - 0.5) * x.shape[-1]), 0)),
    "translate_y": lambda x, m: _affine(x, move=(0, round(0.9 * (m - 0.5) * x.shape[-2]))),
    "rotate": lambda x, m: _affine(x, angle=60.0 * m - 30.0),
    "auto_contrast": lambda x, m: _auto_contrast(x),
    "invert": lambda x, m: TF.invert(x),
    "equalize": lambda x, m: _uint8(TF.equalize)(x),
    "solarize": lambda x, m: TF.solarize(x, m),
    "posterize": lambda x, m: _uint8(lambda y: TF.posterize(y, 4 + round(4 * m)))(x),
    "contrast": lambda x, m: TF.adjust_contrast(x, 0.1 + 1.8 * m),
    "color": lambda x, m: TF.adjust_saturation(x, 0.1 + 1.8 * m),
    "brightness": lambda x, m: TF.adjust_brightness(x, 0.1 + 1.8 * m),
    "sharpness": lambda x, m: TF.adjust_sharpness(x, 0.1 + 1.8 * m),
    "cutout": _cutout,
}


def relax_bernoulli(
    f: Callable[[Tensor], Tensor],
    logits: Tensor,
    control: Callable[[Tensor], Tensor],
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""The RELAX estimate of :math:`\nabla_\theta E_{b \sim \mathrm{Bern}(\sigma(\theta))} f(b)`, one sample each.

    .. math:: \left(f(b) - c(\tilde z)\right) \nabla_\theta \ln P(b) + \nabla_\theta c(z) - \nabla_\theta c(\tilde z)

    with z the logistic relaxation of b and :math:`\tilde z` its draw given b. Unbiased for every ``control`` c;
    c = 0 is REINFORCE. ``logits`` ``(N,)``; ``f`` and ``control`` map ``(N,)`` to ``(N,)``; result ``(N,)``.
    """
    theta = logits.detach().requires_grad_()
    p = torch.sigmoid(theta)
    u, v = (torch.rand(theta.shape, generator=generator, dtype=theta.dtype).clamp(1e-12, 1 - 1e-7) for _ in range(2))
    z = theta + torch.logit(u)
    b = (z > 0).to(theta.dtype).detach()
    # u given b: uniform on the part of [0, 1] that gives this b
    given = torch.where(b > 0, (1 - p) + v * p, v * (1 - p))
    z_given = theta + torch.logit(given)
    log_p = b * F.logsigmoid(theta) + (1 - b) * F.logsigmoid(-theta)
    c, c_given = control(z), control(z_given)
    score = torch.autograd.grad(log_p.sum(), theta, retain_graph=True)[0]
    paths = (c - c_given).sum()
    path = torch.autograd.grad(paths, theta)[0] if paths.requires_grad else torch.zeros_like(theta)
    return ((f(b) - c_given) * score + path).detach()


class DADA(nn.Module):
    r"""A distribution over pairs of operations that can be searched by gradient, and drawn from once found.

    Sub-policy k has a weight :math:`\alpha_k`, and for each of its two operations a probability
    :math:`\sigma(\theta_{kj})` and a magnitude :math:`m_{kj} \in [0, 1]`.

    * In training mode one sub-policy is drawn for the whole batch, as in the paper's search. The choice and the two
      coin flips are discrete in the forward pass and relaxed in the backward pass (Gumbel softmax at ``temperature``);
      the magnitude passes its gradient straight through: :math:`\partial \hat x / \partial m = 1` for every pixel.
    * In eval mode every image draws its own among the ``keep`` heaviest sub-policies; no gradient.

    Args:
        pairs: pairs of operation names; default: all 105 unordered pairs of the 15.
        temperature: of the relaxation (paper's code: 0.5).
        keep: sub-policies in use outside the search (paper: 25).

    Shape:
        float images in [0, 1], ``(N, C, H, W)`` with C of 1 or 3, the same out.

    Raises:
        ValueError: unknown operations, no pair, a temperature that is not positive, images of another shape.
        TypeError: images that are not floating point.
    """

    def __init__(
        self, pairs: Sequence[tuple[str, str]] | None = None, temperature: float = 0.5, keep: int = 25
    ) -> None:
        super().__init__()
        self.pairs = tuple(itertools.combinations(OPERATIONS, 2) if pairs is None else map(tuple, pairs))
        unknown = {name for pair in self.pairs for name in pair} - set(OPERATIONS)
        if unknown or not self.pairs or any(len(pair) != 2 for pair in self.pairs):
            raise ValueError(f"dada needs pairs of {', '.join(OPERATIONS)}; received {sorted(unknown) or self.pairs!r}")
        if not temperature > 0 or keep < 1:
            raise ValueError(f"dada needs temperature > 0 and keep >= 1, received {temperature} and {keep}")
        self.temperature, self.keep = temperature, keep
        self.alpha = nn.Parameter(torch.full((len(self.pairs),), 1e-3))
        self.theta = nn.Parameter(torch.zeros(len(self.pairs), 2))
        self.magnitude = nn.Parameter(torch.full((len(self.pairs), 2), 0.5))

    def _operate(self, x: Tensor, k: int, j: int) -> Tensor:
        m = self.magnitude[k, j].clamp(0, 1)
        changed = OPERATIONS[self.pairs[k][j]](x, float(m.detach()))
        return changed + (m - m.detach())  # straight through: value of the operation, gradient 1 a pixel

    def _search(self, x: Tensor) -> Tensor:
        gumbel = -torch.empty_like(self.alpha).exponential_().log()
        soft = F.softmax((F.log_softmax(self.alpha, 0) + gumbel) / self.temperature, 0)
        k = int(soft.argmax())
        chosen = 1 + soft[k] - soft[k].detach()
        for j in range(2):
            z = (self.theta[k, j] + torch.logit(torch.rand(()).clamp(1e-6, 1 - 1e-6))) / self.temperature
            relaxed = torch.sigmoid(z)
            apply = (z > 0).to(relaxed.dtype) + relaxed - relaxed.detach()
            x = apply * self._operate(x, k, j) + (1 - apply) * x
        return chosen * x

    @torch.no_grad()
    def _use(self, x: Tensor) -> Tensor:
        best = self.alpha.topk(min(self.keep, len(self.pairs))).indices.tolist()
        out = []
        for image in x:
            k = best[int(torch.randint(len(best), ()))]
            image = image[None]
            for j in range(2):
                if torch.rand(()) < torch.sigmoid(self.theta[k, j]):
                    image = self._operate(image, k, j)
            out.append(image)
        return torch.cat(out)

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            raise TypeError(f"dada works on float images in [0, 1], received {x.dtype}")
        if x.dim() != 4 or x.shape[1] not in (1, 3):
            raise ValueError(f"dada needs images (N, 1 or 3, H, W), received {tuple(x.shape)}")
        return self._search(x) if self.training else self._use(x)

    def extra_repr(self) -> str:
        return f"{len(self.pairs)} pairs, temperature={self.temperature}, keep={self.keep}"


def policy_gradients(
    model: nn.Module,
    policy: DADA,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    lr: float,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Tensor:
    r"""One search step: put :math:`\nabla_d L_{val}(w - \gamma \nabla_w L_{train}(w, d))` into the policy's ``grad``.

    The unrolled step is differentiated exactly where the authors' code uses a central difference. The model is left
    as it is; returns the validation loss after the unrolled step, detached. The model must not update buffers in
    training that the loss depends on.
    """
    weights: dict[str, Tensor] = dict(model.named_parameters())
    inner = loss(torch.func.functional_call(model, weights, (policy(train[0]),)), train[1])
    gradients = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
    stepped = {name: w - lr * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
    outer = loss(torch.func.functional_call(model, stepped, (validation[0],)), validation[1])
    found = torch.autograd.grad(outer, list(policy.parameters()), allow_unused=True)
    for parameter, gradient in zip(policy.parameters(), found, strict=True):
        parameter.grad = gradient
    return outer.detach()
