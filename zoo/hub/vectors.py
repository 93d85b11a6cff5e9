"""Test vectors: an input and the output that the right model gives for it, kept beside the weights.

They are what tells a model that loads strictly but computes something else (padding, eps, order of channels) from
the right one. A file of vectors is safetensors with ``input`` ``(N, C, H, W)`` and ``output`` ``(N, K)``; models that
take or give several tensors continue with ``input1``, ``output1`` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import IntegrityError, WeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn

RTOL, ATOL = 1e-3, 1e-4
#: Where a published repository keeps its vectors; timm's own small test models keep theirs under another name.
FILE, TIMMS_FILE = "test/vectors.safetensors", "test/rand_tensors.safetensors"


def file_in(repo: str) -> str:
    """Path of the test vectors inside a repository of the Hub."""
    return TIMMS_FILE if repo.startswith("timm/") else FILE


def make(model: nn.Module, size: tuple[int, ...] | None = None, seed: int = 0, count: int = 2) -> dict[str, Tensor]:
    """Vectors of ``model``, whose mode is kept.

    Input is what ``model.sample_inputs(count, generator)`` gives, for models that no normal numbers fit; else seeded normal
    numbers of ``size`` ``(C, H, W)``.

    Raises:
        WeightsError: neither of both.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    own = getattr(model, "sample_inputs", None)
    if own is None and size is None:
        raise WeightsError(f"{type(model).__name__} has no sample_inputs and no input size is known: nothing to record")
    given = own(count, generator) if own is not None else (torch.randn(count, *(size or ()), generator=generator),)
    return {**_named("input", given), **_named("output", _run(model, given))}


def _named(name: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {name + (str(i) if i else ""): t for i, t in enumerate(tensors)}


def _listed(name: str, vectors: Mapping[str, Tensor]) -> list[Tensor]:
    found: list[Tensor] = []
    while (key := name + (str(len(found)) if found else "")) in vectors:
        found.append(vectors[key])
    return found


def save(vectors: Mapping[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in vectors.items()}, path)


def load(path: Path) -> dict[str, Tensor]:
    """Read a small file of vectors.

    Raises:
        WeightsError: it lacks ``input`` or ``output``.
        IntegrityError: not a sound safetensors file of reasonable size.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as parse

    if path.stat().st_size > 256 * 2**20:
        raise IntegrityError(f"{path} is too large for test vectors")
    try:
        vectors = parse(path.read_bytes())
    except SafetensorError as error:
        raise IntegrityError(f"{path} is not a safetensors file: {error}") from None
    if not {"input", "output"} <= vectors.keys():
        raise WeightsError(f"{path} holds {sorted(vectors)}; test vectors are named input and output")
    return vectors


def replay(
    model: nn.Module,
    vectors: Mapping[str, Tensor] | Path,
    *,
    label: str = "model",
    rtol: float = RTOL,
    atol: float = ATOL,
) -> float:
    """Largest difference between what ``model`` gives and what is recorded.

    Raises:
        WeightsError: beyond ``atol + rtol * max |output|``, or another shape.
    """
    known = load(vectors) if isinstance(vectors, Path) else vectors
    given, wanted = _run(model, _listed("input", known)), _listed("output", known)
    shapes = [[tuple(t.shape) for t in side] for side in (given, wanted)]
    if shapes[0] != shapes[1]:
        raise WeightsError(f"{label} gives {_said(shapes[0])}, the vectors say {_said(shapes[1])}")
    worst = 0.0
    for got, want in zip(given, wanted, strict=True):
        error, allowed = float((got - want).abs().max()), atol + rtol * float(want.abs().max())
        if not error <= allowed:
            raise WeightsError(
                f"{label} does not compute what its test vectors say: largest difference {error:.3g}, allowed "
                f"{allowed:.3g}. The keys fit, the computation does not (padding, eps, layout or preprocessing differ)."
            )
        worst = max(worst, error)
    return worst


def _said(shapes: list[tuple[int, ...]]) -> str:
    return " and ".join(map(str, shapes))


def _run(model: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """All tensors of the output, flat, in float32."""
    import torch

    training = model.training
    try:
        with torch.no_grad():
            output = model.eval()(*inputs)
    finally:
        model.train(training)
    flat = output if isinstance(output, (tuple, list)) else (output,)
    return [t.float() for t in flat]
