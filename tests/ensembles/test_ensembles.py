"""The survey's ensembles: committees and Bayesian weights against loops, scikit-learn's own for the rest."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn.datasets import make_classification
from sklearn.tree import DecisionTreeClassifier

from zoo.ensembles.ensembles import METHODS, ensembles


def data():
    x, y = make_classification(240, 8, n_informative=5, n_classes=3, random_state=0)
    return x[:160], y[:160] + 4, x[160:], y[160:] + 4


def test_bayesian_weights(parity):
    x, y, xt, _ = data()
    model = ensembles(DecisionTreeClassifier(max_depth=1, random_state=0), "bayesian_voting", size=4, seed=1).fit(x, y)
    likelihood = []
    for member in model.members_:
        p = member.predict_proba(x)
        product = 1.0
        for i in range(len(x)):
            where = list(member.classes_).index(y[i]) if y[i] in member.classes_ else None
            own = p[i, where] if where is not None else 0.0
            product *= 3 * (own + 0.01 / 3) / 1.01  # the factor 3 keeps the product in range and cancels
        likelihood.append(product)
    expected = np.array(likelihood) / sum(likelihood)
    error = np.abs(model.weights_ - expected).max()
    votes = sum(w * m.predict_proba(xt) for w, m in zip(expected, model.members_, strict=True))
    error = max(error, np.abs(model.predict_proba(xt) - votes).max())
    parity("ensembles", error, 1e-10, oracle="product of likelihoods in a loop, normalised; weighted average")


def test_committee_leaves_one_fold_out():
    x, y, _, _ = data()
    seen = []

    class Spy(DecisionTreeClassifier):
        def fit(self, x, y):
            seen.append(len(x))
            return super().fit(x, y)

    model = ensembles(Spy(random_state=0), "cross_validated_committee", size=4).fit(x, y)
    assert seen == [120] * 4
    assert model.weights_.tolist() == [0.25] * 4


def test_missing_class_in_a_member():
    x, y = np.arange(12.0).reshape(-1, 1), np.array([0] * 11 + [5])
    model = ensembles(DecisionTreeClassifier(random_state=0), "bayesian_voting", size=6).fit(x, y)
    assert model.predict_proba(x).shape == (12, 2)
    assert np.allclose(model.predict_proba(x).sum(1), 1)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_predicts_known_classes(method):
    x, y, xt, yt = data()
    predicted = ensembles(method=method, size=9).fit(x, y).predict(xt)
    assert set(predicted) <= {4, 5, 6}
    assert (predicted == yt).mean() > 0.45


def test_bad_input():
    with pytest.raises(ValueError, match="method is one of"):
        ensembles(method="stacking")
    with pytest.raises(ValueError, match="at least one"):
        ensembles(size=0)
