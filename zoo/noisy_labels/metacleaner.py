"""MetaCleaner: a clean representation of a class as the weighted sum of its noisy samples (Zhang et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Sampler

from zoo.noisy_labels.base import Algorithm
from zoo.numerics import wide


class NoisyWeighting(nn.Module):
    r""":math:`\alpha = \mathrm{softmax}(g([v_1; \dots; v_N]))`: how much each of N samples of a class is to be trusted.

    Args:
        num_features: D.
        per_class: N.
        hidden: width of g's hidden layer.

    Maps ``(C', N, D)`` to ``(C', N)``, rows of sum 1.
    """

    def __init__(self, num_features: int, per_class: int, hidden: int = 64) -> None:
        super().__init__()
        self.g = nn.Sequential(nn.Linear(num_features * per_class, hidden), nn.ReLU(), nn.Linear(hidden, per_class))

    def forward(self, features: Tensor) -> Tensor:
        return self.g(features.flatten(1)).softmax(1)


class CleanedNetwork(nn.Module):
    """The network with the weighting between its features and its classifier; the plain network in evaluation.

    In training ``(C' * N, *)`` becomes ``(C', K)`` logits of the cleaned classes, ``(C', N)`` weights and, detached,
    ``(C' * N, K)`` logits of each sample by itself.
    """

    def __init__(self, model: Any, per_class: int, hidden: int) -> None:
        super().__init__()
        self.model: Any = model
        self.per_class = per_class
        self.weighting = NoisyWeighting(int(model.num_features), per_class, hidden)

    def forward(self, input: Tensor) -> Any:
        if not self.training:
            return self.model(input)
        v = self.model.forward_head(self.model.forward_features(input), pre_logits=True)
        groups = v.unflatten(0, (-1, self.per_class))
        alpha = self.weighting(groups)
        clean = (alpha.unsqueeze(2) * groups).sum(1)
        classifier = self.model.get_classifier()
        with torch.no_grad():
            own = classifier(v)
        return classifier(clean), alpha, own


class MetaCleaner(Algorithm):
    r"""Train the classifier on :math:`\sum_i \alpha_i v_i`, one per class of the batch; dropped at test time.

    Args:
        model: with timm's ``forward_features``, ``forward_head(..., pre_logits=True)``, ``get_classifier``,
        ``num_features``.
        per_class: N consecutive samples of the batch share a class, as :class:`ClassGroupSampler` delivers them.
        hidden: width of the weighting net (the paper's layer sizes could not be checked).
        num_samples: size of the training set, for :meth:`suspects`.

    :meth:`suspects` ranks by what the classifier says of each sample by itself: the weights, measured on digits, do not tell
    right from wrong labels.

    ``forward(input, target, index=None)``. ``output`` holds the ``(C', K)`` logits of the cleaned classes.

    Raises:
        ValueError: ``per_class`` below 1, or a batch that is no multiple of it.
        TypeError: a network without those methods.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def __init__(self, model: nn.Module, per_class: int = 5, hidden: int = 64, num_samples: int | None = None) -> None:
        super().__init__(model, num_samples)
        missing = [
            n for n in ("forward_features", "forward_head", "get_classifier", "num_features") if not hasattr(model, n)
        ]
        if missing:
            raise TypeError(f"metacleaner needs a network with timm's {', '.join(missing)}")
        if per_class < 1:
            raise ValueError(f"per_class is at least 1, received {per_class}")
        self.per_class = per_class
        self.trainable_module = CleanedNetwork(model, per_class, hidden)

    def forward(self, input: Tensor, target: Tensor, index: Tensor | None = None, **extra: Any) -> dict[str, Tensor]:
        if len(input) % self.per_class:
            raise ValueError(
                f"a batch of {len(input)} is no multiple of per_class={self.per_class}: use ClassGroupSampler"
            )
        if not self.training:
            output = self.trainable_module(input)
            return {"loss": F.cross_entropy(wide(output), target), "output": output}
        output, alpha, own = self.trainable_module(input)
        self.remember(index, -F.cross_entropy(wide(own), target, reduction="none"))
        return {"loss": F.cross_entropy(wide(output), target[:: self.per_class]), "output": output, "weights": alpha}


class ClassGroupSampler(Sampler[list[int]]):
    """Batches of ``classes`` random classes with ``per_class`` samples each, one class after the other.

    Args:
        labels: ``(N,)`` given classes.
        classes: C' classes a batch.
        per_class: samples of each, drawn without replacement where the class has enough.
        batches: length of an epoch; ``N // (classes * per_class)`` by default.
        seed: of the draw; every epoch continues it.

    Raises:
        ValueError: fewer classes than asked for.
    """

    def __init__(
        self, labels: Sequence[int] | Tensor, classes: int, per_class: int, batches: int | None = None, seed: int = 0
    ) -> None:
        given = torch.as_tensor(labels)
        self.members = [(given == c).nonzero().squeeze(1) for c in given.unique()]
        if not 1 <= classes <= len(self.members) or per_class < 1:
            raise ValueError(
                f"{classes} classes of {per_class} were asked for, the labels have {len(self.members)} classes"
            )
        self.classes, self.per_class = classes, per_class
        self.batches = max(1, len(given) // (classes * per_class)) if batches is None else batches
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.batches):
            batch: list[int] = []
            for c in torch.randperm(len(self.members), generator=self.generator)[: self.classes].tolist():
                own = self.members[c]
                if len(own) >= self.per_class:
                    pick = torch.randperm(len(own), generator=self.generator)[: self.per_class]
                else:
                    pick = torch.randint(len(own), (self.per_class,), generator=self.generator)
                batch += own[pick].tolist()
            yield batch
