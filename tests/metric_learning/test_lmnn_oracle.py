"""LMNN against metric-learn: value, gradient, and where both descents end on scikit-learn's wines.

metric-learn's objective is the plain sum over samples, and its ``regularization`` weighs the pull: ``mu`` is one minus
that. Its ``fit`` passes an argument that newer scikit-learn refuses, so the checked inputs are handed over here.
"""

from __future__ import annotations

import pytest
import torch

from zoo.metric_learning.lmnn import LMNN

np = pytest.importorskip("numpy")
library = pytest.importorskip("metric_learn.lmnn")
datasets = pytest.importorskip("sklearn.datasets")


def wines():
    x, y = datasets.load_wine(return_X_y=True)
    return (x - x.mean(0)) / x.std(0), y


def objective(x, y, linear, k, regularization):
    """metric-learn's value and gradient at a map, for the target neighbours it selects itself."""
    theirs = library.LMNN(n_neighbors=k, regularization=regularization)
    theirs.labels_ = np.unique(y)
    targets = theirs._select_targets(x, y)
    pulls = library._sum_outer_products(x, targets.flatten(), np.repeat(np.arange(len(x)), k))
    gradient, value, active = theirs._loss_grad(x, linear, pulls, k, regularization, targets, y)
    return value, gradient, active


def ours(x, y, linear, k, regularization):
    loss = LMNN(k, mu=1 - regularization, reduction="sum")
    return loss(torch.tensor(x) @ linear.T, torch.tensor(y), inputs=torch.tensor(x))


@pytest.mark.parametrize(("k", "regularization"), [(1, 0.5), (3, 0.5), (3, 0.2), (5, 0.8)])
def test_value_and_gradient(parity, k, regularization):
    x, y = wines()
    start = np.random.default_rng(k).normal(size=(5, x.shape[1])) * 0.5
    value, gradient, active = objective(x, y, start.copy(), k, regularization)
    linear = torch.tensor(start, requires_grad=True)
    mine = ours(x, y, linear, k, regularization)
    assert active > 100  # triplets inside their margin
    slope = torch.autograd.grad(mine, linear)[0].numpy()
    error = max(abs(mine.item() - value) / value, abs(slope - gradient).max() / abs(gradient).max())
    parity("lmnn", error, 1e-12, oracle="metric-learn's objective and gradient, relative")


def neighbours_right(x, y, x_test, y_test, linear):
    """Accuracy in percent of three nearest neighbours under a map."""
    z, z_test = torch.tensor(x) @ linear.T, torch.tensor(x_test) @ linear.T
    votes = torch.tensor(y)[torch.cdist(z_test, z).topk(3, largest=False).indices]
    return 100 * (votes.mode(1).values == torch.tensor(y_test)).double().mean().item()


def test_both_descents_end_alike():
    x, y = wines()
    order = np.random.default_rng(0).permutation(len(x))
    known, fresh = order[:90], order[90:]
    theirs = library.LMNN(n_neighbors=3, init="identity", learn_rate=1e-3, max_iter=100, convergence_tol=1e-6)
    theirs._prepare_inputs = lambda inputs, labels, **_: (inputs, labels)
    theirs.fit(x[known], y[known])
    end = torch.tensor(theirs.components_)
    linear = torch.eye(x.shape[1], dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.LBFGS([linear], max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = ours(x[known], y[known], linear, 3, 0.5)
        loss.backward()
        return loss

    start = closure().item()
    optimizer.step(closure)
    with torch.no_grad():
        mine, library_end = (ours(x[known], y[known], m, 3, 0.5).item() for m in (linear, end))
    assert library_end < 0.5 * start
    assert mine <= 1.001 * library_end  # convex in the metric: no worse minimum to stop in
    scores = [
        neighbours_right(x[known], y[known], x[fresh], y[fresh], m)
        for m in (torch.eye(x.shape[1], dtype=torch.float64), end, linear.detach())
    ]
    assert abs(scores[1] - scores[2]) <= 2  # one of 88 wines
    assert min(scores[1:]) >= scores[0]
