"""The files of the bundled networks."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import nn


def save(model: nn.Module, file: Path) -> str:
    """Write a model's tensors as safetensors; returns name, size and SHA-256 as the registry wants them."""
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().contiguous() for k, v in model.state_dict().items()}, file)
    data = file.read_bytes()
    return f"{file.name}: size {len(data)}, sha256 {hashlib.sha256(data).hexdigest()}"
