"""The training loop: one loss, one backward, one step, whatever the method.

Every random draw is a function of the seed and the position (epoch or step), never of what ran before. Hence a run that
was killed and goes on from its checkpoint takes the same path, bit for bit on a CPU, and any number of processes draws
the same batches, augmentations and noise.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.noisy_labels.base import Algorithm
from zoo.training import checkpoint
from zoo.training.build import make_algorithm, make_optimizer, make_schedule
from zoo.training.data import Data, Samples, augmenter, load_data
from zoo.training.distributed import World, bare, distribute, world
from zoo.training.progress import Progress, TensorBoard
from zoo.training.recipe import Loaded, load
from zoo.training.report import ranks, report, suspects_csv

#: Rows of an evaluation pass.
EVALUATE = 512


def derive(seed: int, *position: int | str) -> int:
    """A seed for one place of a run, ``[0, 2**63)``."""
    key = "/".join(map(str, (seed, *position))).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1


def reseed(device: torch.device, value: int) -> None:
    """Seed torch's default generators of the CPU and of ``device``."""
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.manual_seed(value)


@dataclass
class Result:
    """What a run leaves: the report (also ``report.json``), a row an epoch, the algorithm, the data."""

    report: dict[str, Any]
    history: list[dict[str, Any]]
    algorithm: Algorithm
    data: Data

    @property
    def network(self) -> nn.Module:
        """The trained network of the last epoch."""
        network = self.algorithm.get_trainable_module()
        assert network is not None
        return bare(network)


def train(
    recipe: str | Path | Mapping[str, Any] | Loaded,
    out: str | Path | None = None,
    *,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    fresh: bool = False,
    device: str | None = None,
    show: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> Result:
    """Train by a recipe; a run that stopped in ``out`` goes on where its checkpoint stands.

    Args:
        recipe: a YAML file, the name of a bundled recipe, its fields, or what :func:`zoo.training.recipe.load` returned.
        out: folder for ``metrics.jsonl``, ``checkpoint.pt``, ``best.safetensors``, ``last.safetensors``, ``report.json``
            and, of a method that ranks them, ``suspects.csv``; None keeps everything in memory.
        overrides: see :func:`zoo.training.recipe.load`.
        fresh: start over; what an earlier run wrote to ``out`` is removed once the recipe and its parts are checked.
        device: ``cpu``, ``cuda``, ``cuda:1``; by default a GPU if there is one.
        show: a progress bar.
        on_step: called with the number of steps done, after each.

    Raises:
        RecipeError: the recipe is not valid or does not fit its data.
        ZooError: a batch that the processes cannot share, a checkpoint of another recipe, a loss that is not finite.
    """
    loaded = recipe if isinstance(recipe, Loaded) else load(recipe, overrides)
    folder = None if out is None else Path(out)
    with world(device) as place:
        engine = Engine(loaded, folder, place, fresh=fresh, show=show)
        return engine.run(on_step)


class Engine:
    """One run: everything that a recipe names, made and put in place. :meth:`run` trains to the end."""

    def __init__(
        self, loaded: Loaded, folder: Path | None, place: World, *, fresh: bool = False, show: bool = False
    ) -> None:
        self.loaded, self.recipe, self.folder, self.place = loaded, loaded.recipe, folder, place
        recipe = self.recipe
        if recipe.batch % place.size:
            near = [recipe.batch // place.size * place.size, -(-recipe.batch // place.size) * place.size]
            shown = " or ".join(str(n) for n in near if n)
            raise loaded.error(
                ("batch",),
                f"the global batch of {recipe.batch} does not divide into {place.size} processes; take {shown}",
            )
        data = load_data(loaded)
        if recipe.batch > len(data.train):
            raise loaded.error(
                ("batch",), f"{recipe.batch} is more than the {len(data.train)} training samples that are left"
            )
        self.seen = data.fingerprint()
        self.algorithm = make_algorithm(loaded, data).to(place.device)
        self.data = data.to(place.device)
        self.needs = self.algorithm.needs
        distribute(self.algorithm, place, recipe.parallel)
        network = self.algorithm.get_trainable_module()
        assert network is not None
        self.network: nn.Module = network
        self.batches = self._batches_an_epoch()
        self.optimizer = make_optimizer(loaded, self.algorithm)
        self.schedule = make_schedule(loaded, self.optimizer, self.batches)
        self.augment = augmenter(recipe.augment)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.total = torch.zeros((), dtype=torch.float64, device=place.device)
        self.step, self.seconds = 0, 0.0
        self.best: dict[str, Any] | None = None
        self.rate = self.optimizer.param_groups[0]["lr"]
        self.show = show and place.first
        self._resume(fresh)

    # ------------------------------------------------------------------ position and state

    def _batches_an_epoch(self) -> int:
        per_class = getattr(self.algorithm, "per_class", None)
        if per_class is not None and self.recipe.batch % per_class:
            raise self.loaded.error(
                ("batch",),
                f"the method takes groups of {per_class} samples of a class; {self.recipe.batch} is no multiple",
            )
        return len(self.data.train) // self.recipe.batch

    def _resume(self, fresh: bool) -> None:
        state = None
        if self.folder is not None:
            if fresh:
                self.place.barrier()
                if self.place.first:
                    checkpoint.remove(self.folder)
                self.place.barrier()
            state = checkpoint.read(self.folder, self.recipe.digest(), self.place.device)
        if state is not None and state["progress"].get("data", self.seen) != self.seen:
            raise ZooError(f"the data are not those that the run in {self.folder} began with; --fresh starts over")
        if state is not None:
            checkpoint.restore(state, self.algorithm, self.optimizer, self.schedule)
            progress = state["progress"]
            self.step, self.best, self.seconds = progress["step"], progress["best"], progress["seconds"]
            self.total.fill_(progress["total"])
        path = self.folder / checkpoint.METRICS if self.folder is not None and self.place.first else None
        self.metrics = checkpoint.Metrics(path, self.step // self.batches)
        if state is not None and not self.metrics.rows:
            self.metrics.rows = state["progress"]["rows"]

    def _save(self) -> None:
        if self.folder is None:
            return
        progress = {
            "digest": self.recipe.digest(), "data": self.seen, "step": self.step, "best": self.best, "total": float(self.total),
            "seconds": self.seconds, "rows": self.metrics.rows,
        }  # fmt: skip
        parts = (self.algorithm, self.optimizer, self.schedule)
        checkpoint.save(self.folder, *parts, progress, self.place, self.recipe.parallel)

    # ------------------------------------------------------------------ the loop

    def run(self, on_step: Callable[[int], None] | None = None) -> Result:
        """Train what is left, write the report."""
        recipe, started = self.recipe, time.perf_counter() - self.seconds
        board = TensorBoard(self.folder if self.place.first else None)
        steps = self.batches * recipe.epochs
        with closing(board), Progress(self.loaded.name, steps, self.step, self.show) as bar:
            for epoch in range(self.step // self.batches, recipe.epochs):
                self._epoch(epoch, on_step, bar)
                self.seconds = time.perf_counter() - started
                row = self._measure(epoch)
                self.metrics.add(row)
                board.add(row)
                bar.note(row)
                self.total.zero_()
                self._save()
        return self._finish()

    def _epoch(self, epoch: int, on_step: Callable[[int], None] | None, bar: Progress) -> None:
        recipe, device, algorithm, data = self.recipe, self.place.device, self.algorithm, self.data
        first = self.step - epoch * self.batches
        batches = self._indices(epoch)
        algorithm.train()
        if first == 0:  # what it leaves is in buffers, so a run that goes on inside an epoch has it
            reseed(device, derive(recipe.seed, "epoch", epoch))
            extra = {"batches": self._pass()} if "epoch_pass" in self.needs else {}
            algorithm.start_epoch(epoch, **extra)
            algorithm.train()
        criterion = getattr(algorithm, "criterion", None)
        after_loss = getattr(criterion, "step", None)
        cast = torch.autocast(device.type, torch.bfloat16) if recipe.precision == "bfloat16" else nullcontext()
        for index in batches[first:]:
            reseed(device, derive(recipe.seed, "step", self.step))
            x, y = data.train.images[index], data.train.labels[index]
            x = data.prepare(x if self.augment is None else self.augment(x))
            extra = self._extra(epoch, len(index))
            with cast:
                loss = algorithm(x, y, index=index, **extra)["loss"]
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if recipe.clip is not None:
                self._clip(recipe.clip)
            self.optimizer.step()
            self.rate = self.optimizer.param_groups[0]["lr"]
            self.schedule.step()
            algorithm.after_step()
            if after_loss is not None:
                after_loss()
            self.total += loss.detach()
            self.step += 1
            if (
                recipe.checkpoint_steps is not None
                and self.step % recipe.checkpoint_steps == 0
                and self.step % self.batches
            ):
                self._save()
            if on_step is not None:
                on_step(self.step)
            bar.advance(self.step)

    def _indices(self, epoch: int) -> Sequence[Tensor]:
        """The batches of an epoch; an incomplete one at the end is left out."""
        recipe, device = self.recipe, self.place.device
        per_class = getattr(self.algorithm, "per_class", None)
        seed = derive(recipe.seed, "order", epoch)
        if per_class is not None:
            from zoo.noisy_labels.metacleaner import ClassGroupSampler

            sampler = ClassGroupSampler(
                self.data.train.labels.cpu(), recipe.batch // per_class, per_class, self.batches, seed
            )
            return [torch.tensor(batch, device=device) for batch in sampler]
        order = torch.randperm(len(self.data.train), generator=torch.Generator().manual_seed(seed)).to(device)
        return order[: self.batches * recipe.batch].split(recipe.batch)

    def _extra(self, epoch: int, size: int) -> dict[str, Any]:
        """What the method needs besides input, target and index."""
        data = self.data
        given: dict[str, Any] = {}
        if "epoch" in self.needs:
            given["epoch"] = float(epoch)
        if "lr" in self.needs:
            given["lr"] = self.optimizer.param_groups[0]["lr"]
        if "meta_batch" in self.needs:
            assert data.meta is not None
            whole = torch.arange(len(data.meta))
            chosen = whole if len(whole) <= size else torch.randperm(len(whole))[:size]
            chosen = chosen.to(self.place.device)
            given["meta_batch"] = (data.take(data.meta, chosen), data.meta.labels[chosen])
        if "peer" in self.needs:
            inputs, labels = torch.randint(len(data.train), (2, size)).to(self.place.device)
            given["peer"] = (data.take(data.train, inputs), data.train.labels[labels])
        return given

    def _pass(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for index in torch.arange(len(self.data.train), device=self.place.device).split(EVALUATE):
            yield self.data.take(self.data.train, index), self.data.train.labels[index], index

    def _clip(self, norm: float) -> None:
        """Each network of a pair by itself, so that one backward equals one a network."""
        nets = getattr(self.network, "nets", None)
        for part in nets if isinstance(nets, nn.ModuleList) else [self.network]:
            nn.utils.clip_grad_norm_(part.parameters(), norm)

    # ------------------------------------------------------------------ measuring

    @torch.no_grad()
    def predict(self, samples: Samples) -> Tensor:
        """Predicted classes ``(N,)`` in evaluation mode; the mode is put back."""
        training = self.algorithm.training
        self.algorithm.eval()
        rows = torch.arange(len(samples), device=self.place.device).split(EVALUATE)
        found = [self.network(self.data.take(samples, i)).argmax(1) for i in rows]
        self.algorithm.train(training)
        return torch.cat(found)

    def accuracy(self, samples: Samples) -> float:
        """Percent."""
        return 100.0 * float((self.predict(samples) == samples.labels).double().mean())

    def _measure(self, epoch: int) -> dict[str, Any]:
        loss = float(self.total) / self.batches
        if not math.isfinite(loss):
            raise ZooError(f"the loss of epoch {epoch + 1} is {loss}: lower the learning rate, or set clip")
        data = self.data
        validation = None if data.validation is None else round(self.accuracy(data.validation), 4)
        row = {
            "epoch": epoch + 1, "step": self.step, "loss": loss, "lr": self.rate,
            "validation": validation, "test": round(self.accuracy(data.test), 4), "seconds": round(self.seconds, 3),
        }  # fmt: skip
        if validation is not None and (self.best is None or validation > self.best["validation"]):
            self.best = {k: row[k] for k in ("epoch", "validation", "test")}
            self._weights("best", row)
        return row

    def _weights(self, name: str, row: Mapping[str, Any]) -> None:
        if self.folder is not None:
            about = {"recipe": self.loaded.name, "digest": self.recipe.digest(), "epoch": row["epoch"]}
            metadata = {"zoo": json.dumps(about)}  # one key: safetensors writes several in any order
            path = self.folder / checkpoint.WEIGHTS[name]
            checkpoint.save_weights(path, bare(self.network), metadata, self.place.first)

    def _finish(self) -> Result:
        wrong = self.data.wrong
        fitted = None
        if bool(wrong.any()):
            noisy = self.data.train.subset(wrong.nonzero().squeeze(1).to(self.data.train.labels.device))
            fitted = round(self.accuracy(noisy), 4)
        self._weights("last", self.metrics.rows[-1])
        found = report(self.loaded, self.data, self.algorithm, self.metrics.rows, self.best, fitted, self.place)
        ranked = self.folder is not None and ranks(self.algorithm)
        found["suspects_file"] = checkpoint.SUSPECTS if ranked else None
        if self.folder is not None and self.place.first:
            table = suspects_csv(self.data, self.algorithm, self.recipe.data.path) if ranked else None
            if table is not None:
                checkpoint.write_bytes(self.folder / checkpoint.SUSPECTS, table)
            checkpoint.write_bytes(self.folder / checkpoint.REPORT, (json.dumps(found, indent=2) + "\n").encode())
        self.place.barrier()
        return Result(found, self.metrics.rows, self.algorithm, self.data)
