"""Convolution algorithms: what they allocate and how long they take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import torch
import torch.nn.functional as F

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import mnist5k
from zoo.convolution.im2col_conv import ALGORITHMS, Im2colConv2d, indirection_buffer


def _features(seed: int) -> torch.Tensor:
    """64 channels at 28 x 28 from real images."""
    torch.manual_seed(seed)
    with torch.no_grad():
        return torch.nn.Conv2d(1, 64, 3, padding=1)(mnist5k().x_test[:4]).relu()


def _largest_allocation(layer: Im2colConv2d, x: torch.Tensor) -> int:
    """Bytes of the largest tensor that one forward pass makes."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                self.largest = max(self.largest, out.untyped_storage().nbytes())
            return out

    with torch.no_grad(), Watch() as watch:
        layer(x)
    return watch.largest


def low_memory(seeds: Sequence[int]) -> Outcome:
    """Largest tensor and time of each algorithm, beside the native convolution."""
    times: dict[str, list[float]] = {name: [] for name in ("native", *ALGORITHMS)}
    sizes: dict[str, float] = {}
    for seed in seeds:
        x = _features(seed)
        layers = {name: Im2colConv2d(64, 64, 3, padding=1, algorithm=name) for name in ALGORITHMS}
        runs: dict[str, list[float]] = {name: [] for name in times}
        with torch.no_grad():
            for _ in range(8):  # interleaved, so that a slow moment hits all
                for name in times:
                    start = time.perf_counter()
                    if name == "native":
                        F.conv2d(x, layers["im2col"].weight, padding=1)
                    else:
                        layers[name](x)
                    runs[name].append(time.perf_counter() - start)
        for name, values in runs.items():
            times[name].append(1e3 * median(values))
        sizes = {name: round(_largest_allocation(layer, x) / (x.numel() * 4), 2) for name, layer in layers.items()}
    mean = {name: sum(v) / len(v) for name, v in times.items()}
    return Outcome(
        verdict(sizes["shifted"] < sizes["im2col"] / 4, mean["shifted"] < mean["im2col"]),
        {f"{name}_ms": mean_and_spread(v) for name, v in times.items()} | {"largest_tensor_in_inputs": sizes},
        "4 maps of 64 channels at 28 x 28 (features of MNIST), 3 x 3 to 64 channels, float32 on the CPU, median of 8",
        "shifted products: largest tensor under a quarter of im2col's; and less time than im2col on the mean",
    )


def indirection_saves(seeds: Sequence[int]) -> Outcome:
    """The table of addresses against the patch matrix, for several numbers of channels; equal results."""
    table = indirection_buffer((28, 28), (3, 3), (1, 1), (1, 1), (1, 1)).numel() * 8
    ratio = {c: round(28 * 28 * 9 * c * 4 / table, 2) for c in (3, 32, 128, 512)}
    errors: list[float] = []
    for seed in seeds:
        x = _features(seed)
        layer = Im2colConv2d(64, 64, 3, padding=1, algorithm="indirect")
        with torch.no_grad():
            expected = torch.nn.Conv2d.forward(layer, x)
            errors.append(float((layer(x) - expected).abs().max() / expected.abs().max()))
    return Outcome(
        verdict(ratio[512] / ratio[32] == 16, max(errors) < 1e-5),
        {"patch_matrix_over_table": {str(c): r for c, r in ratio.items()}, "relative_error": mean_and_spread(errors)},
        "28 x 28, 3 x 3, float32 values against addresses of 8 bytes; results compared on features of MNIST",
        "the saving grows in proportion to the channels; results equal to 1e-5",
    )
