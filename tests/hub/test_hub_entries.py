"""Any checkpoint entry that anybody could write into a registry is refused, or ends in a declared error, or is right.

Entries go the whole way: YAML text, schema, choice, Hub, cache, reading of the file. A Hub answers on loopback, honestly or not.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_files import FILE, REPO
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from loopback import sha256

from zoo.errors import RegistryError, WeightsError, ZooError
from zoo.factory.pretrained import choose
from zoo.hub.download import obtain
from zoo.hub.source import Source
from zoo.hub.weights import read_verified
from zoo.registry.load import registry_data
from zoo.registry.schema import Checkpoint, Model
from zoo.registry.yaml_io import parse

TRICKS = [
    "..", "../x.safetensors", "../../../../tmp/x.safetensors", "/etc/passwd", "/etc/x.safetensors", "a/../../b.safetensors",
    "a//b.safetensors", "./m.safetensors", "C:\\x.safetensors", "a\\..\\b.safetensors", "%2e%2e/x.safetensors", "~/x.safetensors",
    "model.safetensors\n", "model.safetensors\0", "model.safetensors/", "model.safetensors#x", "model.safetensors?a=b", "-x",
    "a..b.safetensors", "..%2fx.safetensors", "\u202emodel.safetensors", "modèl.safetensors", "con.safetensors", "x" * 300,
    "model.safetensors@main", "https://example.org/m.safetensors", "file:///etc/passwd", "$HOME/x.safetensors", "{0}", "",
]  # fmt: skip
FORMATS = [
    "pytorch_model.bin",
    "model.pt",
    "model.safetensors.bin",
    "model.gguf",
    "model.SAFETENSORS",
    "model.pkl",
    "safetensors",
]
REVISIONS = [
    "main", "HEAD", "refs/pr/1", "v1", "0" * 39, "0" * 41, "0" * 40, "A" * 40, "g" * 40, "0" * 40 + "\n", " " + "0" * 40, "../main",
    "0" * 64,
]  # fmt: skip
REPOS = [
    "a/b/c",
    "a",
    "../b/c",
    "a--b/c",
    "zoo-tests/..",
    "zoo-tests/tiny.git",
    "zoo-tests/none",
    "zoo-tests/TINY",
    "/zoo-tests/tiny",
]
SIZES = [0, -1, 1, 2**31, 2**63, 64 * 2**30, 64 * 2**30 + 1, 1.5, True, "300168", float("inf"), float("nan")]
#: Values of a type that the field does not have, and texts that no record should hold.
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2), st.text(max_size=60),
    st.sampled_from(["x" * 5000, "0" * 20_000, "a/" * 3000, "model.safetensors" * 500]),
)  # fmt: skip
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "file": st.sampled_from([*TRICKS, *FORMATS, "other.safetensors", "sub/x.safetensors"]),
    "repo": st.sampled_from([*TRICKS, *REPOS]),
    "commit": st.sampled_from([*REVISIONS, *TRICKS]),
    "sha256": st.sampled_from(["0" * 64, "0" * 63, "F" * 64, "sha256:" + "0" * 57, "../" + "0" * 61, *TRICKS[:6]]),
    "size": st.sampled_from(SIZES),
    "tag": st.sampled_from([*TRICKS, "t@main", "T", "t-1"]),
    "licence": st.sampled_from(["", " ", "<script>", "x" * 5000]),
    "classes": st.sampled_from([-1, 2**70, "10"]),
    "gated": st.sampled_from([True, "yes", 1, None]),
    "input": st.sampled_from([{}, {"size": [1]}, {"size": [3, 8, 8], "mean": [], "std": []}]),
    "trained_on": st.just(""),
    "url": st.just("https://example.org/x"),
    "loader": st.just("os:system"),
}
GONE = object()
CHANGES = st.dictionaries(
    st.sampled_from(sorted(FIELDS)), st.just(None), min_size=1, max_size=3
).flatmap(lambda names: st.fixed_dictionaries({n: st.one_of(FIELDS[n], ODD, st.just(GONE)) for n in names}))  # fmt: skip
LIES = st.sampled_from(["", "", "", "corrupt", "short", "long", "headers"])
BAD_HEADERS = st.dictionaries(
    st.sampled_from(["X-Repo-Commit", "X-Linked-Etag", "X-Linked-Size"]),
    st.sampled_from(["../../../evil", "../../../../evil", "/etc/evil", "-1", "abc", "0" * 40, "0" * 64, "1" * 400]),
    min_size=1,
)


def load(entry: dict[str, Any], where: str = "hub") -> tuple[dict[str, torch.Tensor], Source]:
    """The way of an entry from the text of a registry to tensors."""
    model = {"backbone": "resnet18", "papers": ["group_norm"], "checkpoints": {where: [entry]}}
    text = json.dumps({"models": {"mutant": model}})
    record = registry_data(parse(text, "registry.yaml"), text, "registry.yaml")["models"]["mutant"]
    source = choose("mutant", Model.model_validate(record)).source
    found = obtain(source, progress=False)
    return read_verified(found.path, found.source), found.source


def around(folder: Path) -> dict[str, bytes | str]:
    """Everything below ``folder`` but the cache and the user's own pins: these two are written to, nothing else is."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.split("/")[0] not in {"cache", "zoo"}:
            found[name] = "folder" if path.is_dir() else path.read_bytes()
    return found


@pytest.fixture
def entry(pinned) -> dict[str, Any]:
    """A sound entry, as a registry has it."""
    return {
        "tag": "t1", "repo": REPO, "file": FILE, "commit": pinned.commit, "sha256": pinned.sha256, "size": pinned.size,
        "licence": "apache-2.0", "trained_on": "digits", "classes": 10, "gated": False,
        "input": {"size": [3, 8, 8], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    }  # fmt: skip


def test_the_sound_entry_loads(hub, entry):
    tensors, source = load(entry)
    assert set(tensors) == {"weight", "bias"}
    assert source.pinned


def test_any_mutated_entry_is_refused_or_ends_in_a_declared_error(hub, entry, tiny, tmp_path, monkeypatch):
    work = tmp_path / "work" / "below"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    (work / FILE).write_bytes(b"bystander")
    hub.repos[REPO].commit({"other.safetensors": tiny[:-1] + b"?", "pytorch_model.bin": b"pickle"})
    before = around(tmp_path)
    seen = {"schema": 0, "declared": 0, "loaded": 0}

    @settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @example(changes={"file": "../x.safetensors"}, lie="", headers={})
    @example(changes={"commit": "0" * 40}, lie="", headers={})
    @example(changes={"sha256": "0" * 64}, lie="", headers={})
    @example(
        changes={"commit": GONE, "sha256": GONE, "size": GONE},
        lie="headers",
        headers={"X-Repo-Commit": "../../../evil"},
    )
    @example(changes={"commit": GONE, "sha256": GONE, "size": GONE}, lie="corrupt", headers={})
    @given(changes=CHANGES, lie=LIES, headers=BAD_HEADERS)
    def check(changes: dict[str, Any], lie: str, headers: dict[str, str]) -> None:
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        shutil.rmtree(tmp_path / "zoo", ignore_errors=True)
        hub.faults.clear()
        if lie:
            hub.fault(lie, "GET|HEAD" if lie == "headers" else "GET", value=headers)
        problems: list[str] = []
        mutated = {k: v for k, v in (entry | changes).items() if v is not GONE}
        try:
            tensors, source = load(mutated)
        except RegistryError as error:
            seen["schema"] += 1
            problems = error.problems
        except ZooError as error:
            seen["declared"] += 1
            problems = [f"registry.yaml: {error}"]
        else:  # then these are the right bytes, and what the entry still pins is true
            seen["loaded"] += 1
            assert torch.equal(tensors["bias"], torch.tensor([1.0, 2.0, 3.0]))
            assert source.sha256 == mutated.get("sha256", sha256(tiny)) or mutated["sha256"] is None
        assert all(p.startswith("registry.yaml:") and len(p) < 4000 for p in problems)
        assert around(tmp_path) == before
        assert not hub.requests(path=r"\.bin")

    check()
    assert min(seen.values()) >= 5, seen  # the three ends were all seen


def test_bundled_entries_read_nothing_outside_their_folder(hub, entry, tiny, tmp_path):
    root = tmp_path / "package" / "weights"
    root.mkdir(parents=True)
    (root / FILE).write_bytes(tiny)
    (tmp_path / "package" / "x.safetensors").write_bytes(tiny)
    (root.parent / "model.safetensors").write_bytes(tiny)

    @settings(max_examples=120, deadline=None, derandomize=True)
    @given(file=st.one_of(st.sampled_from([*TRICKS, *FORMATS]), st.text(max_size=40)))
    @example(file="../x.safetensors")
    def check(file: str) -> None:
        try:
            record = Checkpoint.model_validate({**entry, "repo": None, "commit": None, "file": file})
            found = obtain(Source.from_checkpoint("mutant", record, root=root))
        except (ValueError, ZooError):
            return
        assert found.path.resolve().parent == root.resolve()

    check()
    assert hub.log == []


@settings(max_examples=150, deadline=None)
@given(spec=st.one_of(st.text(max_size=30), st.sampled_from([*TRICKS, *REVISIONS]).map(lambda r: f"digits@{r}")))
@example(spec="digits@" + "0" * 40)
@example(spec="@main")
def test_any_text_after_pretrained_names_a_checkpoint_or_is_refused(spec):
    import zoo

    entry = zoo.info("gn_resnet8_digits").model
    try:
        chosen = choose(entry.id, entry, spec)
    except ZooError:
        return
    assert chosen.source.tag == "digits"
    assert chosen.source.commit in (None, spec.partition("@")[2])


def test_two_checkpoints_of_one_tag_and_of_none(hub, entry):
    model = {"backbone": "resnet18", "papers": ["group_norm"], "checkpoints": {"hub": [entry, entry]}}
    with pytest.raises(RegistryError, match="must differ"):
        registry_data({"models": {"mutant": model}}, "", "registry.yaml")
    bare = Model.model_validate({"id": "mutant", "backbone": "resnet18", "papers": ["group_norm"]})
    with pytest.raises(WeightsError, match="no known pretrained weights"):
        choose("mutant", bare)
