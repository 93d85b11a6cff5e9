"""What the registry files under a method really realises it: seen in the modules of the architectures."""

from __future__ import annotations

import fnmatch
import re
import warnings

import pytest
import timm
import torch

from zoo.registry.licences import licence_class
from zoo.registry.lookup import registry

#: Method -> classes of which a filed architecture has at least one (by name, base classes included).
CLASSES = {
    "batch_norm": {"_BatchNorm"},
    "layer_norm": {"LayerNorm", "LayerNorm2d"},
    "group_norm": {"GroupNorm"},
    "weight_standardization": {"StdConv2d", "StdConv2dSame", "ScaledStdConv2d", "ScaledStdConv2dSame"},
}
LARGE = re.compile(r"giant|huge|large|xlarge|enormous|_h_|_g_|7b|1b|2b|so400|so150|101|152|200|270|300|350|420|nasnet")


def patterns(method: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    weights = registry().method(method).weights
    return (weights.timm, weights.exclude) if weights else ((), ())


def filed(method: str) -> list[str]:
    wanted, without = patterns(method)
    found = [t for t in timm.list_pretrained() if any(fnmatch.fnmatchcase(t, p) for p in wanted)]
    return [t for t in found if not any(fnmatch.fnmatchcase(t, p) for p in without)]


def realises(architecture: str, method: str) -> bool:
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = timm.create_model(architecture)
    names = {c.__name__ for module in model.modules() for c in type(module).__mro__}
    return bool(names & CLASSES[method])


def architectures(method: str) -> list[str]:
    return sorted({t.partition(".")[0] for t in filed(method)})


@pytest.mark.parametrize("method", CLASSES)
def test_filed_architectures_have_the_layer(method):
    small = sorted((a for a in architectures(method) if not LARGE.search(a)), key=lambda a: (len(a), a))
    assert small, f"no weights are filed under {method}"
    for architecture in small[:: max(1, len(small) // 4)][:4]:
        assert realises(architecture, method), architecture


@pytest.mark.slow
@pytest.mark.parametrize("method", CLASSES)
def test_every_pattern_has_the_layer_in_each_kind_it_matches(method):
    """One architecture (the shortest name) of each pattern and family."""
    from timm.models import _registry

    seen: dict[tuple[str, str], str] = {}
    for architecture in sorted(architectures(method), key=lambda a: (bool(LARGE.search(a)), len(a), a)):
        family = _registry._model_to_module[architecture]
        for pattern in patterns(method)[0]:
            if fnmatch.fnmatchcase(architecture + ".x", pattern):
                seen.setdefault((pattern, family), architecture)
    wrong = [a for a in sorted(set(seen.values())) if not realises(a, method)]
    assert not wrong


def test_every_pattern_names_something_and_licences_have_a_class():
    tags = timm.list_pretrained()
    for method, record in registry().raw.methods.items():
        for pattern in (record.get("weights") or {}).get("timm", ()):
            assert any(fnmatch.fnmatchcase(t, pattern) for t in tags), (method, pattern)
    lock = registry().lock
    for tag in {t for found in lock["weights"].values() for t in found}:
        assert licence_class(lock["timm"][tag].get("licence")) in ("permissive", "non-commercial", "other", "unknown")
