"""From encoded photographs to pixels: draws, crops, modes, damage; against Pillow and torchvision."""

import math
import os
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from photo_samples import encoded, pixels
from PIL import Image
from references import transforms

from input.photos import decoding
from input.photos.crops import Draw, central_box, crop_box, draws, resized_size
from input.photos.decoding import Damaged, central_image, decode, ordinary_jpeg, random_image
from system.hashing import key

MASK = (1 << 64) - 1
ROUNDING = 2  # how far torch's filter on bytes may be from Pillow's


def everything(width, height):
    return 0, 0, width, height


def slow_hash(position: int, key: int) -> int:
    """SplitMix64, one number at a time."""
    x = (position * 0x9E3779B97F4A7C15 + key) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def slow_box(width: int, height: int, number: int, seed: int, epoch: int):
    """The definition again, on unbounded integers."""
    place = slow_hash(number, key(seed, epoch, "crop place and flip"))
    field = [(place >> (21 * index)) % (1 << 21) for index in range(3)]
    for attempt in range(10):
        bits = slow_hash(10 * number + attempt, key(seed, epoch, "crop shape"))
        area = (0.08 + 0.92 * (bits % (1 << 21)) / 2**21) * width * height
        ratio = (3 / 4) * (16 / 9) ** (((bits >> 21) % (1 << 21)) / 2**21)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if w <= width and h <= height:
            left, top = field[0] * (width - w + 1) >> 21, field[1] * (height - h + 1) >> 21
            return (left, top, left + w, top + h), field[2] >> 20
    return None, field[2] >> 20


def test_draws_are_those_of_the_definition():
    numbers = torch.arange(300) * 4271
    for number, draw in zip(numbers.tolist(), draws(numbers, 5, 77)):
        width, height = 100 + number % 401, 80 + number % 333
        box, flip = slow_box(width, height, number, 5, 77)
        assert draw.flips == flip and (box is None or crop_box(width, height, draw) == box)
    assert draws(numbers[7:8], 5, 77) == draws(numbers, 5, 77)[7:8]
    assert draws(numbers, 5, 78) != draws(numbers, 5, 77) != draws(numbers, 6, 77)


def test_crops_are_distributed_like_torchvisions():
    image, count = torch.empty(3, 375, 500), 4000
    drawn = draws(torch.arange(count), 0, 0)
    ours = np.array([crop_box(500, 375, draw) for draw in drawn])
    theirs = [transforms.RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(count)]
    theirs = np.array([(left, top, left + width, top + height) for top, left, height, width in theirs])
    for a, b in zip(measures(ours), measures(theirs)):
        assert abs(a.mean() - b.mean()) < 5 * math.hypot(a.std(), b.std()) / math.sqrt(count)
        assert abs(a.std() / b.std() - 1) < 0.1
    assert 0.46 < np.mean([draw.flips for draw in drawn]) < 0.54


def measures(boxes: np.ndarray) -> list[np.ndarray]:
    """Area, log ratio, place across and down."""
    left, top, right, bottom = boxes.T
    width, height = right - left, bottom - top
    return [width * height, np.log(width / height), left + width / 2, top + height / 2]


@pytest.mark.parametrize("size", [(1000, 10), (10, 1000), (1, 1), (500, 3)])
def test_where_nothing_fits_the_centre_is_taken(size):
    never = Draw([((1 << 21) - 1, 1 << 20)] * 10, 123456789)  # nearly the whole area, as a square
    top, left, height, width = transforms.RandomResizedCrop.get_params(
        torch.empty(3, *size[::-1]), (0.9999, 1.0), (3 / 4, 4 / 3)
    )
    assert crop_box(*size, never) == (left, top, left + width, top + height)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (64, 64), (230, 1000), (97, 31)])
@pytest.mark.parametrize("side", [224, 64])
def test_testing_is_torchvisions_resize_and_centre(size, side):
    image = pixels(0, size)
    theirs = transforms.CenterCrop(side)(transforms.Resize(round(side * 256 / 224))(image))
    ours = central_image(encoded(image, "PNG"), side)
    assert ours.shape == (side, side, 3) and ours.dtype == torch.uint8
    difference = np.abs(ours.numpy().astype(int) - np.asarray(theirs))
    assert difference.max() <= ROUNDING and difference.mean() < 0.3
    assert resized_size(*size, side) == transforms.Resize(round(side * 256 / 224))(image).size
    assert central_box(256, 341, 224) == (16, 58, 240, 282)


JPEGS = [
    dict(subsampling=0),
    dict(subsampling=1),
    dict(subsampling=2),
    dict(subsampling=2, progressive=True),
    dict(subsampling=0, progressive=True, restart_marker_blocks=3),
    dict(subsampling=2, restart_marker_rows=1),
    dict(keep_rgb=True),
]


@pytest.mark.parametrize("how", JPEGS, ids=str)
def test_the_rows_of_a_crop_are_those_of_the_whole(how):
    image = pixels(1, (130, 150))
    for mode in ("RGB", "L"):
        data = encoded(image.convert(mode), quality=85, **how) + b"\0 garbage"
        truth = np.asarray(Image.open(BytesIO(data)).convert("RGB"))
        assert ordinary_jpeg(data)[:2] == (130, 150)
        for bottom in (1, 15, 16, 17, 63, 90, 133, 149, 150):
            box = (3, bottom - 1 - bottom // 2, 120, bottom)
            assert (decode(data, lambda *size, box=box: box) == truth[box[1] : box[3], box[0] : box[2]]).all()


def test_only_the_rows_that_are_needed_are_decoded(monkeypatch):
    data, seen = encoded(pixels(2, (64, 400))), []
    top_rows = decoding._top_rows
    monkeypatch.setattr(decoding, "_top_rows", lambda *all: seen.append(top_rows(*all)) or seen[-1])
    decode(data, lambda width, height: (0, 10, 64, 100))
    assert seen[0].shape == (128, 64, 3)


def test_training_images_are_pillows_crop_and_resize():
    for number, draw in enumerate(draws(torch.arange(20), 0, 0)):
        image = pixels(number, (200 + 3 * number, 180))
        data = encoded(image, quality=90)
        truth = Image.open(BytesIO(data)).crop(crop_box(*image.size, draw)).resize((64, 64), Image.Resampling.BILINEAR)
        truth = np.asarray(truth)[:, ::-1] if draw.flips else np.asarray(truth)
        difference = np.abs(random_image(data, draw, 64).numpy().astype(int) - truth)
        assert difference.max() <= ROUNDING and difference.mean() < 0.3


def cmyk() -> bytes:
    return encoded(pixels(3).convert("CMYK"))


@pytest.mark.parametrize(
    "data",
    [
        encoded(pixels(3).convert("L")), encoded(pixels(3).convert("P"), "PNG"), encoded(pixels(3).convert("1"), "PNG"),
        encoded(pixels(3).convert("RGBA"), "PNG"), encoded(pixels(3).convert("LA"), "PNG"), cmyk(),
        encoded(pixels(3).convert("P"), "PNG", transparency=0), encoded(pixels(3), "WEBP", lossless=True),
        encoded(pixels(3), "BMP"), encoded(pixels(3).convert("P"), "GIF"),
    ],
)  # fmt: skip
def test_every_mode_becomes_what_the_reference_loader_makes_of_it(data):
    truth = np.asarray(Image.open(BytesIO(data)).convert("RGB"))
    assert (decode(data, everything) == truth).all()


def test_sixteen_bits_keep_their_range():
    ramp = (np.arange(60 * 44, dtype=np.uint16) * 24).reshape(44, 60)
    decoded = decode(encoded(Image.fromarray(ramp), "PNG"), everything)
    assert (decoded == (ramp >> 8)[..., None]).all()


def test_orientation_is_not_followed():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(pixels(4), exif=exif), everything).shape == (44, 60, 3)


def bomb() -> bytes:
    data = bytearray(encoded(pixels(5)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    return bytes(data)


@pytest.mark.parametrize(
    "data, why",
    [
        (b"", "it is no image"),
        (b"GIF89a", "it is no image"),
        (b"not an image at all" * 100, "it is no image"),
        (b"\xff\xd8\xff", "."),
        *[(encoded(pixels(6), progressive=progressive)[:size], ".") for progressive in (False, True) for size in (30, 300, 640, 900, -2)],
        (encoded(pixels(6), "PNG")[:-400], "."),
        (bomb(), "decompression bomb"),
    ],
)  # fmt: skip
def test_damage_is_one_exception(data, why):
    for attempt in (lambda: central_image(data, 32), lambda: random_image(data, draws(torch.arange(1), 0, 0)[0], 32)):
        with pytest.raises(Damaged, match=why) as error:
            attempt()
        assert "\n" not in str(error.value) and " at 0x" not in str(error.value)


PHOTOGRAPHS = Path(os.environ.get("DATA_DIR", "nowhere")) / "imagenet-sample.tar"


@pytest.mark.skipif(not PHOTOGRAPHS.is_file(), reason="needs the real photographs in $DATA_DIR, as .ci/run sets it")
def test_real_photographs():
    with tarfile.open(PHOTOGRAPHS) as tar:
        photos = [tar.extractfile(member).read() for member in tar if member.isfile()]
    apart = []
    for data, draw in zip(photos, draws(torch.arange(len(photos)), 0, 0)):
        image = Image.open(BytesIO(data)).convert("RGB")
        box = crop_box(*image.size, draw)
        truth = np.asarray(image.crop(box).resize((224, 224), Image.Resampling.BILINEAR))
        assert ordinary_jpeg(data) is not None
        ours = random_image(data, draw, 224, flip=False).numpy()
        apart.append(np.abs(ours.astype(int) - truth))
    assert np.max(apart) <= ROUNDING and np.mean(apart) < 0.04


def test_what_pillow_alone_reads_and_what_it_would_only_guess():
    for format, suffix in (("TIFF", "tif"), ("PPM", "ppm"), ("GIF", "gif"), ("BMP", "bmp")):
        assert central_image(encoded(pixels(3), format), 32).shape == (32, 32, 3), suffix
    stream = BytesIO()
    Image.fromarray(np.full((40, 40), 0.5, np.float32)).save(stream, "TIFF")
    with pytest.raises(Damaged, match="floating-point"):
        central_image(stream.getvalue(), 32)
    with pytest.raises(Damaged, match="^cannot identify image file: it is no image, or none of PNG"):
        central_image(b"\0" * 500, 32)
