"""FaceNet's loss and miners against plain loops and pytorch-metric-learning, and its limits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo.metric_learning._distances import EmbeddingNet, recall_at, squared_distances
from zoo.metric_learning.facenet import FaceNetLoss


def batch(seed: int = 0, classes: int = 4, each: int = 3, dim: int = 3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(classes * each, dim, generator=generator, dtype=torch.float64, requires_grad=True)
    return x, torch.arange(classes).repeat_interleave(each)[torch.randperm(classes * each, generator=generator)]


def mined(x: torch.Tensor, labels: torch.Tensor, mining: str, margin: float) -> list[tuple[int, int, int]]:
    f = (x / x.norm(dim=1, keepdim=True)).detach()
    d = [[float(((a - b) ** 2).sum()) for b in f] for a in f]
    found = []
    for a in range(len(f)):
        for p in range(len(f)):
            if a == p or labels[a] != labels[p]:
                continue
            negatives = [n for n in range(len(f)) if labels[n] != labels[a]]
            if mining == "semi_hard":
                negatives = [n for n in negatives if d[a][p] < d[a][n] < d[a][p] + margin]
            if mining != "all":
                negatives = sorted(negatives, key=lambda n, a=a: d[a][n])[:1]
            found += [(a, p, n) for n in negatives]
    return found


def loop(x: torch.Tensor, triplets: list[tuple[int, int, int]], margin: float) -> torch.Tensor:
    f = x / x.norm(dim=1, keepdim=True)
    values = [((f[a] - f[p]) ** 2).sum() - ((f[a] - f[n]) ** 2).sum() + margin for a, p, n in triplets]
    return sum(torch.clamp(v, min=0) for v in values) / len(values)


@pytest.mark.parametrize("mining", ["semi_hard", "hard", "all"])
def test_plain_loop(parity, mining):
    worst = 0.0
    for seed in range(6):
        x, labels = batch(seed)
        ours = FaceNetLoss(0.5, mining)(x, labels)
        theirs = loop(x, mined(x, labels, mining, 0.5), 0.5)
        a, b = (torch.autograd.grad(v, x)[0] for v in (ours, theirs))
        worst = max(worst, float((ours - theirs).detach().abs()), float((a - b).abs().max()))
    parity("facenet", worst, 1e-10, oracle="plain loops over triplets, gradients too")


def test_pytorch_metric_learning():
    pml = pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import distances, losses, reducers

    assert pml
    x, labels = batch(3)
    distance = distances.LpDistance(power=2)
    theirs = losses.TripletMarginLoss(margin=0.5, distance=distance, reducer=reducers.MeanReducer())
    triplets = torch.tensor(mined(x, labels, "semi_hard", 0.5)).T
    torch.testing.assert_close(FaceNetLoss(0.5)(x, labels), theirs(x, labels, tuple(triplets)))


@pytest.mark.parametrize("seed", range(4))
def test_miner_of_pytorch_metric_learning(seed):
    """Its semi-hard miner gives every negative inside the margin; the nearest of each pair is the one that is taken here."""
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import distances, miners

    x, labels = batch(seed)
    miner = miners.TripletMarginMiner(0.5, "semihard", distance=distances.LpDistance(power=2))
    anchors, positives, negatives = (index.tolist() for index in miner(x.detach(), labels))
    d = squared_distances(F.normalize(x.detach(), dim=1))
    nearest: dict[tuple[int, int], int] = {}
    for a, p, n in zip(anchors, positives, negatives, strict=True):
        if (a, p) not in nearest or d[a, n] < d[a, nearest[a, p]]:
            nearest[a, p] = n
    theirs = loop(x, [(a, p, n) for (a, p), n in nearest.items()], 0.5)
    torch.testing.assert_close(FaceNetLoss(0.5)(x, labels), theirs)


def test_random_negatives_are_negatives():
    x, labels = batch()
    values = torch.stack([FaceNetLoss(5.0, "random")(x, labels).detach() for _ in range(400)])
    torch.testing.assert_close(values.mean(), FaceNetLoss(5.0, "all")(x, labels).detach(), rtol=0.02, atol=0)


def test_distance_is_squared():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    loss = FaceNetLoss(mining="hard", reduction="sum")(x, torch.tensor([0, 0, 1]))
    assert float(loss) == pytest.approx((2 - 4 + 0.2 if 2 - 4 + 0.2 > 0 else 0) + 0.2)  # anchors 0 and 1
    plain = F.triplet_margin_loss(x[1:2], x[:1], x[2:], margin=0.2)
    assert float(plain) == pytest.approx(0.2, abs=1e-5)


def test_collapse_costs_the_margin_and_separation_nothing():
    labels = torch.tensor([0, 0, 1, 1])
    same = torch.ones(4, 3, requires_grad=True)
    loss = FaceNetLoss(mining="hard")(same, labels)
    assert float(loss.detach()) == pytest.approx(0.2)
    loss.backward()
    assert torch.isfinite(same.grad).all()
    apart = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [-1, 0]], requires_grad=True)
    for mining in ("semi_hard", "hard", "random", "all"):
        loss = FaceNetLoss(mining=mining)(apart, labels)
        assert float(loss.detach()) == 0
        assert not torch.autograd.grad(loss, apart)[0].any()


@pytest.mark.parametrize("mining", ["semi_hard", "hard", "random", "all"])
def test_no_triplet_is_loss_zero(mining):
    for labels in (torch.zeros(4).long(), torch.arange(4), torch.zeros(1).long(), torch.zeros(0).long()):
        x = torch.randn(len(labels), 3, requires_grad=True)  # one class; no pair; one sample; none
        loss = FaceNetLoss(mining=mining)(x, labels)
        loss.backward()
        assert float(loss.detach()) == 0
        assert not x.grad.any()


def test_reductions():
    x, labels = batch()
    mean, each = FaceNetLoss()(x, labels), FaceNetLoss(reduction="none")(x, labels)
    assert each.shape == (12,)
    torch.testing.assert_close(each.mean(), mean)
    count = len(mined(x, labels, "semi_hard", 0.2))
    torch.testing.assert_close(FaceNetLoss(reduction="sum")(x, labels), mean * count)


def test_half_precision_compile_and_backbone():
    x, labels = batch(dim=8)
    loss = FaceNetLoss()
    assert loss(x.bfloat16(), labels).dtype == torch.float32
    torch.testing.assert_close(torch.compile(loss, backend="eager", fullgraph=True)(x, labels), loss(x, labels))
    net = EmbeddingNet(torch.nn.Flatten(), 12, 5)
    torch.testing.assert_close(net(torch.rand(3, 3, 4)).norm(dim=1), torch.ones(3))


def test_recall_and_distances():
    gallery = torch.tensor([[0.0, 0], [1, 0], [5, 0]])
    queries, labels = torch.tensor([[0.9, 0.0], [4, 0]]), torch.tensor([0, 2])
    names = torch.tensor([0, 1, 2])
    assert recall_at(queries, labels, gallery, names) == 50
    assert recall_at(queries, labels, gallery, names, k=2) == 100
    torch.testing.assert_close(squared_distances(queries, gallery), torch.cdist(queries, gallery) ** 2)


def test_bad_input():
    with pytest.raises(ValueError, match="margin > 0, received 0"):
        FaceNetLoss(0)
    with pytest.raises(ValueError, match="semi_hard, hard, random, all, received 'easy'"):
        FaceNetLoss(mining="easy")
    with pytest.raises(ValueError, match=r"received \(4, 2\) and \(3,\)"):
        FaceNetLoss()(torch.zeros(4, 2), torch.zeros(3))


def test_a_tie_with_the_positive_is_not_semi_hard():
    """A negative exactly as far as the positive is passed over for the next one inside the margin."""
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [-0.6, 0.8]], dtype=torch.float64)
    loss = FaceNetLoss(1.5, normalize=False, reduction="none")(x, torch.tensor([0, 0, 1, 2]))
    # anchor 0: positive at 2, negatives at 2 and 3.2; anchor 1: positive at 2, negatives at 4 and 0.4 (none inside)
    assert loss[0] > 0
    assert float(loss.sum() / 4) == pytest.approx(2 - 3.2 + 1.5)
