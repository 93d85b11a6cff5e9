"""Verified reading: the bytes that are hashed are the bytes that are loaded; malformed headers are refused quickly."""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path

import pytest
from hub_files import FILE, safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import sha256

from zoo.errors import IntegrityError, WeightsError, ZooError
from zoo.hub import weights
from zoo.hub.source import Source
from zoo.hub.weights import open_weights, read_header, read_verified, verify_file


def source_of(data: bytes, **kwargs: object) -> Source:
    return Source(
        **({"name": "n", "tag": "t", "repo": None, "file": FILE, "sha256": sha256(data), "root": "/"} | kwargs)
    )


@pytest.fixture
def saved(tmp_path: Path, tiny: bytes) -> Path:
    path = tmp_path / FILE
    path.write_bytes(tiny)
    weights.forget_verified()
    return path


@pytest.mark.parametrize("private", [False, True])
def test_equal_to_the_reference_reader(saved, tiny, private):
    import torch
    from safetensors.torch import load_file

    ours, theirs = read_verified(saved, source_of(tiny), private=private), load_file(saved)
    assert ours.keys() == theirs.keys()
    for key in theirs:
        assert torch.equal(ours[key], theirs[key])
        assert ours[key].dtype == theirs[key].dtype


def test_every_dtype_empty_scalar_and_unaligned(tmp_path):
    import torch
    from safetensors.torch import load, save

    tensors = {name: torch.ones(3).to(getattr(torch, name)) for name, _ in weights.DTYPES.values()}
    tensors |= {"empty": torch.empty(0, 4), "scalar": torch.tensor(7)}
    data = save(tensors)
    odd = safetensors({"a": ("U8", [1], b"\1"), "b": ("F32", [2], struct.pack("<2f", 1.5, -2))})
    for raw in (data, odd):
        path = tmp_path / f"{len(raw)}.safetensors"
        path.write_bytes(raw)
        ours = read_verified(path, source_of(raw))
        for key, value in load(raw).items():
            assert torch.equal(ours[key], value), key
            assert ours[key].shape == value.shape


def test_tensors_are_views_of_the_file_and_writing_does_not_reach_it(saved, tiny):
    tensors = read_verified(saved, source_of(tiny))
    pages = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(saved))]
    spans = [tuple(int(x, 16) for x in line.split()[0].split("-")) for line in pages]
    assert any(a <= tensors["weight"].data_ptr() < b for a, b in spans)
    tensors["weight"].zero_()
    assert saved.read_bytes() == tiny


def test_private_bytes_do_not_follow_the_file(saved, tiny):
    tensors = read_verified(saved, source_of(tiny), private=True)
    with saved.open("r+b") as stream:
        stream.write(b"\xff" * len(tiny))
    assert tensors["weight"][0, 1] == 1.0


def test_file_that_others_may_write_is_read_into_private_memory(saved, tiny):
    assert not open_weights(saved, source_of(tiny)).private
    saved.chmod(0o666)
    assert open_weights(saved, source_of(tiny)).private


def test_open_descriptor_is_read_whatever_the_path_becomes(saved, tiny):
    descriptor = os.open(saved, os.O_RDONLY)
    saved.unlink()
    saved.write_bytes(b"something else entirely")
    assert read_verified(descriptor, source_of(tiny))["bias"].tolist() == [1, 2, 3]
    os.close(descriptor)


def test_second_reading_does_not_hash_and_a_change_does(saved, tiny, monkeypatch):
    count, source = [], source_of(tiny)
    real = weights.hashlib.sha256
    monkeypatch.setattr(weights.hashlib, "sha256", lambda *a: count.append(1) or real(*a))
    verify_file(saved, source)
    verify_file(saved, source)
    assert len(count) == 1
    saved.write_bytes(tiny)
    os.utime(saved, ns=(1, 1))
    verify_file(saved, source)
    assert len(count) == 2


def test_note_of_one_file_is_no_licence_for_another_promise(saved, tiny):
    verify_file(saved, source_of(tiny))
    with pytest.raises(IntegrityError, match="is promised"):
        verify_file(saved, source_of(tiny, sha256="0" * 64))


def test_wrong_size_and_missing_promise(saved, tiny):
    with pytest.raises(IntegrityError, match="bytes, 5 are promised"):
        open_weights(saved, source_of(tiny, size=5))
    with pytest.raises(WeightsError, match="no sha256"):
        open_weights(saved, source_of(tiny, sha256=None))
    with pytest.raises(WeightsError, match="cannot open"):
        open_weights(saved.with_name("none"), source_of(tiny))
    with pytest.raises((IntegrityError, WeightsError)):
        open_weights(saved.parent, source_of(tiny))


def test_altered_bytes_are_named_rather_than_the_header_they_break(saved, tiny):
    saved.write_bytes(b"\xff" * 8 + tiny[8:])
    with pytest.raises(IntegrityError, match="sha256"):
        read_verified(saved, source_of(tiny))


# --------------------------------------------------------------------------- headers (their SHA-256 is right)


def raw(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape: list[object], offsets: list[object], dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


ONE = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
BAD = {
    "huge header": raw(b"{}", b"12345678", length=2**60),
    "header over the cap": raw(b"{}", b"12345678", length=weights.MAX_HEADER + 1),
    "no header": raw(b"", b"12345678"),
    "not json": raw(b"{]", b"12345678"),
    "list": raw([], b"12345678"),
    "deep": raw(b"[" * 100_000),
    "not utf-8": raw(b"\xff\xfe{}"),
    "no tensors": raw({}, b"1234"),
    "huge shape": raw({"a": tensor([2**40, 2**40], [0, 4])}, b"1234"),
    "huge empty shape": raw({"a": tensor([0, 2**62], [0, 0])}, b""),
    "shape overflow": raw({"a": tensor([2**32, 2**32], [0, 0])}, b""),
    "negative": raw({"a": tensor([-1], [0, 4])}, b"1234"),
    "bool": raw({"a": tensor([True], [0, 4])}, b"1234"),
    "float": raw({"a": tensor([1.0], [0, 4])}, b"1234"),
    "dims": raw({"a": tensor([1] * 9, [0, 4])}, b"1234"),
    "dtype": raw({"a": tensor([1], [0, 4], "F8_E4M3")}, b"1234"),
    "dtype list": raw({"a": tensor([1], [0, 4], ["F32"])}, b"1234"),
    "missing bytes": raw({"a": tensor([2], [0, 8])}, b"1234"),
    "trailing": raw({"a": tensor([1], [0, 4])}, b"12345678"),
    "hole": raw({"a": tensor([1], [0, 4]), "b": tensor([1], [8, 12])}, b"123456789012"),
    "overlap": raw({"a": tensor([1], [0, 4]), "b": tensor([1], [0, 4])}, b"1234"),
    "extra key": raw({"a": tensor([1], [0, 4]) | {"x": 1}}, b"1234"),
    "twice": raw(b"{%s,%s}" % (ONE, ONE), b"1234"),
    "pickle": b"\x80\x04\x95" + b"x" * 100,
    "200,000 tensors": raw({f"t{i}": tensor([0], [0, 0]) for i in range(200_000)})[: weights.MAX_HEADER],
    "20,001 tensors": raw({f"t{i}": tensor([0], [0, 0]) for i in range(20_001)}),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_malformed_headers_are_refused_quickly(tmp_path, what):
    path = tmp_path / FILE
    path.write_bytes(BAD[what])
    start = time.perf_counter()
    with pytest.raises(IntegrityError):
        read_verified(path, source_of(BAD[what]))
    assert time.perf_counter() - start < 1.0


def test_cap_on_values(saved, tiny):
    assert read_verified(saved, source_of(tiny), max_parameters=75_003)
    with pytest.raises(IntegrityError, match="expects at most"):
        open_weights(saved, source_of(tiny), max_parameters=75_002)


@settings(deadline=None)
@given(st.data())
def test_any_mutation_of_a_header_is_read_or_refused(data):
    good = safetensors({"w": ("F32", [2], b"12345678"), "b": ("U8", [3], b"123")})
    cut = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(cut) - 1))
        cut[at] = data.draw(st.integers(0, 255))
    try:
        found = read_header(bytes(cut), len(cut), source_of(bytes(cut)))
    except IntegrityError:
        return
    assert sum(e.stop - e.start for e in found.values()) <= len(cut)


FIELDS = {
    "repo": st.one_of(st.none(), st.text(max_size=60), st.sampled_from(["a/b", "../a", "a--b/c"])),
    "file": st.one_of(st.text(max_size=40), st.sampled_from(["m.safetensors", "../m.safetensors", "m.bin"])),
    "commit": st.one_of(st.none(), st.text(max_size=44), st.just("0" * 40)),
    "sha256": st.one_of(st.none(), st.text(max_size=70), st.just("0" * 64)),
    "size": st.one_of(st.none(), st.integers(), st.floats(), st.booleans()),
    "gated": st.booleans(),
}


@settings(deadline=None)
@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_any_mutated_entry_is_refused_by_the_schema_or_ends_in_a_declared_error(change):
    from pydantic import ValidationError

    from zoo.hub.download import obtain
    from zoo.registry.schema import Checkpoint

    entry = {"tag": "t", "repo": "a/b", "file": "m.safetensors", "licence": "mit", "trained_on": "digits"} | change
    try:
        checkpoint = Checkpoint(**entry)
    except ValidationError:
        return
    with pytest.raises(ZooError):
        obtain(Source.from_checkpoint("n", checkpoint, root="/nonexistent"), offline=True)
