"""MemN2N's hops against scaled_dot_product_attention and plain loops, its tyings, encodings and invariances."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from zoo.memory.memn2n import MemN2N, position_encoding


def batch(words: int = 4, slots: int = 5, vocabulary: int = 9):
    generator = torch.Generator().manual_seed(0)
    stories = torch.randint(1, vocabulary, (3, slots, words), generator=generator)
    stories[1, 3:] = 0  # a shorter story
    stories[2, 0, 2:] = 0
    return stories, torch.randint(1, vocabulary, (3, words), generator=generator)


def loop(model: MemN2N, stories: torch.Tensor, questions: torch.Tensor) -> torch.Tensor:
    """One story after another; a hop is scaled_dot_product_attention with scale 1."""
    rows = []
    for story, question in zip(stories, questions, strict=True):

        def sentence(table, words):
            weight = position_encoding(len(words), table.embedding_dim, "official", torch.float64)
            return sum(table.weight[w] * weight[j] for j, w in enumerate(words) if w)

        def memory(k, story=story, sentence=sentence):
            found = []
            for i, words in enumerate(story):
                filled = bool(words.any())
                found.append(sentence(model.tables[k], words) + model.times[k][i] if filled else model.times[k][i] * 0)
            return torch.stack(found)

        adjacent = model.tying == "adjacent"
        u = sentence(model.tables[0] if adjacent else model.question, question)
        for hop in range(model.hops):
            m, c = memory(hop if adjacent else 0), memory(hop + 1 if adjacent else 1)
            o = F.scaled_dot_product_attention(u[None, None], m[None], c[None], scale=1.0)[0, 0]
            u = (u if adjacent else model.transition.weight @ u) + o
        rows.append((model.tables[-1] if adjacent else model.answer).weight @ u)
    return torch.stack(rows)


@pytest.mark.parametrize("tying", ["adjacent", "layerwise"])
def test_plain_loop(parity, tying):
    torch.manual_seed(0)
    model = MemN2N(9, 6, 3, 5, tying).double().eval()
    stories, questions = batch()
    ours, theirs = model(stories, questions), loop(model, stories, questions)
    grads = [torch.autograd.grad(v.square().sum(), list(model.parameters())) for v in (ours, theirs)]
    # The rows of word 0 get no gradient in the model, as padding; in the loop it is never read.
    error = max(float((a - b).abs().max()) for a, b in zip(*grads, strict=True))
    parity(
        "memn2n", max(error, float((ours - theirs).detach().abs().max())), 1e-12, oracle="SDPA hop by hop, gradients"
    )


def test_position_encodings():
    j, k, words, dim = 2, 3, 7, 20
    assert float(position_encoding(words, dim)[j - 1, k - 1]) == pytest.approx((1 - j / 7) - (k / 20) * (1 - 2 * j / 7))
    official = position_encoding(words, dim, "official")
    assert float(official.mean()) == pytest.approx(1.0)
    assert float(official[0, 0]) == pytest.approx(1 + 4 * (1 - 10.5) * (1 - 4) / 140)
    assert torch.corrcoef(torch.stack([official.flatten(), position_encoding(words, dim).flatten()]))[0, 1] > 0.9


def test_word_order_counts_only_with_position_encoding():
    stories, questions = batch()
    for encoding, same in (("bag", True), ("official", False), ("paper", False)):
        torch.manual_seed(0)
        model = MemN2N(9, 6, 2, 5, encoding=encoding).eval()
        shuffled = stories[:1].flip(-1)
        assert torch.allclose(model(stories[:1], questions[:1]), model(shuffled, questions[:1]), atol=1e-6) is same


def test_order_of_sentences_counts_only_with_time():
    stories, questions = batch()
    for temporal, same in ((False, True), (True, False)):
        torch.manual_seed(0)
        model = MemN2N(9, 6, 2, 5, temporal=temporal).eval()
        assert (
            torch.allclose(model(stories[:1], questions[:1]), model(stories[:1].flip(1), questions[:1]), atol=1e-6)
            is same
        )


def test_adjacent_tying_has_k_plus_one_tables():
    model = MemN2N(9, 6, 3)
    assert len(model.tables) == 4
    assert sum(p.numel() for p in model.parameters()) == 4 * (9 * 6 + 50 * 6)
    assert len(MemN2N(9, 6, 3, tying="layerwise").tables) == 2


def test_linear_start_has_no_softmax():
    """Scores that are linear in the question: doubled tables change the output as a polynomial, not as a softmax."""
    torch.manual_seed(0)
    model = MemN2N(9, 6, 1, 5).double().eval()
    stories, questions = batch()
    soft = model(stories, questions)
    model.linear = True
    plain = model(stories, questions)
    assert not torch.allclose(soft, plain)
    weights = [t.weight for t in model.tables]
    m, c = model._sentences(weights, stories, list(model.times))
    (u,) = model._sentences(weights[:1], questions)
    u = u + ((u[:, None] * m).sum(-1, keepdim=True) * c).sum(1)
    torch.testing.assert_close(plain, u @ model.tables[1].weight.T)


def test_time_noise_in_training_only():
    torch.manual_seed(0)
    model = MemN2N(9, 6, 2, 10, noise=0.5)
    stories, questions = batch()
    assert not torch.equal(model(stories, questions), model(stories, questions))
    slots = model._slots(stories)
    assert (slots.diff(dim=1) >= 1).all()
    assert int(slots.max()) <= 9
    model.eval()
    assert torch.equal(model(stories, questions), model(stories, questions))


def test_padding_stays_zero_and_copies():
    model = MemN2N(9, 6)
    stories, questions = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    F.cross_entropy(model(stories, questions), torch.tensor([1, 2, 3])).backward()
    optimizer.step()
    for table in model.tables[:-1]:
        assert not table.weight[0].any()
    model.eval()
    torch.testing.assert_close(copy.deepcopy(model)(stories, questions), model(stories, questions))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(stories, questions), model(stories, questions))
    with torch.device("meta"):
        MemN2N(9)


def test_bad_input():
    with pytest.raises(ValueError, match="hops=0"):
        MemN2N(9, 6, 0)
    with pytest.raises(ValueError, match="received 'shared'"):
        MemN2N(9, tying="shared")
    with pytest.raises(ValueError, match="noise < 1, received 1"):
        MemN2N(9, noise=1)
    with pytest.raises(ValueError, match=r"\(B, 1 to 5, J\), received \(2, 0, 4\)"):
        MemN2N(9, memory=5)(torch.zeros(2, 0, 4).long(), torch.zeros(2, 4).long())
    with pytest.raises(ValueError, match=r"received \(2, 6, 4\)"):
        MemN2N(9, memory=5)(torch.zeros(2, 6, 4).long(), torch.zeros(2, 4).long())


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("tying", ["adjacent", "layerwise"])
def test_empty_memory_answers_from_the_question_alone(tying, linear):
    """A story of nothing but empty slots reads zeros in every hop; nothing divides by their number."""
    torch.manual_seed(0)
    model = MemN2N(9, 6, 2, 5, tying)
    model.linear = linear
    _, questions = batch()
    logits = model(torch.zeros(3, 4, 4).long(), questions)
    table = model.tables[0] if tying == "adjacent" else model.question
    (u,) = model._sentences([table.weight], questions)
    for _ in range(2 if tying == "layerwise" else 0):
        u = model.transition(u)
    torch.testing.assert_close(logits, F.linear(u, model.tables[-1].weight) if tying == "adjacent" else model.answer(u))
    logits.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_words_outside_the_vocabulary_are_refused():
    with pytest.raises((IndexError, RuntimeError)):
        MemN2N(9)(torch.full((1, 2, 3), 9), torch.ones(1, 3).long())
