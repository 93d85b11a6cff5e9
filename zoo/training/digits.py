"""Train the bundled ``gn_resnet8_digits`` and write its weights and held-out images: ``python -m zoo.training.digits``.

Data: 1797 handwritten digits of 8 x 8 pixels with 17 grey levels (E. Alpaydin, C. Kaynak: Optical Recognition of
Handwritten Digits, UCI Machine Learning Repository, CC BY 4.0; the test part, as scikit-learn ships it). 360 of them,
drawn with a fixed seed, are held out and bundled for the demo. Writers are not known in this copy, so the same hand may
stand on both sides.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.claims.data import digits
from zoo.claims.train import accuracy, batches
from zoo.training.normalise import digits_input

HELD_OUT = 360


def shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by up to one pixel each way, zeros coming in: the only augmentation."""
    n, _, h, w = x.shape
    dy, dx = torch.randint(0, 3, (2, n), generator=generator)
    padded = F.pad(x, (1, 1, 1, 1))
    rows = (dy[:, None] + torch.arange(h)).view(n, 1, h, 1)
    columns = (dx[:, None] + torch.arange(w)).view(n, 1, 1, w)
    return padded[torch.arange(n).view(n, 1, 1, 1), torch.zeros(1, dtype=torch.long).view(1, 1, 1, 1), rows, columns]


def train(model: nn.Module, x: Tensor, y: Tensor, *, epochs: int, seed: int, show: bool = True) -> None:
    """AdamW with a one-cycle schedule, batches of 64, label smoothing 0.05."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    steps = len(x) // 64
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=epochs * steps)
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for index in batches(len(x), 64, generator):
            loss = F.cross_entropy(model(digits_input(shifted(x[index], generator))), y[index], label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        if show:
            print(f"epoch {epoch + 1:2d}/{epochs}  loss {total / steps:.3f}", flush=True)


def main() -> None:
    from safetensors.torch import save_file

    import zoo

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "models" / "weights")
    arguments = parser.parse_args()
    data = digits(test=HELD_OUT, seed=0)
    torch.manual_seed(arguments.seed)
    model = zoo.create("gn_resnet8_digits")
    train(model, data.x_train, data.y_train, epochs=arguments.epochs, seed=arguments.seed)
    top1 = accuracy(model, digits_input(data.x_test), data.y_test)
    arguments.out.mkdir(parents=True, exist_ok=True)
    weights, images = arguments.out / "gn_resnet8_digits.safetensors", arguments.out / "digits_heldout.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, weights)
    pixels = (data.x_test * 16).round().to(torch.uint8)
    save_file({"images": pixels, "labels": data.y_test.to(torch.uint8)}, images)
    for file in (weights, images):
        blob = file.read_bytes()
        print(f"{file.name}: size {len(blob)}, sha256 {hashlib.sha256(blob).hexdigest()}")
    print(f"held-out accuracy {top1:.2f} % of {HELD_OUT}")


if __name__ == "__main__":
    main()
