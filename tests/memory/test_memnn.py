"""The adaptive memory network against plain loops over facts and words: look-ups, stop fact, ranking losses."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from zoo.memory.babi import BabiDataset
from zoo.memory.memnn import MemNN


def batch(vocabulary: int = 9):
    generator = torch.Generator().manual_seed(0)
    stories = torch.randint(1, vocabulary, (6, 5, 4), generator=generator)
    stories[1, 3:] = 0  # a shorter story
    stories[2, 0, 2:] = 0
    stories[3] = 0  # none at all
    return stories, torch.randint(1, vocabulary, (6, 4), generator=generator)


def network(seed: int = 0, **options) -> MemNN:
    """With entries large enough that look-ups differ from sample to sample, and that some stop early."""
    torch.manual_seed(seed)
    model = MemNN(9, 6, memory=5, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return model


def embed(scorer, vector):
    return vector if scorer.mixing is None else torch.tanh(scorer.mixing.weight @ torch.tanh(vector))


def total(table, words):
    return sum((table.weight[w] for w in words.tolist() if w), torch.zeros(6, dtype=torch.float64))


def candidates(model, story):
    """The slots of the sentences there are with their vectors, the stop fact under "stop"."""
    found = {
        i: embed(model.lookup, total(model.lookup.candidate, s) + model.candidate_time[i])
        for i, s in enumerate(story)
        if s.any()
    }
    return found | ({"stop": embed(model.lookup, model.stop)} if model.stop is not None else {})


def scores(model, story, question, read):
    """s_O of every candidate after the facts ``read``."""
    x = total(model.lookup.question, question)
    for i in read:
        x = x + total(model.lookup.found, story[i]) + model.found_time[i]
    return {i: embed(model.lookup, x) @ y for i, y in candidates(model, story).items()}


def answers(model, story, question, read):
    x = total(model.answer.question, question) + sum(total(model.answer.found, story[i]) for i in read)
    return [embed(model.answer, x) @ embed(model.answer, row) for row in model.answer.candidate.weight]


def walk(model, story, question):
    read = []
    while len(read) < model.most:
        s = scores(model, story, question, read)
        if not s or (best := max(s, key=lambda i: s[i].item())) == "stop":
            break
        read.append(best)
    return read, answers(model, story, question, read)


@pytest.mark.parametrize("nonlinear", [False, True])
@pytest.mark.parametrize("hops", [None, 1, 3])
def test_plain_loop(parity, hops, nonlinear):
    stories, questions = batch()
    errors, lengths = [], set()
    for seed in range(4):
        model = network(seed, hops=hops, cap=4, nonlinear=nonlinear)
        chosen, logits = model.retrieve(stories, questions)
        for b in range(len(stories)):
            read, want = walk(model, stories[b], questions[b])
            assert chosen[b].tolist() == read + [-1] * (model.most - len(read))
            lengths.add(len(read))
            errors.append((logits[b, 1:] - torch.stack(want[1:])).abs().max())
            mine, theirs = (
                torch.autograd.grad(v, model.answer.question.weight, retain_graph=True)[0]
                for v in (logits[b, 1:].square().sum(), torch.stack(want[1:]).square().sum())
            )
            errors.append((mine - theirs).abs().max())
        assert (logits[:, 0] == -torch.inf).all()
    # The adaptive network reads nothing, something, and up to its cap; the other as many facts as it was told.
    assert len(lengths) >= 3 and max(lengths) == 4 if hops is None else lengths == {0, hops}
    parity(
        "memnn", max(e.item() for e in errors), 1e-12, oracle="plain loops over facts and words, a while to the stop"
    )


def ranking(values, right, exempt, margin):
    return sum(
        torch.clamp(margin - values[right] + v, min=0) for i, v in values.items() if i != right and i not in exempt
    )


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("hops", [None, 2])
def test_ranking_losses(hops, ordered):
    stories, questions = batch()
    supports = torch.tensor([[2, 0, -1], [1, -1, -1], [0, 3, 1], [-1, -1, -1], [4, 1, -1], [3, 2, -1]])
    targets = torch.tensor([1, 2, 3, 4, 5, 6])
    for nonlinear in (False, True):
        model = network(1, hops=hops, cap=3, nonlinear=nonlinear, margin=0.7)
        ours = model.loss(stories, questions, targets, supports, ordered)
        for b in range(len(stories)):
            left, read, theirs = [s for s in supports[b].tolist() if s >= 0], [], 0.0
            while len(read) < model.most:
                s = scores(model, stories[b], questions[b], read)
                if not left:
                    theirs = theirs + (ranking(s, "stop", (), 0.7) if hops is None else 0.0)
                    break
                right = left[0] if ordered else max(left, key=lambda i, s=s: s[i].item())
                theirs = theirs + ranking(s, right, () if ordered else left, 0.7)
                left.remove(right)
                read.append(right)
            words = dict(enumerate(answers(model, stories[b], questions[b], read)))
            theirs = theirs + ranking(words, int(targets[b]), (0,), 0.7)
            torch.testing.assert_close(ours[b], theirs, rtol=1e-12, atol=1e-12)
            mine, grads = (
                torch.autograd.grad(v, list(model.parameters()), retain_graph=True, allow_unused=True)
                for v in (ours[b], theirs)
            )
            for p, x, y in zip(model.parameters(), mine, grads, strict=True):
                torch.testing.assert_close(*(torch.zeros_like(p) if g is None else g for g in (x, y)))


def test_more_padding_changes_nothing():
    stories, questions = batch()
    model = network(2)
    supports = torch.tensor([[0], [1], [2], [-1], [3], [4]])
    wide = torch.cat([stories, torch.zeros(6, 5, 3).long()], 2)
    for a, b in zip(model.retrieve(stories, questions), model.retrieve(wide, questions), strict=True):
        assert torch.equal(a, b)
    short, more = stories[1:2, :3], stories[1:2]  # empty slots at the end
    for a, b in zip(model.retrieve(short, questions[1:2]), model.retrieve(more, questions[1:2]), strict=True):
        torch.testing.assert_close(a, b)
    target = torch.tensor([3])
    torch.testing.assert_close(
        model.loss(short, questions[1:2], target, supports[1:2]),
        model.loss(more, questions[1:2], target, torch.tensor([[1, -1, -1]])),
    )
    torch.testing.assert_close(  # a support in an empty slot is none
        model.loss(more, questions[1:2], target, torch.tensor([[4]])),
        model.loss(more, questions[1:2], target, torch.tensor([[-1]])),
    )


def test_empty_memory_answers_from_the_question_alone():
    stories, questions = batch()
    for hops in (None, 2):
        model = network(0, hops=hops)
        chosen, logits = model.retrieve(torch.zeros_like(stories), questions)
        assert (chosen == -1).all()
        want = torch.stack([torch.stack(answers(model, None, q, [])) for q in questions])
        torch.testing.assert_close(logits[:, 1:], want[:, 1:])


def test_learns_to_stop():
    """Questions with one and two facts: after a few steps the number of facts and the facts are right in training."""
    generator = torch.Generator().manual_seed(0)
    stories = torch.randint(3, 40, (64, 4, 3), generator=generator)
    two = torch.arange(64) % 2
    questions = (1 + two)[:, None].repeat(1, 2)  # word 1 asks for the newest fact, word 2 for the two newest
    supports = torch.stack([torch.zeros(64).long(), torch.where(two == 1, 1, -1)], 1)
    targets = stories[torch.arange(64), two, 0]
    torch.manual_seed(0)
    model = MemNN(40, 24, memory=4)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        loss = model.loss(stories, questions, targets, supports).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    chosen, _ = model.retrieve(stories, questions)
    assert ((chosen >= 0).sum(1) == 1 + two).float().mean() > 0.95
    assert (chosen[:, 0].clamp_min(0) + chosen[:, 1].clamp_min(0) == two).float().mean() > 0.95


def test_compiles_copies_and_half_precision():
    stories, questions = batch()
    supports = torch.tensor([[2, 0], [1, -1], [0, 3], [-1, -1], [4, 1], [3, 2]])
    model = network(1).float()
    compiled = torch.compile(model.retrieve, backend="eager", fullgraph=True)
    for a, b in zip(compiled(stories, questions), model.retrieve(stories, questions), strict=True):
        torch.testing.assert_close(a, b)
    loss = torch.compile(model.loss, backend="eager", fullgraph=True)
    args = stories, questions, torch.arange(1, 7), supports
    torch.testing.assert_close(loss(*args), model.loss(*args))
    copied = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert torch.equal(copied(stories, questions), model(stories, questions))
    half = copy.deepcopy(model).bfloat16()
    assert half(stories, questions).dtype == torch.float32
    assert torch.isfinite(half.loss(*args)).all()
    with torch.device("meta"):
        assert MemNN(9)(*MemNN(9).example_inputs()).shape == (1, 9)


def test_supports_of_the_data_set():
    data = BabiDataset(2, True, 40, memory=12)
    names = {i: w for w, i in data.vocabulary.items()}
    for row, (e, slots) in enumerate(zip(data.examples, data.supports.tolist(), strict=True)):
        kept = [i for i in e.support if i >= len(e.statements) - 12]
        assert [s for s in slots if s >= 0] == [len(e.statements) - 1 - i for i in kept]
        for i, s in zip(kept, slots, strict=False):
            said = [names[w] for w in data.stories[row, s].tolist() if w]
            assert said == e.statements[i].lower().rstrip(".").split()
    assert (data.supports == -1).any()  # some are further back than twelve sentences


def test_bad_input():
    with pytest.raises(ValueError, match="hops=0"):
        MemNN(9, hops=0)
    with pytest.raises(ValueError, match="cap=0"):
        MemNN(9, cap=0)
    with pytest.raises(ValueError, match="margin > 0, received 0"):
        MemNN(9, margin=0)
    model, question = MemNN(9, memory=5), torch.zeros(2, 4).long()
    for slots in (0, 6):
        with pytest.raises(ValueError, match=rf"\(B, 1 to 5, J\), received \(2, {slots}, 4\)"):
            model(torch.zeros(2, slots, 4).long(), question)
    with pytest.raises(ValueError, match=r"supports \(B, S\) with B 2, received \(3, 1\)"):
        model.loss(torch.ones(2, 5, 4).long(), question, question[:, 0], torch.zeros(3, 1).long())
