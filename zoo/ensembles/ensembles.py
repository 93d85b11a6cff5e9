"""The ensemble methods of Dietterich's survey over scikit-learn estimators (MCS 2000)."""

from __future__ import annotations

from typing import Any

METHODS = ("bagging", "boosting", "ecoc", "bayesian_voting", "cross_validated_committee")


def ensembles(model: Any = None, method: str = "bagging", size: int = 30, seed: int = 0) -> Any:
    r"""An unfitted scikit-learn classifier that combines copies of ``model``.

    ============================= ==================================================================================
    ``bagging``                   each copy on a bootstrap sample (63.2 % distinct); average of probabilities
    ``boosting``                  AdaBoost (SAMME): later copies weigh mistakes of earlier ones
    ``ecoc``                      error-correcting output codes: ``size`` bits in all, one copy a bit
    ``bayesian_voting``           average weighted by the posterior :math:`P(h \mid S) \propto P(S \mid h)`, see
                                  :class:`BayesianVoting`
    ``cross_validated_committee`` copy k on all folds but the k-th; average of probabilities
    ============================= ==================================================================================

    Args:
        model: any scikit-learn classifier; a decision tree by default (of depth 8 for boosting).
        method: one of the names above.
        size: number of copies.
        seed: of every random choice.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: unknown method, size below 1.
    """
    from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier
    from sklearn.multiclass import OutputCodeClassifier
    from sklearn.tree import DecisionTreeClassifier

    if method not in METHODS:
        raise ValueError(f"method is one of {', '.join(METHODS)}, received {method!r}")
    if size < 1:
        raise ValueError(f"an ensemble has at least one member, received {size}")
    if model is None:
        model = DecisionTreeClassifier(random_state=seed, max_depth=8 if method == "boosting" else None)
    if method == "bagging":
        return BaggingClassifier(model, n_estimators=size, random_state=seed)
    if method == "boosting":
        return AdaBoostClassifier(model, n_estimators=size, random_state=seed)
    if method == "ecoc":
        # scikit-learn asks for bits per class; ten classes are the common case and fit() rounds down
        return _ErrorCorrecting(model, size, seed, OutputCodeClassifier)
    if method == "bayesian_voting":
        return BayesianVoting(model, size, seed)
    return CrossValidatedCommittee(model, size, seed)


class _ErrorCorrecting:
    """Output codes of ``size`` bits in all, whatever the number of classes."""

    def __init__(self, model: Any, size: int, seed: int, backend: Any) -> None:
        self.model, self.size, self.seed, self.backend = model, size, seed, backend

    def fit(self, x: Any, y: Any) -> _ErrorCorrecting:
        import numpy as np

        share = self.size / len(np.unique(y))
        self.inner_ = self.backend(self.model, code_size=share, random_state=self.seed).fit(x, y)
        self.classes_ = self.inner_.classes_
        return self

    def predict(self, x: Any) -> Any:
        return self.inner_.predict(x)


class _Averaged:
    """Members with weights; probabilities are averaged, not votes counted."""

    members_: list[Any]
    weights_: Any
    classes_: Any

    def __init__(self, model: Any, size: int = 30, seed: int = 0) -> None:
        self.model, self.size, self.seed = model, size, seed

    def predict_proba(self, x: Any) -> Any:
        import numpy as np

        out = np.zeros((len(x), len(self.classes_)))
        for weight, member in zip(self.weights_, self.members_, strict=True):
            out[:, np.searchsorted(self.classes_, member.classes_)] += weight * member.predict_proba(x)
        return out

    def predict(self, x: Any) -> Any:
        return self.classes_[self.predict_proba(x).argmax(1)]


class BayesianVoting(_Averaged):
    r"""Members fitted on bootstrap samples, weighted by :math:`P(h \mid S) \propto \prod_{i \in S} P(y_i \mid x_i, h)`.

    The prior over members is uniform. Probabilities are smoothed by :math:`(p + 1/K\!\cdot\!0.01) / 1.01`, since one that is
    exactly 0 would rule a member out. With a large training set one member takes nearly all the weight: that is what the
    formula says and why the survey finds the method of use for small samples only.
    """

    def fit(self, x: Any, y: Any) -> BayesianVoting:
        import numpy as np
        from sklearn.base import clone

        rng = np.random.default_rng(self.seed)
        x, y = np.asarray(x), np.asarray(y)
        self.classes_ = np.unique(y)
        self.members_, scores = [], []
        for _ in range(self.size):
            pick = rng.integers(len(x), size=len(x))
            member = clone(self.model).fit(x[pick], y[pick])
            p = np.zeros((len(x), len(self.classes_)))
            p[:, np.searchsorted(self.classes_, member.classes_)] = member.predict_proba(x)
            p = (p + 0.01 / len(self.classes_)) / 1.01
            scores.append(np.log(p[np.arange(len(x)), np.searchsorted(self.classes_, y)]).sum())
            self.members_.append(member)
        weights = np.exp(np.array(scores) - max(scores))
        self.weights_ = weights / weights.sum()
        return self


class CrossValidatedCommittee(_Averaged):
    """Member k is fitted on everything but the k-th of ``size`` random folds."""

    def fit(self, x: Any, y: Any) -> CrossValidatedCommittee:
        import numpy as np
        from sklearn.base import clone

        x, y = np.asarray(x), np.asarray(y)
        self.classes_ = np.unique(y)
        order = np.random.default_rng(self.seed).permutation(len(x))
        self.members_ = []
        for held in np.array_split(order, self.size):
            keep = np.setdiff1d(order, held) if self.size > 1 else order
            self.members_.append(clone(self.model).fit(x[keep], y[keep]))
        self.weights_ = np.full(self.size, 1 / self.size)
        return self
