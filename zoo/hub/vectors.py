"""Test vectors: an input and the output that the right model gives for it, kept beside the weights.

They are what tells a model that loads strictly but computes something else (padding, eps, order of channels) from
the right one. A file of vectors is safetensors with ``input`` ``(N, C, H, W)`` and ``output`` ``(N, K)``.
"""

from __future__ import annotations

from collections.abc import Mapping
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


def make(model: nn.Module, size: tuple[int, ...], seed: int = 0, count: int = 2) -> dict[str, Tensor]:
    """Vectors of ``model`` for seeded normal input of ``size`` ``(C, H, W)``; the model's mode is kept."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, *size, generator=generator)
    return {"input": x, "output": _run(model, x)}


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
    given, wanted = _run(model, known["input"]), known["output"]
    if given.shape != wanted.shape:
        raise WeightsError(f"{label} gives {tuple(given.shape)}, the vectors say {tuple(wanted.shape)}")
    error, allowed = float((given - wanted).abs().max()), atol + rtol * float(wanted.abs().max())
    if not error <= allowed:
        raise WeightsError(
            f"{label} does not compute what its test vectors say: largest difference {error:.3g}, allowed "
            f"{allowed:.3g}. The keys fit, the computation does not (padding, eps, layout or preprocessing differ)."
        )
    return error


def _run(model: nn.Module, x: Tensor) -> Tensor:
    import torch

    training = model.training
    try:
        with torch.no_grad():
            output: Tensor = model.eval()(x)
        return output.float()
    finally:
        model.train(training)
