"""Memory networks, flows and triplet mining against the forms that one would write first.

The plain forms stand here in full: a memory network that embeds its memories anew in every hop, the log-determinant of the
whole Jacobian by autograd, and a Python loop over triplets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from common import interleave, main, peak_megabytes, row
from torch import Tensor

from zoo.generative._flows import FlowChain
from zoo.generative.planar_flow import PlanarFlow
from zoo.generative.radial_flow import RadialFlow
from zoo.memory.memn2n import MemN2N, position_encoding
from zoo.metric_learning.facenet import FaceNetLoss

VOCABULARY, DIM, HOPS, SLOTS, WORDS, BATCH = 172, 20, 3, 50, 7, 32


def plain_hops(model: MemN2N, stories: Tensor, questions: Tensor) -> Tensor:
    """The equations as they stand: each hop looks its input and its output memory up, word by word."""

    def sentences(k: int, words: Tensor) -> Tensor:
        weights = position_encoding(words.shape[-1], DIM, "official")
        return (F.embedding(words, model.tables[k].weight, padding_idx=0) * weights).sum(-2)

    filled = (stories != 0).any(-1, keepdim=True)
    slots = model._slots(stories)
    u = sentences(0, questions)
    for k in range(model.hops):
        m = sentences(k, stories) + filled * model.times[k][slots]
        c = sentences(k + 1, stories) + filled * model.times[k + 1][slots]
        p = (m * u[:, None]).sum(-1).softmax(1)
        u = u + (p[..., None] * c).sum(1)
    return u @ model.tables[-1].weight.T


def memory_network(rounds: int = 7) -> list[dict[str, Any]]:
    """An epoch of 1,000 questions on full memories: forward, backward, SGD."""
    generator = torch.Generator().manual_seed(0)
    stories = torch.randint(1, VOCABULARY, (1000, SLOTS, WORDS), generator=generator)
    questions = torch.randint(1, VOCABULARY, (1000, WORDS), generator=generator)
    answers = torch.randint(1, VOCABULARY, (1000,), generator=generator)

    def epoch(forward: Callable[[MemN2N, Tensor, Tensor], Tensor]) -> Callable[[], None]:
        torch.manual_seed(0)
        model = MemN2N(VOCABULARY, DIM, HOPS, SLOTS)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001)

        def run() -> None:
            for i in range(0, 1000 - BATCH + 1, BATCH):
                part = slice(i, i + BATCH)
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(forward(model, stories[part], questions[part]), answers[part]).backward()
                optimizer.step()

        return run

    torch.manual_seed(0)
    model = MemN2N(VOCABULARY, DIM, HOPS, SLOTS, noise=0.0)
    for a, b in zip(model(stories[:4], questions[:4]), plain_hops(model, stories[:4], questions[:4]), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    ours, plain = epoch(lambda m, s, q: m(s, q)), epoch(plain_hops)
    found = interleave({"ours": ours, "plain": plain}, rounds, warmup=1)
    what = f"1,000 questions, {SLOTS} sentences of {WORDS} words, 3 hops, d 20, batch {BATCH}; training"
    rows = [
        row("MemN2N, one epoch", what, found["ours"], found["plain"], 1.0, rounds, "memories embedded in every hop")
    ]
    leaf = [lambda f=f: f(model, stories[:BATCH], questions[:BATCH]).logsumexp(1).sum().backward()
            for f in (MemN2N.__call__, plain_hops)]  # fmt: skip
    peaks = [peak_megabytes(f) for f in leaf]
    what = f"one batch of {BATCH}, forward and backward; peak memory"
    return [*rows, row("MemN2N, one batch", what, *peaks, 1.0, 1, "memories embedded in every hop", unit="MB")]


def flows(rounds: int = 9, dim: int = 16, length: int = 8) -> list[dict[str, Any]]:
    """Log-determinants of a chain for 256 samples: in closed form, and from the whole Jacobian."""
    z = torch.randn(256, dim, generator=torch.Generator().manual_seed(0))
    rows = []
    for name, kind in (("planar_flow", PlanarFlow), ("radial_flow", RadialFlow)):
        torch.manual_seed(0)
        chain = FlowChain(kind(dim) for _ in range(length))
        for parameter in chain.parameters():
            torch.nn.init.normal_(parameter, std=0.5)

        def closed(chain: FlowChain = chain) -> Tensor:
            return chain(z)[1]

        def jacobian(chain: FlowChain = chain) -> Tensor:
            one = torch.func.jacrev(lambda x: chain(x[None])[0][0])
            return torch.linalg.slogdet(torch.func.vmap(one)(z))[1]

        with torch.no_grad():
            torch.testing.assert_close(closed(), jacobian(), atol=1e-3, rtol=1e-3)
            found = interleave({"closed": closed, "jacobian": jacobian}, rounds)
        what = f"chain of {length} in {dim} dimensions, 256 samples, forward"
        against = "torch.func.jacrev and slogdet, vmapped"
        rows.append(row(f"{name}, log-determinant", what, found["closed"], found["jacobian"], 1.0, rounds, against))
    return rows


def loop_over_triplets(embeddings: Tensor, labels: list[int], margin: float = 0.2) -> Tensor:
    """Semi-hard negatives pair by pair, the distances already in one matrix."""
    f = F.normalize(embeddings, dim=1)
    d = 2 - 2 * f @ f.T
    known, terms = d.tolist(), []
    for a, label in enumerate(labels):
        for p, other in enumerate(labels):
            if a == p or label != other:
                continue
            inside = [
                n
                for n, third in enumerate(labels)
                if third != label and known[a][p] < known[a][n] < known[a][p] + margin
            ]
            if inside:
                n = min(inside, key=lambda n, a=a: known[a][n])
                terms.append(d[a, p] - d[a, n] + margin)
    return torch.stack(terms).clamp_min(0).mean()


def mining(rounds: int = 5, classes: int = 10, each: int = 8) -> list[dict[str, Any]]:
    """Semi-hard mining and loss, forward and backward, on a batch of 80."""
    labels = torch.arange(classes).repeat_interleave(each)
    x = torch.randn(classes * each, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss, names = FaceNetLoss(), labels.tolist()
    torch.testing.assert_close(loss(x, labels), loop_over_triplets(x, names), atol=1e-5, rtol=1e-4)

    def ours() -> None:
        loss(x, labels).backward()

    def loop() -> None:
        loop_over_triplets(x, names).backward()

    found = interleave({"ours": ours, "loop": loop}, rounds, warmup=1)
    what = f"{classes} classes x {each} embeddings of 64, semi-hard, forward and backward"
    return [row("facenet, mining and loss", what, found["ours"], found["loop"], 1.0, rounds, "Python loop over pairs")]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main("memory", lambda: [*memory_network(), *flows(), *mining()])
