"""Memory network with adaptive memories (Weston et al., arXiv 1502.05698, appendix A): hard look-ups until a stop fact."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.memory.memn2n import wide


class _Scorer(nn.Module):
    r""":math:`s(x, y) = E(x)^\top E(y)` over bags of words with :math:`D = 3|W|`: a word has one row of U where it stands
    in the question, another in a fact that was found, a third in a candidate. ``E`` is the identity, or
    :math:`\tanh(W \tanh(\cdot))`."""

    def __init__(self, vocabulary: int, dim: int, nonlinear: bool) -> None:
        super().__init__()
        self.question, self.found, self.candidate = (nn.Embedding(vocabulary, dim, padding_idx=0) for _ in range(3))
        self.mixing = nn.Linear(dim, dim, bias=False) if nonlinear else None

    def embed(self, bag: Tensor) -> Tensor:
        return bag if self.mixing is None else self.mixing(bag.tanh()).tanh()


def bag(table: nn.Embedding, words: Tensor) -> Tensor:
    """Sum of the rows of ``table`` that ``words`` ``(*, J)`` names, ``(*, d)``; word 0 counts nothing."""
    return F.embedding_bag(words.flatten(0, -2), table.weight, mode="sum", padding_idx=0).view(*words.shape[:-1], -1)


class MemNN(nn.Module):
    r"""Hard look-ups, one fact at a time, until the stop fact :math:`m_\varnothing` wins:

    .. math:: o_t = \arg\max_{i \in \{1..N, \varnothing\}} s_O([x, m_{o_1}, \dots, m_{o_{t-1}}], m_i), \qquad
              r = \arg\max_w s_R([x, m_{o_1}, \dots], w)

    The supporting facts are given in training (strong supervision), see :meth:`loss`: an argmax has no gradient.

    Args:
        vocabulary: words, with 0 for padding.
        dim: d.
        hops: a fixed number of look-ups without stop fact (the memory network that came before), or None: adaptive.
        cap: most look-ups of the adaptive network (paper: 10).
        memory: slots; the first sentence of a story is the most recent one.
        nonlinear: :math:`E = \tanh(W \tanh(\cdot))` on both sides (the paper's NL), needed wherever question, fact and
            answer have to interact.
        margin: of the ranking losses.

    Shape:
        stories ``(B, M', J)`` of word indices with M' up to ``memory``, most recent sentence first, questions
        ``(B, J')``; logits ``(B, vocabulary)``, the answers' scores with word 0 at minus infinity. Empty slots are
        never chosen; a story of empty slots is answered from the question alone.

    Raises:
        ValueError: sizes below 1, a margin that is not positive, a story without or with too many slots.
    """

    def __init__(
        self,
        vocabulary: int,
        dim: int = 50,
        hops: int | None = None,
        cap: int = 10,
        memory: int = 50,
        nonlinear: bool = True,
        margin: float = 0.1,
    ) -> None:
        super().__init__()
        if min(vocabulary, dim, cap, memory, 1 if hops is None else hops) < 1:
            raise ValueError(f"memnn needs sizes >= 1, received {vocabulary=}, {dim=}, {hops=}, {cap=}, {memory=}")
        if not margin > 0:
            raise ValueError(f"memnn needs margin > 0, received {margin}")
        self.hops, self.cap, self.memory, self.margin = hops, cap, memory, margin
        self.lookup, self.answer = (_Scorer(vocabulary, dim, nonlinear) for _ in range(2))
        self.stop = nn.Parameter(torch.empty(dim)) if hops is None else None
        # The age of a fact, apart for facts that are candidates and facts that were found.
        self.candidate_time, self.found_time = (nn.Parameter(torch.empty(memory, dim)) for _ in range(2))
        self.reset_parameters()

    @property
    def most(self) -> int:
        """Look-ups at most."""
        return self.cap if self.hops is None else self.hops

    def reset_parameters(self) -> None:
        """N(0, 0.1^2), the mixing matrices orthogonal, padding at 0."""
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1)
        for scorer in (self.lookup, self.answer):
            for table in (scorer.question, scorer.found, scorer.candidate):
                nn.init.zeros_(table.weight[0])
            if scorer.mixing is not None:
                nn.init.orthogonal_(scorer.mixing.weight)

    def _facts(self, stories: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates ``(B, M'[+1], d)`` with the stop fact last, what a fact adds once found (to the question of
        the look-up and of the answer) ``(2, B, M', d)``, and which candidates there are ``(B, M'[+1])``."""
        if stories.dim() != 3 or not 1 <= stories.shape[1] <= self.memory:
            raise ValueError(f"memnn reads stories (B, 1 to {self.memory}, J), received {tuple(stories.shape)}")
        slots = stories.shape[1]
        there = (stories != 0).any(-1)
        candidates = bag(self.lookup.candidate, stories) + self.candidate_time[:slots]
        found = torch.stack(
            [bag(self.lookup.found, stories) + self.found_time[:slots], bag(self.answer.found, stories)]
        )
        if self.stop is not None:
            candidates = torch.cat([candidates, self.stop.expand(len(stories), 1, -1)], 1)
            there = torch.cat([there, there.new_ones(len(stories), 1)], 1)
        return self.lookup.embed(candidates), found, there

    def _questions(self, questions: Tensor) -> Tensor:
        return torch.stack([bag(self.lookup.question, questions), bag(self.answer.question, questions)])

    def _scores(self, state: Tensor, candidates: Tensor, there: Tensor) -> Tensor:
        """s_O of every candidate, minus infinity where there is none, ``(B, M'[+1])``."""
        scores = torch.einsum("bd,bmd->bm", self.lookup.embed(state), candidates)
        return scores.to(wide(scores)).masked_fill(~there, -torch.inf)

    def _answers(self, state: Tensor) -> Tensor:
        """s_R of every word, ``(B, V)``."""
        scores = self.answer.embed(state) @ self.answer.embed(self.answer.candidate.weight).T
        nothing = torch.arange(scores.shape[1], device=scores.device) == 0
        return scores.to(wide(scores)).masked_fill(nothing, -torch.inf)

    @staticmethod
    def _read(found: Tensor, index: Tensor, take: Tensor) -> Tensor:
        """Rows ``index`` ``(B,)`` of ``found`` ``(2, B, M', d)``, zero where ``take`` ``(B,)`` is False."""
        row = index.clamp(0, found.shape[2] - 1).view(1, -1, 1, 1).expand(2, -1, 1, found.shape[3])
        return found.gather(2, row).squeeze(2) * take.to(found.dtype)[:, None]

    def retrieve(self, stories: Tensor, questions: Tensor) -> tuple[Tensor, Tensor]:
        """The slots that were looked up, in order, -1 after the end ``(B, most)``, and the logits ``(B, V)``."""
        candidates, found, there = self._facts(stories)
        state, slots = self._questions(questions), stories.shape[1]
        going, chosen = there.any(1), []
        for _ in range(self.most):
            pick = self._scores(state[0], candidates, there).argmax(1)
            going = going & (pick < slots)
            chosen.append(pick.masked_fill(~going, -1))
            state = state + self._read(found, pick, going)
        return torch.stack(chosen, 1), self._answers(state[1])

    def forward(self, stories: Tensor, questions: Tensor) -> Tensor:
        return self.retrieve(stories, questions)[1]

    def loss(
        self, stories: Tensor, questions: Tensor, answers: Tensor, supports: Tensor, ordered: bool = False
    ) -> Tensor:
        r"""Sum of the margin ranking losses of every look-up and of the answer, ``(B,)``:

        .. math:: \sum_t \sum_{i \ne o_t} [\gamma - s_O(x_t, m_{o_t}) + s_O(x_t, m_i)]_+ + \sum_{w \ne r}
                  [\gamma - s_R(x_T, r) + s_R(x_T, w)]_+

        where :math:`x_t` holds the question and the true facts before t. After the last one, the right choice of the
        adaptive network is the stop fact, unless the cap is reached.

        Args:
            stories, questions: as in :meth:`forward`.
            answers: words, ``(B,)``.
            supports: slots of the supporting facts, -1 for none, those at the end, ``(B, S)``.
            ordered: look them up in this order. Otherwise the next one is the one that scores best of those that
                remain, and the others that remain are no mistakes.

        Raises:
            ValueError: supports of another shape.
        """
        if supports.dim() != 2 or len(supports) != len(stories):
            raise ValueError(f"memnn needs supports (B, S) with B {len(stories)}, received {tuple(supports.shape)}")
        candidates, found, there = self._facts(stories)
        state, slots = self._questions(questions), stories.shape[1]
        numbers = torch.arange(there.shape[1], device=stories.device)
        real = (supports >= 0) & (supports < slots) & there.gather(1, supports.clamp(0, slots - 1))
        left = ((supports[:, :, None] == numbers) & real[:, :, None]).any(1)
        total = state.new_zeros(len(stories), dtype=wide(state))
        steps = min(supports.shape[1] + (self.stop is not None), self.most)
        going = torch.ones_like(left[:, 0])
        for t in range(steps):
            scores = self._scores(state[0], candidates, there)
            if ordered and t < supports.shape[1]:
                target, some = supports[:, t].clamp(0, slots - 1), real[:, t]
            else:
                target, some = scores.masked_fill(~left, -torch.inf).argmax(1), left.any(1)
            if self.stop is not None:
                target = target.masked_fill(~some, slots)
            counts = going if self.stop is not None else some
            wrong = there & (numbers != target[:, None])
            if not ordered:
                wrong = wrong & ~left
            best = scores.gather(1, target[:, None])
            missed = torch.where(wrong, F.relu(self.margin - best + scores.masked_fill(~wrong, 0)), 0.0).sum(1)
            total = total + torch.where(counts, missed, 0.0)
            state = state + self._read(found, target, some)
            left = left & (numbers != target[:, None])
            going = going & some
        words = self._answers(state[1])
        other = (torch.arange(words.shape[1], device=words.device) != answers[:, None]) & words.isfinite()
        missed = F.relu(self.margin - words.gather(1, answers[:, None]) + words.masked_fill(~other, 0))
        return total + torch.where(other, missed, 0.0).sum(1)

    def example_inputs(self) -> tuple[Tensor, Tensor]:
        """An empty story in full memory and an empty question of eight words, on the device of the parameters."""
        blank = torch.zeros(1, self.memory, 8, dtype=torch.int64, device=self.found_time.device)
        return blank, blank[:, 0]
