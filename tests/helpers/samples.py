"""Small datasets in every layout, made for tests: 20 images each, whose colours tell them apart."""

import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from input.arrays import Images

CLASSES = [f"class{number}" for number in range(10)]


def picture(value: int, mode: str = "RGB", size=(32, 32), format: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (value, 2 * value, 0)).convert(mode).save(stream, format)
    return stream.getvalue()


def tree(per_class=2) -> dict[str, bytes]:
    return {
        f"{split}/{label}/{number:04}.png": picture(10 * index + number + 5 * (split == "test"))
        for split in ("train", "test")
        for index, label in enumerate(CLASSES)
        for number in range(per_class)
    }


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    for name, contents in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents)


def tarred(files: dict[str, bytes], mode="w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        for name, contents in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            tar.addfile(member, io.BytesIO(contents))
    return stream.getvalue()


def write_tar(path: Path, files: dict[str, bytes], mode="w:xz") -> None:
    path.write_bytes(tarred(files, mode))


def check(images: Images) -> None:
    assert images.train.shape == images.test.shape == (20, 32, 32, 3) and images.train.dtype == np.uint8
    assert images.train_labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert images.train[:, 0, 0, 0].tolist() == [10 * label + number for label in range(10) for number in range(2)]
    assert images.test[:, 5, 5, 1].tolist() == [
        2 * (10 * label + number + 5) for label in range(10) for number in range(2)
    ]


def write_fashion(folder: Path, compressed: bool, damage=None) -> np.ndarray:
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    for split, count in (("train", 30), ("t10k", 10)):
        for kind, array in (("images-idx3", pixels[:count]), ("labels-idx1", np.arange(count, dtype=np.uint8) % 10)):
            contents = (
                struct.pack(">BBBB", 0, 0, 8, array.ndim)
                + struct.pack(f">{array.ndim}I", *array.shape)
                + array.tobytes()
            )
            contents = damage(contents) if damage and (split, kind) == ("t10k", "images-idx3") else contents
            path = folder / f"{split}-{kind}-ubyte"
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(contents)) if compressed else path.write_bytes(
                contents
            )
    return pixels


def write_own(folder: Path, names=("ash", "elm", "oak"), side=12, count=6, test="test", seed=0) -> Path:
    """A dataset of one's own: noise of another colour for each class, `count` images to train on and 2 to test."""
    random = np.random.default_rng(seed)
    for split, images in (("train", count), (test, 2)):
        for index, name in enumerate(names):
            (folder / split / name).mkdir(parents=True)
            for number in range(images):
                pixels = random.integers(0, 90, (side, side, 3), dtype=np.uint8)
                pixels[..., index % 3] += 120
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder
