"""``python -m zoo.training.bundled NAME``: train one of the bundled networks anew and write its file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from zoo.registry.files import PACKAGE
from zoo.training.bundled import autoencoding, embedding, flow, image, memn2n, noisy
from zoo.training.bundled.weights import save

Made = tuple[nn.Module, dict[str, float]]
MAKERS: dict[str, Callable[[], Made]] = {
    "siren_photo": image.make,
    "planar_flow_u1": flow.make,
    "facenet_mnist": embedding.make,
    "vae_digits": autoencoding.make,
    **{f"memn2n_babi_task{task}": (lambda t=task: memn2n.make(t)) for task in memn2n.TASKS},  # type: ignore[misc]
    **{f"noisy_digits_{method}": (lambda m=method: noisy.make(m)) for method in noisy.METHODS},  # type: ignore[misc]
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m zoo.training.bundled", description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(MAKERS))
    parser.add_argument("--out", type=Path, default=PACKAGE / "models" / "weights")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.names:
        model, measured = MAKERS[name]()
        print(f"{measured}; {save(model, arguments.out / f'{name}.safetensors')}", flush=True)


if __name__ == "__main__":
    main()
