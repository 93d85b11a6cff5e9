"""Data sets by timm's names: the Hub's layout, webdataset shards, torchvision; a fixed number for every sample."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.training.data import load_data
from zoo.training.engine import train
from zoo.training.recipe import RecipeError, load
from zoo.training.timm_data import Source

CLASSES = ("cat", "dog", "eel")


def picture(label: int, i: int) -> Image.Image:
    """Grey of the label, with the number of the sample in the second channel."""
    return Image.new("RGB", (12, 10), (80 * label, i, 7))


def png(image: Image.Image) -> bytes:
    blob = io.BytesIO()
    image.save(blob, "png")
    return blob.getvalue()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder as a data set on the Hub is laid out: parquet files, images with their bytes, labels with names."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    root = tmp_path / "hub"
    (root / "data").mkdir(parents=True)
    for split, count in (("train", 24), ("test", 6)):
        labels = [i % 3 for i in range(count)]
        rows = {"image": [{"bytes": png(picture(y, i)), "path": None} for i, y in enumerate(labels)], "label": labels}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(
            root / "data" / f"{split}-00000-of-00001.parquet"
        )
    return root


def shard(path, numbers) -> None:
    with tarfile.open(path, "w") as tar:
        for i in numbers:
            for suffix, blob in (("png", png(picture(i % 3, i))), ("cls", str(i % 3).encode())):
                member = tarfile.TarInfo(f"{i:05d}.{suffix}")
                member.size = len(blob)
                tar.addfile(member, io.BytesIO(blob))


@pytest.fixture
def shards(tmp_path):
    """Two shards for training, one for the test, with the sizes in timm's ``_info.json``."""
    pytest.importorskip("webdataset")
    root = tmp_path / "shards"
    root.mkdir()
    shard(root / "x-train-0000.tar", range(13))
    shard(root / "x-train-0001.tar", range(13, 24))
    shard(root / "x-test-0000.tar", range(6))
    splits = {}
    for name, lengths in (("train", [13, 11]), ("test", [6])):
        files = [f"x-{name}-{i:04d}.tar" for i in range(len(lengths))]
        splits[name] = {"name": name, "num_samples": sum(lengths), "filenames": files, "shard_lengths": lengths}
    (root / "_info.json").write_text(json.dumps({"splits": splits}))
    return root


@pytest.fixture
def records(tmp_path):
    """A folder as TFDS keeps a data set that was prepared."""
    tfds = pytest.importorskip("tensorflow_datasets")
    tf = pytest.importorskip("tensorflow")
    root = tmp_path / "tfds"
    image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
    features = tfds.features.FeaturesDict({"image": image, "label": tfds.features.ClassLabel(names=list(CLASSES))})

    def split(count):
        rows = {"image": np.stack([np.asarray(picture(i % 3, i)) for i in range(count)]), "label": [i % 3 for i in range(count)]}  # fmt: skip
        return tf.data.Dataset.from_tensor_slices(rows)

    tfds.dataset_builders.store_as_tfds_dataset(
        name="animals", version="1.0.0", features=features, data_dir=root, disable_shuffling=True,
        split_datasets={"train": split(24), "test": split(6)},
    )  # fmt: skip
    return root


def fields(small, path, **part):
    data = {"path": path, "validation": 0.25, "test_split": "test", "size": 8, **part}
    noise = {"name": "symmetric_exclusive", "rate": 0.4}
    return small(data={k: v for k, v in data.items() if v is not None}, batch=6, noise=noise)


def check(data, names=CLASSES) -> None:
    """Each image is that of its label before noise, and each number is that of the source."""
    assert data.classes == names
    assert (len(data.train), len(data.validation), len(data.test), data.shape) == (18, 6, 6, (3, 8, 8))
    images = data.train.images[torch.arange(18)]
    assert torch.equal(images[:, 0, 0, 0].long(), 80 * data.truth)
    assert torch.equal(images[:, 1, 0, 0].long(), data.train.origin)
    assert torch.equal(data.train.origin % 3, data.truth)
    assert bool(data.wrong.any())
    assert data.test.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_hub_layout(small, hub, monkeypatch):
    recipe = fields(small, f"hfds/{hub}")
    data = load_data(load(recipe))
    check(data)
    monkeypatch.setattr("zoo.training.samples.IN_MEMORY", 10)
    lazy = load_data(load(recipe))
    assert not isinstance(lazy.train.images, torch.Tensor)
    check(lazy)
    assert lazy.fingerprint() == data.fingerprint()


def test_hub_stream(small, hub):
    check(load_data(load(fields(small, f"hfids/{hub}", download=True))))


def test_tfds_stream(small, records):
    recipe = fields(small, "tfds/animals", root=str(records))
    data = load_data(load(recipe))
    check(data)
    assert load_data(load(recipe)).fingerprint() == data.fingerprint()
    with pytest.raises(RecipeError, match=r"tfds/plants train cannot be read"):
        load_data(load(fields(small, "tfds/plants", root=str(records))))


def test_damaged_image_is_named_and_not_replaced(small, hub, monkeypatch):
    """timm's own indexing would give the next image under the label of the damaged one."""
    from timm.data.readers.reader_hfds import ReaderHfds

    real = ReaderHfds.__getitem__
    monkeypatch.setattr(
        ReaderHfds, "__getitem__", lambda self, i: (io.BytesIO(b"no image"), 2) if i == 5 else real(self, i)
    )
    with pytest.raises(RecipeError, match=r"train, sample 5: not an image"):
        load_data(load(fields(small, f"hfds/{hub}")))


def test_shards(small, shards):
    check(load_data(load(fields(small, f"wds/{shards}"))), names=("0", "1", "2"))
    named = fields(small, "wds/x", root=str(shards), split="x-train-{0000..0001}.tar|24", num_classes=3)
    check(load_data(load(named)), names=("0", "1", "2"))


def test_every_process_reads_every_shard(small, shards, monkeypatch):
    """timm deals shards out over the processes of a run; here all of them see the global batch."""
    import torch.distributed as dist

    for name, value in (("is_initialized", True), ("get_world_size", 2), ("get_rank", 1)):
        monkeypatch.setattr(dist, name, lambda *_, value=value: value)
    loaded = load(fields(small, f"wds/{shards}"))
    assert Source(loaded, "wds", str(shards), "train").samples(8).labels.tolist() == [i % 3 for i in range(24)]


@pytest.mark.parametrize("kind", ["hfds", "wds"])
def test_methods_with_index_train_and_go_on(kind, small, request, tmp_path):
    """ELR keeps state a sample; the run ends where an uninterrupted one does."""
    root = request.getfixturevalue("hub" if kind == "hfds" else "shards")
    recipe = {**fields(small, f"{kind}/{root}"), "method": "elr", "epochs": 3, "checkpoint_steps": 1}
    whole = train(recipe, tmp_path / "a", device="cpu")

    class Stop(Exception):
        pass

    def stop(step):
        if step == 4:
            raise Stop

    with pytest.raises(Stop):
        train(recipe, tmp_path / "b", device="cpu", on_step=stop)
    train(recipe, tmp_path / "b", device="cpu")
    last = [(tmp_path / run / "last.safetensors").read_bytes() for run in "ab"]
    assert last[0] == last[1]
    assert sorted(whole.algorithm.suspects().tolist()) == list(range(18))


def test_changed_data_are_noticed(small, shards, tmp_path):
    recipe = fields(small, f"wds/{shards}")
    train(recipe, tmp_path / "run", device="cpu")
    shard(shards / "x-train-0000.tar", [*range(12), 15])
    with pytest.raises(Exception, match="the data are not those that"):
        train(recipe, tmp_path / "run", device="cpu")


def test_torchvision(small, tmp_path, monkeypatch):
    import torchvision

    class Fake:
        """As CIFAR10 is: ``targets``, ``classes``, PIL images by number."""

        def __init__(self, root, train, download):
            assert (root, download) == (str(tmp_path), False)
            count = 24 if train else 6
            self.targets, self.class_to_idx = [i % 3 for i in range(count)], {n: i for i, n in enumerate(CLASSES)}

        def __len__(self):
            return len(self.targets)

        def __getitem__(self, i):
            return picture(self.targets[i], i), self.targets[i]

    monkeypatch.setitem(__import__("timm.data.dataset_factory", fromlist=["x"])._TORCH_BASIC_DS, "cifar10", Fake)
    assert torchvision is not None
    check(load_data(load(fields(small, "torch/cifar10", root=str(tmp_path), test_split=None))))
    held = load_data(load(fields(small, "torch/cifar10", root=str(tmp_path), test_split=None, test=6, per_class=6)))
    assert (len(held.train), len(held.validation), len(held.test)) == (9, 3, 6)
    assert not set(held.train.origin.tolist()) & set(held.test.origin.tolist())
    assert max(held.train.origin.tolist()) < 18


def test_grey_images_of_their_own_size(small, shards):
    data = load_data(load(fields(small, f"wds/{shards}", size=None, channels=1)))
    assert data.shape == (1, 10, 10)


def bad_shards(root, what: str) -> None:
    if what == "damaged":
        blob = bytearray((root / "x-train-0001.tar").read_bytes())
        at = blob.index(b"IHDR")
        blob[at : at + 4] = b"XXXX"
        (root / "x-train-0001.tar").write_bytes(blob)


@pytest.mark.parametrize(("part", "what", "says"), [
    ({}, "damaged", "23 samples could be read, 24 were expected"),
    ({"split": "nowhere"}, "", "split nowhere not found"),
    ({"num_classes": 2}, "", "labels up to 2, received 2"),
    ({"test_split": None}, "", "needs a test set: test_split names a split"),
    ({"test_split": None, "test": 24}, "", "24 were to be held out"),
    ({"per_class": 9}, "", "class 0 has 8 samples, 9 were asked for"),
    ({"target_key": "kind"}, "", "Target key.*json"),
])  # fmt: skip
def test_bad_shards(small, shards, part, what, says):
    bad_shards(shards, what)
    with pytest.raises(RecipeError, match=says):
        load_data(load(fields(small, f"wds/{shards}", **part)))


def test_stream_that_does_not_fit(small, shards, monkeypatch):
    monkeypatch.setattr("zoo.training.samples.IN_MEMORY", 3 * 8 * 8 * 10)
    with pytest.raises(RecipeError, match=r"a stream has no index.*more than 10 of 3 x 8 x 8.*take hfds/ or a folder"):
        load_data(load(fields(small, f"wds/{shards}")))


def test_labels_that_are_no_classes(small, hub):
    datasets = pytest.importorskip("datasets")
    rows = {"image": [{"bytes": png(picture(0, 0)), "path": None}] * 4, "label": ["a", "b", "c", "d"]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(hub / "data" / "train-00000-of-00001.parquet")
    (hub / "data" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(RecipeError, match=r"a label is a class number from 0, received 'a'"):
        load_data(load(fields(small, f"hfds/{hub}", test_split=None, test=1)))
    with pytest.raises(RecipeError, match=r"hfds/.* cannot be read: .*two of its columns: image, label"):
        load_data(load(fields(small, f"hfds/{hub}", test_split=None, test=1, input_key="picture")))


@pytest.mark.parametrize(("kind", "module", "install"), [
    ("hfds", "datasets", '"datasets>=4"'), ("hfids", "datasets", '"datasets>=4"'),
    ("wds", "webdataset", '"webdataset>=1"'), ("tfds", "tensorflow_datasets", "tensorflow tensorflow-datasets"),
])  # fmt: skip
def test_missing_package_is_named_with_its_install_line(small, monkeypatch, kind, module, install):
    real = __import__("importlib.util", fromlist=["x"]).find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == module else real(name, *rest))
    with pytest.raises(
        RecipeError, match=rf"{kind}/ is read with the package {module}, which is missing: pip install {install}"
    ):
        load_data(load(fields(small, f"{kind}/owner/name")))


def test_old_package_could_run_scripts(small, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setattr("zoo.training.timm_data.version", lambda name: "3.6.0")
    with pytest.raises(RecipeError, match=r"version 4 or later, and 3\.6\.0 is installed: pip install"):
        load_data(load(fields(small, "hfds/owner/name")))


@pytest.mark.parametrize("where", ["root", "path", "split", "index"])
def test_recipes_and_shard_lists_run_no_command(small, shards, tmp_path, where):
    """webdataset opens ``pipe:command`` by running it."""
    evil = f"pipe:touch {tmp_path / 'executed'} #"
    part = {"root": {"root": evil}, "split": {"split": f"{evil}.tar|24"}}.get(where, {})
    path = f"wds/{evil}" if where == "path" else "wds/" if where == "split" else f"wds/{shards}"
    if where == "index":
        info = json.loads((shards / "_info.json").read_text())
        info["splits"]["train"]["filenames"] = [evil, evil]
        (shards / "_info.json").write_text(json.dumps(info))
    with pytest.raises(RecipeError, match=r"is not a folder|cannot be read|could be read"):
        load_data(load(fields(small, path, **part)))
    assert not (tmp_path / "executed").exists()


def test_compare_takes_the_same_names(small, shards):
    from zoo.training.compare import compare

    changes = {"data.test_split": "test", "data.size": 8, "batch": 6, "data.validation": 0.25}
    model = {"model.name": "zoo.models.mlp:mlp", "model.args": {"hidden": [4]}}
    found = compare(["ce", "elr"], data=f"wds/{shards}", epochs=1, overrides={**changes, **model}, device="cpu")
    assert [row["method"] for row in found["rows"]] == ["ce", "elr"]
    assert "labels as they are" in found["setting"]


@pytest.mark.parametrize(("part", "says"), [
    ({"name": "timm"}, "both need a path"),
    ({"name": "timm", "path": "hdfs/owner/name"}, r"begins with hfds/.*received 'hdfs/owner/name'"),
    ({"path": "/some/folder", "test_split": "test"}, "test_split: only with name: timm"),
    ({"path": "hfds/a/b", "test_split": "test", "test": 3}, "one of them"),
    ({"name": "digits", "size": 8}, "size and per_class go with a path"),
])  # fmt: skip
def test_fields_that_do_not_go_together(small, part, says):
    with pytest.raises(RecipeError, match=says):
        load(small(data=part))


def test_lines_of_the_guide_are_valid(small):
    import yaml

    guide = Path(__file__).parents[2] / "docs" / "guide" / "noisy-labels.md"
    block = guide.read_text(encoding="utf-8").split("```yaml")[1].split("```")[0]
    lines = [yaml.safe_load(line) for line in block.strip().splitlines()]
    names = [load(small(**line)).recipe.data.name for line in lines]
    assert names == ["folder", "timm", "timm", "timm", "digits"]


def test_short_forms(small):
    for data, name in (
        ("hfds/a/b", "timm"),
        ({"path": "wds/a"}, "timm"),
        ({"path": "some/folder"}, "folder"),
        ("digits", "digits"),
    ):
        assert load(small(data=data)).recipe.data.name == name
    assert load(small(data="torch/cifar10"), ["data.root=x"]).recipe.data.root == "x"
    assert np.array(picture(1, 2)).shape == (10, 12, 3)
