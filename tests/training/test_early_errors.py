"""What would fail late is refused before the first step: shares of a batch, labels, clean sets."""

from __future__ import annotations

import pytest
import torch

from zoo.training import data
from zoo.training.distributed import World
from zoo.training.engine import Engine
from zoo.training.recipe import RecipeError, load


def test_batch_that_processes_cannot_share(small):
    with pytest.raises(RecipeError, match="256 does not divide into 3 processes; take 255 or 258"):
        Engine(load(small()), None, World(0, 3, torch.device("cpu")))


@pytest.mark.parametrize("label", [10, -1])
def test_labels_out_of_range(small, monkeypatch, label):
    read = data._read

    def wrong(loaded, seed):
        pool, test, classes = read(loaded, seed)
        labels = pool.labels.clone()  # the data set is shared with other tests
        labels[3] = label
        return data.Samples(pool.images, labels), test, classes

    monkeypatch.setattr(data, "_read", wrong)
    with pytest.raises(RecipeError, match=rf"labels lie in \[{min(label, 0)}, {max(label, 9)}\], there are 10 classes"):
        data.load_data(load(small()))


@pytest.mark.parametrize("method", ["learning_to_reweight", "meta_weight_net"])
def test_missing_clean_set(small, method):
    with pytest.raises(RecipeError, match=f"{method} needs a clean set: data.clean_per_class"):
        load(small(method=method))


@pytest.mark.parametrize("method", ["learning_to_reweight", "meta_weight_net", "mlnt"])
def test_look_ahead_over_shards(small, method):
    data = {"name": "digits", "test": 300, "clean_per_class": 5}
    load(small(method=method, data=data))
    with pytest.raises(RecipeError, match=rf"{method} evaluates .* needs whole parameters, .*take parallel: ddp"):
        load(small(method=method, data=data, parallel="fsdp2"))
