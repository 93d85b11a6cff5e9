"""End-to-end memory network (Sukhbaatar et al., arXiv 1503.08895) for question answering over sentences."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


def position_encoding(words: int, dim: int, form: Literal["paper", "official"] = "paper") -> Tensor:
    r"""Weight of word j (1..J) in component k (1..d) of a sentence's vector, ``(J, d)``.

    ``paper``: :math:`(1 - j/J) - (k/d)(1 - 2j/J)`, mean 1/2. ``official``: :math:`1 + 4 (k - \frac{d+1}2)
    (j - \frac{J+1}2) / (dJ)`, mean 1. Nearly the same shape on another scale, so learning rates do not carry over.
    """
    j = torch.arange(1, words + 1).unsqueeze(1)
    k = torch.arange(1, dim + 1).unsqueeze(0)
    if form == "paper":
        return (1 - j / words) - (k / dim) * (1 - 2 * j / words)
    return 1 + 4 * (k - (dim + 1) / 2) * (j - (words + 1) / 2) / (dim * words)


class MemN2N(nn.Module):
    r"""K hops of attention over embedded sentences:

    .. math:: p_i = \mathrm{softmax}_i(u_k^\top m_i^k), \quad o_k = \sum_i p_i c_i^k, \quad u_{k+1} = u_k + o_k, \quad
              \hat a = W u_{K+1}

    with :math:`m_i = \sum_j l_j \odot A x_{ij} + T_A(i)` and :math:`c_i` likewise by C. Adjacent tying:
    :math:`A^{k+1} = C^k`, the question's embedding is :math:`A^1`, :math:`W = C^K`. Layer-wise tying: one A, one C, and
    :math:`u_{k+1} = H u_k + o_k`.

    Args:
        vocabulary: words, with 0 for padding.
        dim: d (paper: 20; 50 for joint training).
        hops: K (paper: 3).
        memory: slots; the first sentence of a story is the most recent one.
        tying: ``"adjacent"`` or ``"layerwise"``.
        encoding: ``"paper"``, ``"official"`` position encoding, or ``"bag"`` for plain sums.
        temporal: add the learned T(i).
        noise: share of empty slots put between sentences in training ("random noise", paper: 0.1), which shifts the
            time that later ones see.

    Attributes:
        linear: no softmax in the attention while True ("linear start"): train so first, then set it to False.

    Shape:
        stories ``(B, M', J)`` of word indices with M' up to ``memory``, most recent sentence first and empty ones at
        the end, questions ``(B, J')``; logits ``(B, vocabulary)``. Empty slots keep a score of 0 and take part in the
        softmax, as in the authors' code.

    Raises:
        ValueError: sizes below 1, unknown options, noise outside [0, 1), a story without or with too many slots.
    """

    def __init__(
        self,
        vocabulary: int,
        dim: int = 20,
        hops: int = 3,
        memory: int = 50,
        tying: Literal["adjacent", "layerwise"] = "adjacent",
        encoding: Literal["paper", "official", "bag"] = "official",
        temporal: bool = True,
        noise: float = 0.1,
    ) -> None:
        super().__init__()
        if min(vocabulary, dim, hops, memory) < 1:
            raise ValueError(f"memn2n needs sizes >= 1, received {vocabulary=}, {dim=}, {hops=}, {memory=}")
        if tying not in ("adjacent", "layerwise") or encoding not in ("paper", "official", "bag"):
            raise ValueError(
                f"memn2n knows adjacent, layerwise; paper, official, bag; received {tying!r}, {encoding!r}"
            )
        if not 0 <= noise < 1:
            raise ValueError(f"memn2n needs 0 <= noise < 1, received {noise}")
        self.hops, self.memory, self.tying, self.encoding, self.noise = hops, memory, tying, encoding, noise
        self.linear = False
        tables = hops + 1 if tying == "adjacent" else 2
        self.tables = nn.ModuleList(nn.Embedding(vocabulary, dim, padding_idx=0) for _ in range(tables))
        self.times = nn.ParameterList(nn.Parameter(torch.empty(memory, dim)) for _ in range(tables if temporal else 0))
        if tying == "layerwise":
            self.question = nn.Embedding(vocabulary, dim, padding_idx=0)
            self.transition = nn.Linear(dim, dim, bias=False)
            self.answer = nn.Linear(dim, vocabulary, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """N(0, 0.1^2) throughout, padding at 0."""
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                with torch.no_grad():
                    module.weight[0].zero_()

    def _sentences(self, table: nn.Module, words: Tensor) -> Tensor:
        """``(..., J) -> (..., d)``."""
        vectors = table(words)
        if self.encoding == "bag":
            return vectors.sum(-2)
        form: Literal["paper", "official"] = "paper" if self.encoding == "paper" else "official"
        weights = position_encoding(words.shape[-1], vectors.shape[-1], form).to(vectors)
        return (vectors * weights).sum(-2)

    def _slots(self, stories: Tensor) -> Tensor:
        """The time index of every sentence ``(B, M')``, jittered in training by inserted empty slots."""
        slots = torch.arange(stories.shape[1], device=stories.device).expand(stories.shape[:2])
        if self.training and self.noise > 0:
            inserted = torch.rand(stories.shape[:2], device=stories.device) < self.noise
            slots = (slots + inserted.cumsum(1)).clamp_max(self.memory - 1)
        return slots

    def forward(self, stories: Tensor, questions: Tensor) -> Tensor:
        if stories.dim() != 3 or not 1 <= stories.shape[1] <= self.memory:
            raise ValueError(f"memn2n reads stories (B, 1 to {self.memory}, J), received {tuple(stories.shape)}")
        filled = (stories != 0).any(-1, keepdim=True)
        slots = self._slots(stories)
        embedded = [self._sentences(table, stories) for table in self.tables]
        if len(self.times):
            embedded = [e + filled * time[slots] for e, time in zip(embedded, self.times, strict=True)]
        adjacent = self.tying == "adjacent"
        u = self._sentences(self.tables[0] if adjacent else self.question, questions)
        for hop in range(self.hops):
            m, c = (embedded[hop], embedded[hop + 1]) if adjacent else (embedded[0], embedded[1])
            score = torch.einsum("bd,bmd->bm", u, m)
            p = score if self.linear else score.softmax(1)
            o = torch.einsum("bm,bmd->bd", p, c)
            u = (u if adjacent else self.transition(u)) + o
        return nn.functional.linear(u, self.tables[-1].get_parameter("weight")) if adjacent else self.answer(u)
