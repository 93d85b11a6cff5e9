"""DivideMix, in-loop variant: split by loss, co-refine, co-guess, MixMatch (Li, Socher, Hoi, arXiv 2002.07394)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.noisy_labels.base import Algorithm, Pair, fresh_copy
from zoo.numerics import wide


def clean_probability(losses: Tensor, iterations: int = 10, tol: float = 1e-2, floor: float = 5e-4) -> Tensor:
    """Posterior of the component of smaller mean in a Gaussian mixture of two, by EM on min-max scaled losses.

    Args:
        losses: ``(N,)``.
        iterations: at most (authors' code: 10).
        tol: stop when the mean log-likelihood gains less (1e-2).
        floor: added to both variances (5e-4).

    Returns:
        ``(N,)`` in [0, 1], float64.
    """
    x = losses.detach().double()
    x = (x - x.min()) / (x.max() - x.min()).clamp_min(1e-12)
    mean = torch.stack([x.quantile(0.1), x.quantile(0.9)])
    variance, share = x.var().repeat(2) + floor, torch.full((2,), 0.5, dtype=torch.float64, device=x.device)
    before = torch.tensor(-torch.inf, dtype=torch.float64)
    for step in range(iterations + 1):
        joint = share.log() - 0.5 * (variance * 2 * torch.pi).log() - 0.5 * (x[:, None] - mean) ** 2 / variance
        likelihood = joint.logsumexp(1)
        posterior = (joint - likelihood[:, None]).exp()
        now = likelihood.mean()
        if step == iterations or bool((now - before).abs() < tol):
            break
        before = now
        mass = posterior.sum(0) + 1e-12
        mean = (posterior * x[:, None]).sum(0) / mass
        variance = (posterior * (x[:, None] - mean) ** 2).sum(0) / mass + floor
        share = mass / len(x)
    return posterior[:, int(mean.argmin())]


def sharpen(p: Tensor, temperature: float) -> Tensor:
    """:math:`p^{1/T}` normalised to sum 1."""
    p = p ** (1 / temperature)
    return p / p.sum(1, keepdim=True)


class DivideMix(Algorithm):
    r"""Two networks; each one's loss distribution divides the samples for the other.

    After a warm-up of cross-entropy, every epoch fits a mixture to all losses of each network. With the other
    network's clean
    probability w, a sample is *labelled* if :math:`w > 0.5`: target :math:`\mathrm{sharpen}(w\,e_y + (1 - w) p)`;
    otherwise
    *unlabelled*: target :math:`\mathrm{sharpen}((p_f + p_g) / 2)`. Then MixMatch over the whole batch:

    .. math:: L = L_{CE} + \lambda_u L_{MSE} + \mathrm{KL}\left(u \,\|\, \bar p\right), \qquad
              \tilde x = l x_1 + (1 - l) x_2, \quad l = \max(b, 1 - b), \; b \sim \mathrm{Beta}(\alpha, \alpha)

    **In-loop variant**: one batch is split by mask, where the official code draws labelled and unlabelled batches
    of equal size
    from two loaders, with two augmented views of every image; here the loop's one view serves.

    Args:
        model: the first network.
        num_samples: size of the training set.
        peer_model: the second; a copy with parameters drawn anew if None.
        warmup: epochs of cross-entropy (paper: 10 for CIFAR-10, 30 for CIFAR-100).
        threshold: on w (0.5).
        temperature: of the sharpening (0.5).
        alpha: of the Beta distribution (4).
        lambda_u: weight of the unlabelled term (0, 25, 50 or 150, by data set and noise rate).
        ramp: epochs over which ``lambda_u`` grows linearly after the warm-up (16).
        penalty: weight of the negative entropy in the warm-up; 1 for asymmetric noise.

    ``start_epoch(epoch, batches)`` with ``(input, target, index)`` batches over the training set; then
    ``forward(input, target, index, epoch)``. ``suspects()`` ranks by the mean clean probability.

    Raises:
        ValueError: values out of range, ``index`` or ``epoch`` missing.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"index", "epoch", "epoch_pass"})
    trust: Tensor
    clean: Tensor

    def __init__(
        self,
        model: nn.Module,
        num_samples: int,
        peer_model: nn.Module | None = None,
        warmup: int = 10,
        threshold: float = 0.5,
        temperature: float = 0.5,
        alpha: float = 4.0,
        lambda_u: float = 25.0,
        ramp: float = 16.0,
        penalty: float = 0.0,
    ) -> None:
        super().__init__(model, num_samples)
        if warmup < 1 or not 0 < threshold < 1 or temperature <= 0 or alpha <= 0 or lambda_u < 0 or ramp <= 0:
            raise ValueError(
                "dividemix needs warmup >= 1, threshold in (0, 1), temperature, alpha, ramp > 0, lambda_u >= 0"
            )
        self.trainable_module = Pair(model, fresh_copy(model) if peer_model is None else peer_model)
        self.warmup, self.threshold, self.temperature, self.alpha = warmup, threshold, temperature, alpha
        self.lambda_u, self.ramp, self.penalty = lambda_u, ramp, penalty
        self.register_buffer("clean", torch.ones(2, num_samples))

    @torch.no_grad()
    def start_epoch(
        self, epoch: int, batches: Iterable[tuple[Tensor, Tensor, Tensor]] | None = None, **extra: Any
    ) -> None:
        """Fit the mixtures from the second epoch after the start on; evaluation mode, modes put back."""
        if epoch < self.warmup:
            return
        losses = torch.full_like(self.clean, torch.nan)
        training = self.training
        self.eval()
        for input, target, index in self.extra("batches", batches):
            for k, net in enumerate(self.trainable_module.nets):
                losses[k, index] = F.cross_entropy(wide(net(input)), target, reduction="none").to(losses.dtype)
        self.train(training)
        if bool(losses.isnan().any()):
            raise ValueError("the batches of start_epoch must visit every training sample")
        self.clean.copy_(torch.stack([clean_probability(row) for row in losses]))
        self.trust.copy_(self.clean.mean(0))

    def targets(self, logits: Tensor, target: Tensor, w: Tensor, own: int) -> Tensor:
        """Refined or guessed soft targets for network ``own``, ``(N, K)``."""
        p = logits.softmax(2)
        onehot = F.one_hot(target, p.shape[2]).to(p.dtype)
        refined = w[:, None] * onehot + (1 - w[:, None]) * p[own]
        return sharpen(torch.where((w > self.threshold)[:, None], refined, p.mean(0)), self.temperature)

    def forward(
        self, input: Tensor, target: Tensor, index: Tensor | None = None, epoch: float | None = None, **extra: Any
    ) -> dict[str, Tensor]:
        index, epoch = self.extra("index", index), self.extra("epoch", epoch)
        if epoch < self.warmup:
            logits = torch.stack([net(input) for net in self.trainable_module.nets])
            log_p = wide(logits).log_softmax(2)
            loss = -log_p.gather(2, target.expand(2, -1).unsqueeze(2)).mean(1).sum()
            loss = loss + self.penalty * (log_p.exp() * log_p).sum(2).mean(1).sum()
            return {"loss": loss, "output": logits[0]}
        with torch.no_grad():
            logits = wide(torch.stack([net(input) for net in self.trainable_module.nets]))
        strength = self.lambda_u * min(max((epoch - self.warmup) / self.ramp, 0.0), 1.0)
        loss = logits.new_zeros(())
        for own, net in enumerate(self.trainable_module.nets):
            w = self.clean[1 - own, index].to(logits.dtype)
            soft = self.targets(logits, target, w, own)
            alpha = torch.tensor(self.alpha, device=input.device)
            draw = torch.distributions.Beta(alpha, alpha).sample()
            mix = torch.maximum(draw, 1 - draw)
            partner = torch.randperm(len(input), device=input.device)
            z = wide(net(torch.lerp(input[partner], input, mix.to(input.dtype))))
            soft = torch.lerp(soft[partner], soft, mix.to(soft.dtype))
            labelled = (w > self.threshold).to(z.dtype)
            log_p = z.log_softmax(1)
            supervised = (labelled * -(soft * log_p).sum(1)).sum() / labelled.sum().clamp_min(1)
            guessed = ((1 - labelled) * (log_p.exp() - soft).square().mean(1)).sum() / (1 - labelled).sum().clamp_min(1)
            average = log_p.exp().mean(0)
            balance = -(average * average.shape[0]).log().mean()  # KL(u || average)
            loss = loss + supervised + strength * guessed + balance
        return {"loss": loss, "output": logits[0], "weights": self.clean[:, index].mean(0)}
