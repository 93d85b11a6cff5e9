"""The label noise table: which seeds a column stands on, and what is printed of them."""

from __future__ import annotations

from types import SimpleNamespace

from zoo.site.noise import noise_table
from zoo.training.noise_table import summarise


def run(method, noise, seed, last, best):
    return {
        "method": method,
        "noise": noise,
        "seed": seed,
        "last": last,
        "best": best,
        "memorised": 1.0,
        "suspects": 61.5 if method == "elr" else None,
    }


def text(site, runs):
    fake = SimpleNamespace(data=lambda name: {"rows": summarise(runs)}, reg=site.reg, path_of=site.path_of)
    return noise_table(fake, "guide/noisy-labels.md")


RUNS = [
    *(run("gce", "symmetric 40", seed, last, 50.0) for seed, last in ((0, 40.0), (1, 42.0), (2, 44.0))),
    *(run("elr", "symmetric 40", seed, last, 51.0) for seed, last in ((0, 41.0), (1, 41.0))),
    run("gce", "asymmetric 40", 0, 30.0, 31.0),
]


def test_methods_of_a_column_are_compared_on_the_same_seeds():
    rows = {(r["method"], r["noise"]): r for r in summarise(RUNS)}
    assert {key: r["seeds"] for key, r in rows.items()} == {
        ("gce", "symmetric 40"): [0, 1], ("elr", "symmetric 40"): [0, 1], ("gce", "asymmetric 40"): [0],
    }  # fmt: skip
    assert rows["gce", "symmetric 40"]["last"] == {"mean": 41.0, "std": 1.4142, "n": 2}


def test_columns_with_other_seeds_say_so(site):
    found = text(site, RUNS)
    assert "Seeds 0, 1 (symmetric 40); seed 0 (asymmetric 40); one seed tells orders" in found
    (gce,) = [
        line
        for line in found.splitlines()
        if line.startswith("|") and "](" in line and "41.0" in line and "1.4" in line
    ]
    assert "**41.0** ± 1.4 (50.0)" in gce
    assert "**30.0** (31.0)" in gce
    assert gce.count("not run") == 3


def test_suspects_and_published_figures_stand_in_tables_of_their_own(site):
    lines = text(site, RUNS).splitlines()
    (elr,) = [line for line in lines if "61.5" in line]
    assert elr.count("|") == 7
    published = [line for line in lines if "HanxunH" in line]
    assert len(published) == 2
    assert any("36.28" in line for line in published)


def test_one_set_of_seeds_is_said_once(site):
    found = text(site, RUNS[:2])
    assert "Seeds 0, 1.\n" in found
    assert "one seed" not in found
