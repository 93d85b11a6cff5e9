"""Autoencoder, VAE and GAN on the same small images: ``python -m zoo.claims.generative.compare`` writes the figures.

The three have decoders of one size and latent spaces of one dimension. What each is asked for it may lack: a GAN has no
encoder, so no reconstruction; an autoencoder has no distribution to sample from, so it is asked twice, with draws from
N(0, I) and from a Gaussian fitted to the codes of the training images.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.claims import mean_and_spread
from zoo.claims.data import digits
from zoo.claims.train import batches, fit
from zoo.generative.autoencoder import Autoencoder
from zoo.generative.gan import GAN
from zoo.generative.vae import VAE

LATENT, HIDDEN, EPOCHS, BATCH, GAN_STEPS, SAMPLES = 10, 200, 60, 100, 3000, 500
FIELDS = {
    "reconstruction": "squared error of a test image, summed over its 64 pixels; null without an encoder",
    "mmd": "squared maximum mean discrepancy of 500 samples to 500 test images, x 1000, unbiased, three Gaussian kernels",
    "nearest": "mean Euclidean distance of a sample to the nearest training image",
    "recognised": "mean probability in % that a classifier of real digits gives to its first choice",
    "classes": "exp of the entropy of the classes it sees in all samples: 10 when all are equally frequent",
    "latent_used": f"latent dimensions of {LATENT} whose redraw alone moves the output by 2 % of its variance or more",
    "seconds": "processor time of training, one thread",
    "samples": "first seed: 8 images of 8 x 8 pixels, row by row, one hexadecimal digit a pixel, 0 black to f white",
}


class Trained(NamedTuple):
    """``decode(draw(n))`` makes n samples; ``reconstruct`` is None without an encoder."""

    decode: Callable[[Tensor], Tensor]
    draw: Callable[[int], Tensor]
    reconstruct: Callable[[Tensor], Tensor] | None
    seconds: float


def _epochs(model: nn.Module, x: Tensor, seed: int, loss: Callable[[Tensor], Tensor]) -> float:
    started, generator = time.process_time(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(EPOCHS):
        for index in batches(len(x), BATCH, generator):
            optimizer.zero_grad(set_to_none=True)
            loss(x[index]).backward()
            optimizer.step()
    return time.process_time() - started


def autoencoders(seed: int) -> dict[str, Trained]:
    """One network, asked for samples in two ways."""
    torch.manual_seed(seed)
    x = digits().x_train.flatten(1)
    model = Autoencoder(64, LATENT, (HIDDEN,))
    seconds = _epochs(model, x, seed, lambda batch: model(batch)["loss"])
    with torch.no_grad():
        codes = model.encode(x)
    mean, factor = codes.mean(0), torch.linalg.cholesky(codes.T.cov())
    plain = Trained(model.decoder, lambda n: torch.randn(n, LATENT), lambda x: model(x)["output"], seconds)
    fitted = plain._replace(draw=lambda n: mean + torch.randn(n, LATENT) @ factor.T)
    return {"autoencoder, N(0, I)": plain, "autoencoder, fitted Gaussian": fitted}


def vae(seed: int) -> dict[str, Trained]:
    torch.manual_seed(seed)
    model = VAE(64, LATENT, HIDDEN)
    seconds = _epochs(model, digits().x_train, seed, lambda batch: model(batch).loss)
    model.eval()
    return {"VAE": Trained(model.decode, lambda n: torch.randn(n, LATENT), lambda x: model(x).output, seconds)}


def gan(seed: int) -> dict[str, Trained]:
    """Simultaneous steps with the usual Adam 2e-4 (0.5, 0.999); noise uniform as in the authors' code."""
    torch.manual_seed(seed)
    x = digits().x_train.flatten(1)
    model = GAN(64, LATENT, HIDDEN)
    steps = [torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in model.children()]
    started = time.process_time()
    for _ in range(GAN_STEPS):
        model.zero_grad(set_to_none=True)
        out = model(x[torch.randint(len(x), (BATCH,))])
        (out["d_loss"] + out["g_loss"]).backward()
        for optimizer in steps:
            optimizer.step()
    return {"GAN": Trained(model.generator, model.noise, None, time.process_time() - started)}


def mmd(x: Tensor, y: Tensor) -> float:
    """Unbiased squared discrepancy x 1000; bandwidths are half, one and two times the median distance within ``y``."""
    within = torch.cdist(y, y)
    median = within[within > 0].median()

    def kernel(distance: Tensor) -> Tensor:
        return torch.stack([(-0.5 * (distance / (scale * median)).square()).exp() for scale in (0.5, 1.0, 2.0)]).sum(0)

    def own(d: Tensor) -> Tensor:
        n = len(d)
        return (kernel(d).sum() - kernel(d).diagonal().sum()) / (n * (n - 1))

    return 1000 * float(own(torch.cdist(x, x)) + own(within) - 2 * kernel(torch.cdist(x, y)).mean())


def latent_used(model: Trained, count: int = 500) -> int:
    """Dimensions by the total effect of each: half the mean squared change of the output when it alone is drawn anew."""
    z, other = model.draw(count), model.draw(count)
    base = model.decode(z)
    whole = base.var(0).sum()
    effects = []
    for i in range(z.shape[1]):
        moved = z.clone()
        moved[:, i] = other[:, i]
        effects.append(float(0.5 * (model.decode(moved) - base).square().sum(1).mean() / whole))
    return sum(e >= 0.02 for e in effects)


@torch.no_grad()
def measured(model: Trained, judge: nn.Module, seed: int) -> dict[str, float | None]:
    """Every figure of :data:`FIELDS` for one trained model."""
    torch.manual_seed(seed + 1000)
    data = digits()
    samples = model.decode(model.draw(SAMPLES)).clamp(0, 1)
    probability = judge(samples).softmax(1)
    seen = probability.mean(0)
    test = data.x_test.flatten(1)
    back = None if model.reconstruct is None else model.reconstruct(data.x_test).flatten(1)
    return {
        "reconstruction": None if back is None else float((back - test).square().sum(1).mean()),
        "mmd": mmd(samples, test),
        "nearest": float(torch.cdist(samples, data.x_train.flatten(1)).min(1).values.mean()),
        "recognised": 100 * float(probability.max(1).values.mean()),
        "classes": float((-torch.xlogy(seen, seen).sum()).exp()),
        "latent_used": latent_used(model),
        "seconds": model.seconds,
    }


@torch.no_grad()
def pictures(model: Trained, seed: int, count: int = 8) -> list[str]:
    torch.manual_seed(seed + 2000)
    levels = (model.decode(model.draw(count)).clamp(0, 1) * 15).round().int()
    return ["".join(f"{int(v):x}" for v in row) for row in levels]


def compare(seeds: Sequence[int] = (0, 1, 2)) -> dict[str, Any]:
    """Means and spreads over the seeds for each model; real test images stand beside them as the floor."""
    from zoo.claims.run import environment

    data = digits()
    train, test = data.x_train.flatten(1), data.x_test.flatten(1)
    torch.manual_seed(0)
    judge = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    fit(judge, train, data.y_train, epochs=40, lr=0.1)
    with torch.no_grad():
        right = 100 * float((judge(test).argmax(1) == data.y_test).float().mean())
        probability = judge(test).softmax(1)
    found: dict[str, list[dict[str, float | None]]] = {}
    shown: dict[str, list[str]] = {}
    for seed in seeds:
        for name, model in {**autoencoders(seed), **vae(seed), **gan(seed)}.items():
            found.setdefault(name, []).append(measured(model, judge, seed))
            if seed == seeds[0]:
                shown[name] = pictures(model, seed)
    rows = []
    for name, runs in found.items():
        figures: dict[str, Any] = {}
        for field in runs[0]:
            values = [v for run in runs if (v := run[field]) is not None]
            figures[field] = mean_and_spread(values) if values else None
        rows.append({"model": name, **figures, "samples": shown[name]})
    seen = probability.mean(0)
    return {
        "what": "autoencoder, VAE and GAN on 8 x 8 digits",
        "setting": f"{len(train)} training and {len(test)} test images; latent size {LATENT}, one hidden layer of {HIDDEN} "
        f"(GAN: two in each network); autoencoder and VAE {EPOCHS} epochs of batch {BATCH} with Adam 2e-3, GAN {GAN_STEPS} "
        f"simultaneous steps of {BATCH} with Adam 2e-4 (0.5, 0.999); seeds {list(seeds)}",
        "command": "python -m zoo.claims.generative.compare",
        "fields": FIELDS,
        "environment": environment(),
        "judge": f"perceptron 64-128-10 trained on the same images, {right:.1f} % right on test images",
        "real": {
            "mmd": round(mmd(train[:SAMPLES], test), 4),
            "nearest": round(float(torch.cdist(test, train).min(1).values.mean()), 4),
            "recognised": round(100 * float(probability.max(1).values.mean()), 2),
            "classes": round(float((-torch.xlogy(seen, seen).sum()).exp()), 3),
        },
        "rows": rows,
    }


def main() -> None:
    from zoo.registry.files import write_atomic

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/data/generative_compare.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = compare()
    write_atomic(arguments.out, json.dumps(found, indent=1) + "\n")
    for row in found["rows"]:
        print(row["model"], {k: v["mean"] if v else None for k, v in row.items() if k not in ("model", "samples")})
    print("real", found["real"])


if __name__ == "__main__":
    main()
