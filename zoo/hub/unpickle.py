"""The only place that opens a pickle: a process of its own, started by ``zoo.hub.convert``, that ends afterwards.

``python -I -m zoo.hub.unpickle SOURCE TARGET MAX_BYTES SECONDS`` reads the tensors of a ``.pth`` with
``weights_only=True`` under limits on memory, time and written bytes, and writes them, as they are, as safetensors.
The limits are a second wall: torch's restricted unpickler has had holes before.
"""

from __future__ import annotations

import sys
import zipfile
from typing import Any

_INSIDE = ("state_dict", "model", "state_dict_ema", "model_ema", "model_state_dict", "params", "net")


def limit(max_bytes: int, seconds: int) -> None:
    """Cap this process; where the platform cannot (Windows), the caller's timeout remains."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes + 2**24,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = 0
    with open("/proc/self/statm") as stream:
        used = int(stream.read().split()[0]) * resource.getpagesize()
    cap = used + 4 * max_bytes + 2**28
    resource.setrlimit(resource.RLIMIT_AS, (cap, cap))


def check_archive(path: str, max_bytes: int) -> None:
    """Refuse an archive that unpacks to more than ``max_bytes``, before anything is unpacked."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
        if total > max_bytes:
            raise SystemExit(f"it unpacks to {total} bytes, at most {max_bytes} are allowed")


def tensors_of(value: Any) -> dict[str, Any]:
    """The state dict in what was saved: itself, or under one of the usual names."""
    import torch

    while isinstance(value, dict) and not any(isinstance(v, torch.Tensor) for v in value.values()):
        inner = next((value[k] for k in _INSIDE if isinstance(value.get(k), dict)), None)
        if inner is None:
            raise SystemExit(f"no tensors found; it holds {sorted(map(str, value))[:8]}")
        value = inner
    if not isinstance(value, dict):
        raise SystemExit(f"it holds a {type(value).__name__}, not a dictionary of tensors")
    others = [k for k, v in value.items() if not isinstance(k, str) or not isinstance(v, torch.Tensor)]
    if others:
        raise SystemExit(f"not every entry is a named tensor: {others[:5]}")
    return {k.removeprefix("module."): v.detach().cpu().contiguous().clone() for k, v in value.items()}


def main(source: str, target: str, max_bytes: int, seconds: int) -> None:
    import torch
    from safetensors.torch import save_file

    check_archive(source, max_bytes)
    limit(max_bytes, seconds)
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except MemoryError:
        raise SystemExit("it needs more memory than is allowed") from None
    except Exception as error:
        raise SystemExit(f"it cannot be read as weights only: {str(error).splitlines()[0][:300]}") from None
    tensors = tensors_of(loaded)
    if sum(t.numel() * t.element_size() for t in tensors.values()) > max_bytes:
        raise SystemExit(f"its tensors take more than {max_bytes} bytes")
    # The format sorts its tensors; a number in front keeps the order of the file, which may be needed to pair keys.
    save_file({f"{i:06d} {k}": t for i, (k, t) in enumerate(tensors.items())}, target)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
