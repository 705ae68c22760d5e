"""Batches: what augmentation does to an image, and that its draws are pure functions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from input import facts
from input.arrays import Images
from input.augment import Augmentation, augment
from input.batches import BatchPlan, Share
from input.datasets import DATASETS
from input.memory import Data
from system.errors import RequestError
from system.hashing import below, hash64, key

FULL, NONE = Augmentation(), Augmentation(crop=False, flip=False, cutout=0)


def images(count=40):
    """Every pixel tells where it was: red its image, green its row, blue its column (all + 1, so none is 0)."""
    image, row, column = np.indices((count, 32, 32), dtype=np.uint8)
    pixels = np.stack([image + 1, row + 1, column + 1], axis=-1)
    labels = np.arange(count) % 10
    return Images(pixels, labels, pixels[:20], labels[:20])


def data(batch_size=8, augmentation=FULL, seed=0, val_size=0, count=40, train_size=None):
    plain = replace(DATASETS["cifar10"], mean=(0.0,) * 3, std=(1 / 255,) * 3)  # normalising changes nothing
    plan = BatchPlan(augmentation, batch_size, seed, val_size=val_size, train_size=train_size)
    return Data(images(count), plain, plan)


def by_image(batches):
    """{label and image's number: the image}, from the red channel."""
    return {int(image[0].max().round()): image for x, *_ in batches for image in x}


def test_order_and_draws_do_not_depend_on_batches():
    small, large = (by_image(data(batch_size=size).train(epoch=3)) for size in (7, 16))
    assert set(small) == set(large) == set(range(1, 41))
    for number, image in small.items():
        assert torch.equal(image, large[number])
    order = torch.cat([y for _, y, *_ in data(batch_size=7).train(3)])
    assert torch.equal(order, torch.cat([y for _, y, *_ in data(batch_size=16).train(3)]))


def test_epochs_and_seeds_differ_and_repeat():
    first, again = by_image(data().train(0)), by_image(data().train(0))
    assert all(torch.equal(first[n], again[n]) for n in first)
    for other in (by_image(data().train(1)), by_image(data(seed=1).train(0))):
        assert sum(torch.equal(first[n], other[n]) for n in first) < 5
    orders = [torch.cat([y for _, y, *_ in data(seed=s).train(e)]).tolist() for s, e in ((0, 0), (0, 1), (1, 0))]
    assert orders[0] != orders[1] and orders[0] != orders[2]


def test_an_epoch_started_late_draws_the_same():
    """What a resume does: earlier epochs were never drawn in this process."""
    whole = data()
    for epoch in range(4):
        last = by_image(whole.train(epoch))
    assert all(torch.equal(last[n], image) for n, image in by_image(data().train(3)).items())


def test_a_reflected_crop_is_that_of_a_padded_image():
    """By torch's padding, and NumPy's."""
    reflected = Augmentation(cutout=0, reflect=True)
    zeros = by_image(data(augmentation=Augmentation(cutout=0)).train(3))
    for number, image in by_image(data(augmentation=reflected).train(3)).items():
        whole = torch.from_numpy(images().train[number - 1]).float().permute(2, 0, 1)
        padded = torch.nn.functional.pad(whole, [4] * 4, mode="reflect")
        assert (padded.numpy() == np.pad(whole, ((0, 0), (4, 4), (4, 4)), mode="reflect")).all()
        bits = hash64(torch.tensor(number - 1), key(0, 3, "crop and flip"))
        row, column = int(below(9, bits, 0)), int(below(9, bits, 1))
        crop = padded[:, row : row + 32, column : column + 32]
        assert torch.equal(image, crop.flip(2) if below(2, bits, 2) else crop)
        within = zeros[number] != 0
        assert torch.equal(image[within], zeros[number][within])  # where no padding is seen they are the same


def test_crop_and_flip_are_those_of_the_definition():
    crops = by_image(data(augmentation=Augmentation(cutout=0), count=200).train(0))
    seen_rows, seen_columns, flips = set(), set(), 0
    for image in crops.values():
        rows, columns = image[1], image[2]
        row, column = (rows[8:24, 8:24].round(), columns[8:24, 8:24].round())
        assert (row == row[:, :1]).all() and (column == column[:1]).all()  # rows stay rows
        assert (row.diff(dim=0) == 1).all()
        step = column.diff(dim=1)
        assert (step == 1).all() or (step == -1).all()
        flipped = bool((step == -1).all())
        flips += flipped
        seen_rows.add(int(row[0, 0]) - 9)
        seen_columns.add(int(column[0, 0]) - (24 if flipped else 9))
        assert ((rows == 0) == (columns == 0)).all()  # the margin is zero
    assert seen_rows == seen_columns == set(range(-4, 5))
    assert 70 < flips < 130


@pytest.mark.parametrize("flags", [(True, True, 7), (True, False, 0), (False, True, 16), (False, False, 64)])
def test_a_batch_is_what_each_image_is_by_itself(flags):
    """In tables and few kernels to the bit what slices make of one image after the other."""
    augmentation = Augmentation(*flags)
    feed, seen = data(augmentation=augmentation, val_size=3), 0
    expected = {number: slices(number, augmentation) for number in feed.training.numbers.tolist()}
    for share in (Share(0, 2), Share(1, 2)):
        feed.share = share
        for x, labels, *_ in feed.train(epoch=2, first=1):
            for image, label in zip(x, labels):
                assert any(torch.equal(image, expected[n]) for n in expected if n % 10 == label)
                seen += 1
    assert seen == 37 - 8


@pytest.mark.parametrize("flags", [(True, True, 7, False, True), (True, False, 0), (False, True, 16)])
def test_how_images_lie_in_memory_changes_nothing(flags):
    """Lines are copied as they lie: images whose rows lie apart are brought into order before."""
    feed, numbers, augmentation = data(), torch.arange(6), Augmentation(*flags)
    pixels = torch.from_numpy(images().train[:6])
    columns = pixels.contiguous(memory_format=torch.channels_last)  # the dimension of rows lies innermost
    assert not columns.is_contiguous()
    one, other = (augment(each, numbers, augmentation, 0, 1, feed.normalise) for each in (pixels, columns))
    assert torch.equal(one, other)


def slices(number, augmentation, seed=0, epoch=2):
    """Return one of `images`, augmented by slices."""
    image = torch.from_numpy(images().train[number]).float().permute(2, 0, 1)
    bits, centres = (hash64(torch.tensor(number), key(seed, epoch, what)) for what in ("crop and flip", "cutout"))
    if augmentation.crop:
        row, column = int(below(9, bits, 0)), int(below(9, bits, 1))
        image = torch.nn.functional.pad(image, [4] * 4)[:, row : row + 32, column : column + 32]
    if augmentation.flip and below(2, bits, 2):
        image = image.flip(2)
    top, left = (int(below(32, centres, field)) - augmentation.cutout // 2 for field in (0, 1))
    image = image.clone()
    image[:, max(0, top) : max(0, top + augmentation.cutout), max(0, left) : max(0, left + augmentation.cutout)] = 0
    return image


def test_no_flip_without_flip():
    for image in by_image(data(augmentation=Augmentation(flip=False, cutout=0)).train(0)).values():
        assert (image[2, 8:24, 8:24].diff(dim=1) == 1).all()


@pytest.mark.parametrize("length", [16, 5, 1, 32])
def test_cutout_inside_is_a_whole_square_anywhere(length):
    first = []
    augmentation = Augmentation(False, False, length, cutout_inside=True)
    for image in by_image(data(augmentation=augmentation, count=250).train(0)).values():
        cut = (image == 0).all(0)
        rows, columns = cut.any(1).nonzero().flatten().tolist(), cut.any(0).nonzero().flatten().tolist()
        assert rows == [*range(rows[0], rows[0] + length)] and columns == [*range(columns[0], columns[0] + length)]
        assert int((image == 0).sum()) == 3 * length**2
        first.append((rows[0], columns[0]))
    for places in zip(*first):
        assert (min(places), max(places)) == (0, 32 - length) and len(set(places)) >= min(33 - length, 14)


@pytest.mark.parametrize("length", [16, 5, 1])
def test_cutout_is_a_square_centred_anywhere(length):
    holes = []
    for image in by_image(data(augmentation=Augmentation(False, False, length), count=250).train(0)).values():
        rows, columns = (image.sum(0) == 0).any(1).nonzero().flatten(), (image.sum(0) == 0).any(0).nonzero().flatten()
        top, bottom, left, right = (int(edge) for edge in (rows[0], rows[-1], columns[0], columns[-1]))
        assert (image[:, top : bottom + 1, left : right + 1] == 0).all()
        assert int((image == 0).sum()) == 3 * len(rows) * len(columns)
        holes.append((len(rows), len(columns)))
        for side, low, high in ((len(rows), top, bottom), (len(columns), left, right)):
            assert side == length or low == 0 or high == 31  # cut by the edge
            assert side >= min(length, max(1, length // 2))
    assert (length, length) in holes


def test_training_images_are_normalised_and_channels_last():
    numbers = torch.arange(4)
    batch = data()
    x = augment(batch.training.images[:4], numbers, FULL, 0, 0, batch.normalise)
    assert x.shape == (4, 3, 32, 32) and x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)
    cifar = Data(images(), DATASETS["cifar10"], BatchPlan(NONE, 8, 0))
    x, _ = next(iter(cifar.batches(cifar.test)))
    expected = (
        torch.from_numpy(images().test[0]).float() / 255 - torch.tensor([0.4914, 0.4822, 0.4465])
    ) / torch.tensor([0.2023, 0.1994, 0.2010])
    torch.testing.assert_close(x[0].permute(1, 2, 0), expected)


def test_the_test_set_is_never_augmented():
    batch = data()
    seen = torch.cat([x for x, _ in batch.batches(batch.test)])
    assert torch.equal(seen.permute(0, 2, 3, 1).round().to(torch.uint8), batch.test.images)


def test_which_splits_are_evaluated_after_an_epoch():
    feed, held_out = data(), data(val_size=10)
    assert feed.evaluated(0, 5) == [("test", feed.test)]
    assert held_out.evaluated(0, 5) == [("val", held_out.validation), ("test", held_out.test)]
    held_out.test_every = 3
    assert [epoch for epoch in range(8) if held_out.evaluated(epoch, 8)] == [2, 5, 7]
    held_out.test_every = 0
    assert [held_out.evaluated(epoch, 2) for epoch in range(2)] == [[("val", held_out.validation)]] * 2


def test_held_out_images_are_apart_and_the_same_for_every_seed():
    splits = [data(val_size=10, seed=seed) for seed in (0, 1)]
    for split in splits:
        assert len(split.training) == 30 and len(split.validation) == 10
        together = torch.cat([split.training.numbers, split.validation.numbers])
        assert sorted(together.tolist()) == list(range(40))
    assert torch.equal(splits[0].validation.numbers, splits[1].validation.numbers)
    held_out = torch.cat([x for x, _ in splits[0].batches(splits[0].validation)])
    assert torch.equal(held_out.permute(0, 2, 3, 1).round().to(torch.uint8), splits[0].validation.images)
    whole, part = by_image(data().train(0)), by_image(splits[0].train(0))
    assert all(torch.equal(image, whole[n]) for n, image in part.items())  # holding out changes no draw
    with pytest.raises(RequestError, match="--val_size 40"):
        data(val_size=40)


def test_fewer_images_are_some_of_more_and_the_same_for_every_seed():
    sizes = {size: data(val_size=10, train_size=size) for size in (5, 20, 30)}
    taken = {size: part.training.numbers.tolist() for size, part in sizes.items()}
    assert (
        [len(numbers) for numbers in taken.values()] == [5, 20, 30] == [len(part.training) for part in sizes.values()]
    )
    assert {*taken[5]} < {*taken[20]} < {*taken[30]} and all(numbers == sorted(numbers) for numbers in taken.values())
    assert taken[30] == data(val_size=10).training.numbers.tolist()
    assert taken[20] == data(val_size=10, train_size=20, seed=7).training.numbers.tolist()
    assert all(torch.equal(part.validation.numbers, sizes[5].validation.numbers) for part in sizes.values())
    whole, part = by_image(data().train(0)), by_image(sizes[20].train(0))
    assert len(part) == 20 and all(torch.equal(image, whole[n]) for n, image in part.items())  # nor any draw changes
    assert sizes[20].steps(sizes[20].training) == 3
    with pytest.raises(
        RequestError,
        match="--train_size 31: there are 40 training images, of which --val_size holds out 10: at most 30",
    ):
        data(val_size=10, train_size=31)


def test_what_a_digest_tells():
    def of(change=lambda images: images, **fields):
        return facts.of_images(replace(change(images()), **fields))

    base = of()
    assert (base["data_classes"], base["data_train"], base["data_test"], base["data_names"]) == (10, 40, 20, "")
    assert of() == base and facts.differences(base, base) == []
    strided = replace(images(), train=np.ascontiguousarray(images().train.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1))
    assert facts.of_images(strided) == base  # as torchvision gives them
    pixel = images().train.copy()
    pixel[39, 31, 31, 2] ^= 1
    assert facts.differences(base, of(train=pixel)) == ["other training images by digest"]
    assert facts.differences(base, of(test=pixel[:20][::-1])) == ["other images by digest"]
    assert facts.differences(base, of(train_labels=images().train_labels[::-1].copy())) == [
        "other training images by digest"
    ]
    fewer = of(train=images().train[:30], train_labels=images().train_labels[:30])
    assert facts.differences(base, fewer) == ["40 training images then, 30 now", "other training images by digest"]
    assert facts.differences({}, base) == facts.differences(base, {}) == []
    named = [of(classes=tuple(each)) for each in ("abcdefghij", "abcdefghik")]
    assert facts.differences(*named) == ["classes a/b/c/d/e/f/g/h/i/j then, a/b/c/d/e/f/g/h/i/k now"]
    assert facts.differences(base, named[0]) == []  # nobody knew
    long = [facts.joined(f"n{number:05}" for number in range(first, 1000)) for first in (0, 1)]
    assert long[0] != long[1] and len(long[0]) < 80 and long[0].startswith("n00000/…/n00999 (SHA-256 ")
    assert facts.split(long[0]) is None and facts.split("") is None and facts.split("ash/…/oak") == ["ash", "…", "oak"]


@pytest.mark.parametrize(
    "there, val_size, train_size, told",
    [
        ((50_000, 10_000), 0, None, "50,000 training images, 10,000 test images"),
        ((50_000, 10_000), 0, 3000, "3,000 of CIFAR-10's 50,000 training images, 10,000 test images"),
        ((3_000, 1_000), 0, None, "3,000 of CIFAR-10's 50,000 training images, 1,000 of CIFAR-10's 10,000 test images"),
        ((50_000, 10_000), 500, None, "49,500 of CIFAR-10's 50,000 training images, 500 held out, 10,000 test images"),
        ((60_000, 10_000), 0, None, "60,000 training images (CIFAR-10 has 50,000), 10,000 test images"),
    ],
)
def test_how_many_of_how_many(there, val_size, train_size, told):
    config = {"data_train": there[0], "data_test": there[1], "val_size": val_size, "train_size": train_size}
    assert facts.shown(config, "CIFAR-10", (50_000, 10_000)) == told
    assert facts.shown(config | {"data_train": 300, "train_size": 200}, "", (0, 0)).startswith(
        "200 of its 300 training"
    )
