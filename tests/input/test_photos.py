"""Batches of photographs: pure functions whatever the workers, shares and resumes; damage is reported and limited."""

from pathlib import Path

import numpy as np
import pytest
import torch
from photo_samples import CLASSES, encoded, photographs, pixels, write_shards
from samples import write_folder

from input import places
from input.arrays import Images
from input.augment import Augmentation
from input.batches import BatchPlan, Share
from input.datasets import DATASETS
from input.memory import Data
from input.photos import loader as photos_module
from input.photos.crops import draws
from input.photos.decoding import random_image
from input.photos.index import Photographs
from input.photos.loader import Photos
from system.errors import MachineFault, RequestError

IMAGENET, SIDE = DATASETS["imagenet"], 32
PLAIN = Augmentation(cutout=0)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    write_folder(folder / "tree", photographs())
    return folder


@pytest.fixture(scope="module")
def index(place):
    return places.find("imagenet", place, imagenet_loc=str(place / "tree")).read(1)


def make(index, augmentation=PLAIN, batch_size=5, workers=0, **keywords) -> Photos:
    plan = BatchPlan(augmentation, batch_size, keywords.pop("seed", 0), **keywords)
    return Photos(index, IMAGENET, plan, side=SIDE, workers=workers)


def all_of(batches) -> tuple[torch.Tensor, torch.Tensor]:
    xs, ys = zip(*(batch[:2] for batch in batches))
    return torch.cat(xs), torch.cat(ys)


def test_an_epoch(index):
    photos = make(index)
    batches = list(photos.train(3))
    assert photos.steps(photos.training) == len(batches) == 3 and len(photos.training) == 12
    assert [(batch.images, batch.of, len(batch.y)) for batch in batches] == [(5, 5, 5), (5, 5, 5), (2, 2, 2)]
    x, y = all_of(batches)
    assert x.dtype == torch.float32 and batches[0].x.is_contiguous(memory_format=torch.channels_last)
    order = index.train.order(0, 3)
    assert y.tolist() == index.train.labels[order].tolist()
    number = int(order[7])
    image = random_image(index.train.read(number), draws(order[7:8], 0, 3)[0], SIDE).float() / 255
    truth = (image - torch.tensor(IMAGENET.mean)) / torch.tensor(IMAGENET.std)
    torch.testing.assert_close(x[7], truth.permute(2, 0, 1))
    assert not torch.equal(all_of(photos.train(4))[0], x)
    assert not torch.equal(all_of(make(index, seed=1).train(3))[0], x)


def test_nothing_depends_on_workers_batches_or_resumes(index):
    x, y = all_of(make(index, Augmentation(cutout=9)).train(3))
    assert (x == 0).any()
    for batch_size, workers in ((12, 0), (5, 2), (1, 1)):
        photos = make(index, Augmentation(cutout=9), batch_size, workers=workers)
        again = all_of(photos.train(3))
        assert torch.equal(again[0], x) and torch.equal(again[1], y)
        for first in {0, photos.steps(photos.training) // 2, photos.steps(photos.training) - 1}:
            rest = all_of(photos.train(3, first))
            assert torch.equal(rest[0], x[first * batch_size :]) and torch.equal(rest[1], y[first * batch_size :])


def test_runs_may_take_turns(index):
    photos = make(index, workers=2)
    alone, tested = all_of(photos.train(0))[0], all_of(photos.batches(photos.test))[0]
    first, batches = photos.train(0), []
    batches.append(next(first))
    second = photos.batches(photos.test)
    other = [next(second)]
    batches += first
    other += second
    assert torch.equal(all_of(batches)[0], alone) and torch.equal(all_of(other)[0], tested)
    next(photos.train(1))  # left behind
    assert torch.equal(all_of(photos.train(0))[0], alone)


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_shares_make_up_the_batches(index, processes):
    whole = list(make(index).train(2))
    of_each = [list(make(index, share=Share(rank, processes)).train(2)) for rank in range(processes)]
    for step, batch in enumerate(whole):
        parts = [mine[step] for mine in of_each]
        assert sum(part.images for part in parts) == batch.images and {part.of for part in parts} == {batch.of}
        for rank, part in enumerate(parts):
            if part.images:
                assert torch.equal(part.x, batch.x[rank::processes]) and torch.equal(part.y, batch.y[rank::processes])
            else:
                assert len(part.x) == len(part.y) == 1
    tested = [
        list(photos.batches(photos.test))
        for photos in (make(index, share=Share(r, processes)) for r in range(processes))
    ]
    x, y = all_of(make(index).batches(make(index).test))
    assert sum(len(labels) for mine in tested for _, labels in mine) == 12
    assert {part[0].shape[1:] for mine in tested for part in mine} == {(3, SIDE, SIDE)}
    assert (
        torch.equal(tested[0][0][0], x[:5][0::processes]) and tested[1][0][1].tolist() == y[:5][1::processes].tolist()
    )


def test_augmentation_can_be_off(index):
    photos = make(index, Augmentation(crop=False, flip=False, cutout=0), batch_size=12)
    (batch,) = photos.train(0)
    ((x, _),) = photos.batches(photos_module.Split("training", "train", index.train.order(0, 0).numpy()))
    assert torch.equal(batch.x, x)


def test_what_is_held_out(index):
    photos = make(index, val_size=4)
    pictures = np.zeros((12, 32, 32, 3), np.uint8)
    images = Images(pictures, index.train.labels, pictures, index.val.labels)
    arrays = Data(images, IMAGENET, BatchPlan(PLAIN, 5, 0, val_size=4))
    assert photos.validation.numbers.tolist() == arrays.validation.numbers.tolist()
    assert photos.training.numbers.tolist() == arrays.training.numbers.tolist()
    _, y = all_of(photos.train(0))
    assert sorted(y.tolist()) == sorted(index.train.labels[photos.training.numbers].tolist())
    _, held_out = all_of(photos.batches(photos.validation))
    assert held_out.tolist() == index.train.labels[photos.validation.numbers].tolist()
    assert len(photos.test.head(3)) == 3 and len(photos.test.head(99)) == 12
    with pytest.raises(RequestError, match="--val_size 12: there are 12 training images"):
        make(index, val_size=12)


def test_fewer_images_to_train_on(index):
    """The same as of arrays, in the index's own order; what is left out is never read."""
    photos, whole = make(index, val_size=2, train_size=7), make(index)
    pictures = np.zeros((12, 32, 32, 3), np.uint8)
    images = Images(pictures, index.train.labels, pictures, index.val.labels)
    arrays = Data(images, IMAGENET, BatchPlan(PLAIN, 5, 0, val_size=2, train_size=7))
    assert photos.training.numbers.tolist() == arrays.training.numbers.tolist() and photos.steps(photos.training) == 2
    order = [int(number) for number in index.train.order(0, 3) if number in photos.training.numbers]
    assert [int(y) for y in all_of(photos.train(3))[1]] == index.train.labels[order].tolist() and len(
        whole.training
    ) == 12
    with pytest.raises(
        RequestError, match="--train_size 11: there are 12 training images, of which --val_size holds out 2"
    ):
        make(index, val_size=2, train_size=11)


def test_shards_are_a_tree_pixel_for_pixel(index, place):
    sharded = places.find("imagenet", place, imagenet_loc=write_shards(place / "shards", photographs())).read(1)
    ours, theirs = make(sharded), make(index)
    for a, b in zip(ours.batches(ours.test), theirs.batches(theirs.test), strict=True):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
    assert torch.equal(all_of(ours.train(1))[0], all_of(theirs.train(1))[0])  # so few shards are one window


def damage(folder: Path, split: str, count: int) -> list[Path]:
    """The first images of every class, in turn: cut off, empty, gone, and what is no image."""
    files = [folder / split / label / f"{label}_{number}.JPEG" for number in range(6) for label in CLASSES][:count]
    for number, file in enumerate(files):
        ways = (
            lambda f: f.write_bytes(f.read_bytes()[:-9]),
            lambda f: f.write_bytes(b""),
            Path.unlink,
            lambda f: f.write_text("x"),
        )
        ways[number % 4](file)
    return files


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_images_are_left_out_and_told_once(tmp_path, capsys, workers):
    write_folder(tmp_path / "imagenet", photographs())
    index = places.find("imagenet", tmp_path).read(1)
    whole = make(index).train(0)
    sound = {
        int(n): x for batch, numbers in zip(whole, index.train.order(0, 0).split(5)) for n, x in zip(numbers, batch.x)
    }
    bad = damage(tmp_path / "imagenet", "train", 4) + damage(tmp_path / "imagenet", "val", 2)
    photos = make(index, workers=workers)
    for epoch in (0, 0, 1):
        batches = list(photos.train(epoch))
        assert [batch.of for batch in batches] == [5, 5, 2] and sum(batch.images for batch in batches) == 8
        assert sum(len(y) for _, y in photos.batches(photos.test)) == 10
        if epoch == 0:
            left = [n for n in index.train.order(0, 0).tolist() if index.train.name(n) not in photos.damaged]
            x = torch.cat([batch.x[: batch.images] for batch in batches])
            assert all(torch.equal(a, sound[n]) for a, n in zip(x, left, strict=True))
    told = capsys.readouterr().err.splitlines()
    assert sorted(photos.damaged) == sorted(map(str, bad))
    assert sorted(line.split(": ")[2] for line in told if "damaged image left out" in line) == sorted(map(str, bad))
    assert any(line.endswith("No such file or directory") for line in told)


def test_a_batch_of_which_nothing_is_left(tmp_path):
    write_folder(tmp_path / "imagenet", photographs(1))
    damage(tmp_path / "imagenet", "train", 2)
    photos = make(places.find("imagenet", tmp_path).read(1), batch_size=1)
    batches = list(photos.train(0))
    assert [len(batch.x) for batch in batches] == [1] * 3 and sum(batch.images for batch in batches) == 1


def test_too_many_damaged_images_are_a_fault(tmp_path):
    write_folder(tmp_path / "imagenet", photographs(6))
    photos = make(places.find("imagenet", tmp_path).read(1))
    damage(tmp_path / "imagenet", "train", 11)
    with pytest.raises(MachineFault, match="11 training images are damaged, more than 10, the last one is .*JPEG: "):
        list(photos.train(0))


def test_a_small_part_of_a_large_split_may_be_damaged(monkeypatch):
    class Many:
        labels = np.zeros(3000, np.int64)

        def __len__(self) -> int:
            return len(self.labels)

        def read(self, number: int) -> bytes:
            return b"" if number % 60 == 0 else picture

        def name(self, number: int) -> str:
            return str(number)

        def order(self, seed: int, epoch: int) -> torch.Tensor:
            return torch.arange(3000)

    assert photos_module.SMALL_PART == 0.001
    monkeypatch.setattr(photos_module, "SMALL_PART", 0.01)
    picture = encoded(pixels(0, (8, 8)))
    photos = make(Photographs(Many(), Many()), share=Share(0, 2), batch_size=200)
    photos.pool.loader.dataset.side = photos.side = 2
    batches = photos.train(0)
    with pytest.raises(
        MachineFault, match="31 training images are damaged, more than 30"
    ):  # of 3000, whoever sees them
        list(batches)
