"""End-to-end memory network (Sukhbaatar et al., arXiv 1503.08895) for question answering over sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Form = Literal["paper", "official", "bag"]


def position_factors(
    words: int, dim: int, form: Form, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    r"""The position encoding in its factors: :math:`l_{jk} = \alpha_j + \beta_j \kappa_k`, ``(J,), (J,), (d,)``.

    Both encodings have rank two. Two weighted sums of word vectors therefore replace the ``(B, M, J, d)`` product of all
    word vectors with their weights.
    """
    j, k = (torch.arange(1, n + 1, dtype=dtype, device=device) for n in (words, dim))
    if form == "paper":
        return 1 - j / words, 2 * j / words - 1, k / dim
    if form == "official":
        return torch.ones_like(j), 4 * (j - (words + 1) / 2) / (dim * words), k - (dim + 1) / 2
    return torch.ones_like(j), torch.zeros_like(j), torch.zeros_like(k)


def position_encoding(words: int, dim: int, form: Form = "paper", dtype: torch.dtype = torch.float32) -> Tensor:
    r"""Weight of word j (1..J) in component k (1..d) of a sentence's vector, ``(J, d)``.

    ``paper``: :math:`(1 - j/J) - (k/d)(1 - 2j/J)`, mean 1/2. ``official``: :math:`1 + 4 (k - \frac{d+1}2)
    (j - \frac{J+1}2) / (dJ)`, mean 1. Nearly the same shape on another scale, so learning rates do not carry over.
    ``bag``: 1 everywhere.
    """
    alpha, beta, kappa = position_factors(words, dim, form, dtype)
    return alpha[:, None] + beta[:, None] * kappa


def wide(x: Tensor) -> torch.dtype:
    """The type of ``x``, float32 at least."""
    return torch.promote_types(x.dtype, torch.float32)


def _weighted(table: Tensor, words: Tensor, weights: Tensor) -> Tensor:
    """Sum of the rows of ``table`` that ``words`` ``(N, J)`` names, times ``weights`` ``(J,)``; word 0 counts nothing."""
    each = weights.expand(words.shape).contiguous()
    return F.embedding_bag(words, table, mode="sum", per_sample_weights=each, padding_idx=0)


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
        encoding: Form = "official",
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
        self.dim, self.hops, self.memory, self.tying = dim, hops, memory, tying
        self.encoding, self.noise = encoding, noise
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

    def _sentences(self, tables: Sequence[Tensor], words: Tensor, times: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """Vectors of sentences by each table ``(V, d)``: ``(..., J) -> (..., d)`` a table, all tables in one look-up.

        With ``times``, ``(memory, d)`` a table, sentence i of ``(B, M', J)`` gets T(i) besides, as a word of weight 1.
        """
        rows, joined = words.flatten(0, -2), torch.cat(list(tables), 1)
        factors = position_factors(words.shape[-1], self.dim, self.encoding, wide(joined), words.device)
        alpha, beta, kappa = (f.to(joined) for f in factors)
        everything, table = rows, joined
        if times:
            time = (self._slots(words) + len(joined)).masked_fill(~(words != 0).any(-1), 0)
            everything, table = torch.cat([rows, time.view(-1, 1)], 1), torch.cat([joined, torch.cat(list(times), 1)])
            alpha = F.pad(alpha, (0, 1), value=1.0)
        found = _weighted(table, everything, alpha)
        if self.encoding != "bag":
            found = found + _weighted(joined, rows, beta) * kappa.repeat(len(tables))
        return found.view(*words.shape[:-1], len(tables), self.dim).unbind(-2)

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
        tables = [table.get_parameter("weight") for table in self.tables]
        embedded = self._sentences(tables, stories, list(self.times))
        adjacent = self.tying == "adjacent"
        (u,) = self._sentences([tables[0] if adjacent else self.question.weight], questions)
        for hop in range(self.hops):
            m, c = (embedded[hop], embedded[hop + 1]) if adjacent else (embedded[0], embedded[1])
            score = torch.einsum("bd,bmd->bm", u, m)
            p = score if self.linear else score.softmax(1)
            o = torch.einsum("bm,bmd->bd", p, c)
            u = (u if adjacent else self.transition(u)) + o
        return F.linear(u, tables[-1]) if adjacent else self.answer(u)

    def example_inputs(self) -> tuple[Tensor, Tensor]:
        """An empty story in full memory and an empty question of eight words, on the device of the parameters."""
        device = self.tables[0].get_parameter("weight").device
        blank = torch.zeros(1, self.memory, 8, dtype=torch.int64, device=device)
        return blank, blank[:, 0]
