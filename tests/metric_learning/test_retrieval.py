"""Retrieval and verification figures against loops and pytorch-metric-learning."""

from __future__ import annotations

import pytest
import torch

from zoo.metric_learning._distances import EmbeddingNet
from zoo.metric_learning.retrieval import recall_at, retrieval, verification


def sample(seed: int = 0, n: int = 40, classes: int = 5):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    centres = torch.randn(classes, 3, generator=generator)
    return (centres[labels] + torch.randn(n, 3, generator=generator)).double(), labels


def loop(x, y, pool, names, alone):
    recall, precision, average = [], [], []
    for i in range(len(x)):
        others = [j for j in range(len(pool)) if not (alone and j == i)]
        others.sort(key=lambda j: float((x[i] - pool[j]).square().sum()))
        r = sum(int(names[j]) == int(y[i]) for j in others)
        if not r:
            continue
        hits = [int(names[j]) == int(y[i]) for j in others[:r]]
        recall.append(hits[0])
        precision.append(sum(hits) / r)
        average.append(sum(sum(hits[: k + 1]) / (k + 1) for k in range(r) if hits[k]) / r)
    return [100 * sum(v) / len(v) for v in (recall, precision, average)]


@pytest.mark.parametrize("alone", [True, False])
def test_retrieval_loop(alone):
    x, y = sample()
    pool, names = (x, y) if alone else sample(1, 30, 4)  # class 4 has no sample in that gallery
    found = retrieval(x, y) if alone else retrieval(x, y, pool, names)
    assert list(found) == pytest.approx(loop(x, y, pool, names, alone), abs=1e-9)


def test_pytorch_metric_learning_agrees():
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    (x, y), (pool, names) = sample(), sample(1, 60)
    theirs = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        knn_func=CustomKNN(LpDistance(normalize_embeddings=False)),
        device=torch.device("cpu"),
    ).get_accuracy(x, y, pool, names, ref_includes_query=False)
    found = retrieval(x, y, pool, names)
    wanted = [theirs["precision_at_1"], theirs["r_precision"], theirs["mean_average_precision_at_r"]]
    assert list(found) == pytest.approx([100 * w for w in wanted], abs=1e-4)
    assert found.recall_at_1 == pytest.approx(recall_at(x, y, pool, names), abs=1e-5)


def test_verification_loop():
    x, y = sample(2)
    pairs = [(float((x[i] - x[j]).square().sum()), bool(y[i] == y[j])) for i in range(len(x)) for j in range(i)]
    equal, different = (sum(s is kind for _, s in pairs) for kind in (True, False))

    def rates(t):
        return (
            sum(d <= t and s for d, s in pairs) / equal,
            sum(d <= t and not s for d, s in pairs) / different,
        )

    thresholds = [d for d, _ in pairs]
    found = verification(x, y, 0.05)
    assert found.accuracy == pytest.approx(max(50 * (a + 1 - w) for a, w in map(rates, thresholds)), abs=1e-9)
    assert rates(found.threshold + 1e-9)[0] + 1 - rates(found.threshold + 1e-9)[1] == pytest.approx(
        found.accuracy / 50, abs=1e-9
    )
    assert found.validation_rate == pytest.approx(
        100 * max(a for a, w in map(rates, thresholds) if w <= 0.05), abs=1e-9
    )


def test_ties_are_accepted_together():
    x = torch.zeros(4, 2)  # everything at distance 0: no threshold can tell
    found = verification(x, torch.tensor([0, 0, 1, 1]))
    assert found.accuracy == pytest.approx(50)
    assert found.validation_rate == 0


def test_bad_input():
    x, y = sample()
    with pytest.raises(ValueError, match="none of the 40 queries"):
        retrieval(x, y, x[:3], torch.full((3,), 9))
    with pytest.raises(ValueError, match="gallery_labels"):
        retrieval(x, y, x)
    with pytest.raises(ValueError, match=r"k <= 0 \(the gallery\), received 1"):
        recall_at(x, y, x[:0], y[:0])
    with pytest.raises(ValueError, match="only one kind"):
        verification(x, torch.zeros(40))
    with pytest.raises(ValueError, match="only one kind"):
        verification(x, torch.arange(40))
    with pytest.raises(ValueError, match="false_accept_rate < 1, received 0"):
        verification(x, y, 0)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_any_timm_backbone_embeds(name):
    net = EmbeddingNet.from_timm(name, 16).eval()
    with torch.no_grad():
        torch.testing.assert_close(net(torch.rand(2, 3, 160, 160)).norm(dim=1), torch.ones(2))
