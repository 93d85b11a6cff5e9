"""Claim checks still say what the evidence says. The quick ones run in CI; `zoo reproduce --all` runs all with three seeds."""

from __future__ import annotations

import pytest

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import MissingData
from zoo.claims.run import load_check
from zoo.registry.lookup import registry

QUICK_SECONDS = 6.0


def _claims() -> list[tuple[str, str, str, float | None, str | None]]:
    reg = registry()
    rows = []
    for paper, record in reg.raw.papers.items():
        evidence = reg.evidence(paper)
        for claim in record.get("claims", ()):
            if claim.get("check"):
                found = evidence.claims.get(claim["id"])
                rows.append(
                    (
                        paper,
                        claim["id"],
                        claim["check"],
                        found.duration_s if found else None,
                        found.status if found else None,
                    )
                )
    return rows


CLAIMS = _claims()


@pytest.mark.parametrize(
    ("paper", "claim", "check", "seconds", "status"), CLAIMS, ids=[f"{p}.{c}" for p, c, *_ in CLAIMS]
)
def test_check_exists(paper: str, claim: str, check: str, seconds: float | None, status: str | None) -> None:
    assert callable(load_check(check))


#: Claims about time: `zoo reproduce` judges them on a quiet machine, a busy one tells nothing.
TIMED = {("meprop", "unified_is_faster")}
QUICK = [c for c in CLAIMS if c[3] is not None and c[3] <= QUICK_SECONDS and c[:2] not in TIMED]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("paper", "claim", "check", "seconds", "status"), QUICK, ids=[f"quick-{p}.{c}" for p, c, *_ in QUICK]
)
def test_quick_claim_still_has_its_status(paper: str, claim: str, check: str, seconds: float, status: str) -> None:
    try:
        outcome = load_check(check)((0, 1, 2))
    except MissingData as error:
        pytest.skip(str(error))
    assert isinstance(outcome, Outcome)
    assert outcome.setting
    assert outcome.tolerance
    assert outcome.status == status, outcome.measured


def test_evidence_belongs_to_claims() -> None:
    reg = registry()
    for paper, record in reg.raw.papers.items():
        known = {c["id"] for c in record.get("claims", ())}
        assert set(reg.evidence(paper).claims) <= known, paper


def test_every_paper_has_a_claim_that_was_run_or_says_not_run() -> None:
    """A row works when one claim is checked, with its honest status; a page without any claim says nothing."""
    without = [p for p, r in registry().raw.papers.items() if not r.get("claims")]
    assert without == []


@pytest.mark.parametrize(
    ("parts", "expected"), [((True, True), "reproduced"), ((True, False), "partly"), ((False, False), "refuted")]
)
def test_verdict(parts: tuple[bool, ...], expected: str) -> None:
    assert verdict(*parts) == expected


def test_verdict_needs_a_criterion() -> None:
    with pytest.raises(ValueError, match="at least one"):
        verdict()


def test_mean_and_spread() -> None:
    assert mean_and_spread([1.0, 2.0, 3.0]) == {"mean": 2.0, "std": 1.0, "n": 3}


def test_cifar10_from_a_folder(tmp_path, monkeypatch) -> None:
    from PIL import Image

    from zoo.claims.data import cifar10

    cifar10.cache_clear()
    monkeypatch.delenv("ZOO_CIFAR10", raising=False)
    with pytest.raises(MissingData, match="set ZOO_CIFAR10"):
        cifar10()
    for part, count in (("train", 3), ("test", 2)):
        for label in range(10):
            folder = tmp_path / part / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (32, 32), (label, i, 255)).save(folder / f"{i}.png")
    monkeypatch.setenv("ZOO_CIFAR10", str(tmp_path))
    data = cifar10(per_class=2, test_per_class=1)
    assert data.x_train.shape == (20, 3, 32, 32)
    assert data.y_test.tolist() == list(range(10))
    assert (data.x_train[:, 0, 5, 5] * 255).round().long().tolist() == data.y_train.tolist()
    assert float(data.x_train[3, 1, 0, 0] * 255) == pytest.approx(1)
    with pytest.raises(MissingData, match="holds 2 images, 3 are needed"):
        cifar10(per_class=2, test_per_class=3)


def test_missing_data_leave_the_record_alone(monkeypatch) -> None:
    from zoo.claims import data, run

    data.cifar10.cache_clear()
    monkeypatch.delenv("ZOO_CIFAR10", raising=False)
    monkeypatch.setattr(run, "_update", lambda *a, **k: pytest.fail("nothing was measured"))
    (ran,) = run.reproduce("group_norm", claim="cifar10_batches", seeds=(0,))
    assert ran.record is None
    assert "ZOO_CIFAR10" in ran.why
