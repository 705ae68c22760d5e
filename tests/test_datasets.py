"""Where datasets lie and how they are read: every layout, from small files that are made here, and what goes wrong."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import datasets
from datasets import DATASETS, find
from errors import MachineFault, RequestError

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


def write_tar(path: Path, files: dict[str, bytes], mode="w:xz") -> None:
    with tarfile.open(path, mode) as tar:
        for name, contents in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            tar.addfile(member, io.BytesIO(contents))


def check(images: datasets.Images) -> None:
    assert images.train.shape == images.test.shape == (20, 32, 32, 3) and images.train.dtype == np.uint8
    assert images.train_labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert images.train[:, 0, 0, 0].tolist() == [10 * label + number for label in range(10) for number in range(2)]
    assert images.test[:, 5, 5, 1].tolist() == [
        2 * (10 * label + number + 5) for label in range(10) for number in range(2)
    ]


def test_folder(tmp_path):
    write_folder(tmp_path / "cifar10", tree())
    source = find("cifar10", tmp_path)
    assert source.where == str(tmp_path / "cifar10")
    check(source.read(2))


@pytest.mark.parametrize(
    "suffix, mode, prefix", [(".tar", "w", ""), (".tar.xz", "w:xz", "./"), (".tar.gz", "w:gz", "cifar10/")]
)
def test_tar_is_decoded_once(tmp_path, suffix, mode, prefix, capsys):
    write_tar(tmp_path / f"cifar10{suffix}", {prefix + name: data for name, data in reversed(tree().items())}, mode)
    check(find("cifar10", tmp_path).read(2))
    assert "decoding" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"cifar10{suffix}", f"cifar10{suffix}.decoded.npz"]
    check(find("cifar10", tmp_path).read(2))
    assert capsys.readouterr().err == ""


def test_a_changed_tar_and_a_damaged_cache_are_decoded_again(tmp_path, capsys):
    tar, cache = tmp_path / "cifar10.tar", tmp_path / "cifar10.tar.decoded.npz"
    write_tar(tar, tree(), "w")
    find("cifar10", tmp_path).read(2)
    os.utime(tar, (1, 1))
    check(find("cifar10", tmp_path).read(2))
    contents = bytearray(cache.read_bytes())
    for damage in (contents[: len(contents) // 2], b"", bytes(contents[:3000]) + b"\xff" + bytes(contents[3001:])):
        cache.write_bytes(damage)
        capsys.readouterr()
        check(find("cifar10", tmp_path).read(2))
        told = capsys.readouterr().err
        assert "is damaged and is made anew" in told and "decoding" in told
    assert zipfile.is_zipfile(cache)


def test_the_cache_of_a_read_only_folder_lies_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "data"
    place.mkdir()
    write_tar(place / "cifar10.tar", tree(), "w")
    place.chmod(0o555)
    try:
        check(find("cifar10", place).read(2))
        assert [path.name for path in place.iterdir()] == ["cifar10.tar"]
        assert len(list((tmp_path / "cache" / "swapconv").iterdir())) == 1
    finally:
        place.chmod(0o755)


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path, monkeypatch, capsys):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(datasets.np, "savez", full)
    write_tar(tmp_path / "cifar10.tar", tree(), "w")
    check(find("cifar10", tmp_path).read(2))
    assert "No space left" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["cifar10.tar"]


def test_the_layouts_are_tried_in_order(tmp_path, monkeypatch):
    write_tar(tmp_path / "cifar10.tar", tree(), "w")
    assert find("cifar10", tmp_path).where.endswith("cifar10.tar")
    write_folder(tmp_path / "cifar10", tree())
    assert find("cifar10", tmp_path).where.endswith("cifar10")
    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    assert find("cifar10", tmp_path).where.endswith("cifar-10-batches-py")
    with pytest.raises(MachineFault, match="torchvision cannot read"):
        find("cifar10", tmp_path).read(1)  # an empty folder is a damaged archive, not a reason to take another


def test_torchvision_layout(tmp_path, monkeypatch):
    import torchvision

    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    pixels = np.arange(100 * 3072, dtype=np.uint32).astype(np.uint8).reshape(100, 3072)
    for split in ("train", "test"):
        contents = {"data": pixels, "fine_labels": list(range(100))}
        (folder / split).write_bytes(pickle.dumps(contents))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(n) for n in range(100)]}))
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *arguments: True)  # these files are ours
    images = find("cifar100", tmp_path).read(1)
    assert images.train.shape == (100, 32, 32, 3) and images.train_labels.tolist() == list(range(100))
    np.testing.assert_array_equal(images.train[7, 1, 2], pixels[7].reshape(3, 32, 32)[:, 1, 2])


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


@pytest.mark.parametrize(
    "place, compressed", [("FashionMNIST/raw", False), ("FashionMNIST/raw", True), ("fashionmnist", True)]
)
def test_fashionmnist(tmp_path, place, compressed):
    pixels = write_fashion(tmp_path / place, compressed)
    images = find("fashionmnist", tmp_path).read(1)
    assert images.train.shape == (30, 32, 32, 3) and images.test.shape == (10, 32, 32, 3)
    np.testing.assert_array_equal(images.train[:, 2:30, 2:30, 1], pixels)
    assert images.train[:, :2].sum() == images.train[:, :, 30:].sum() == 0
    assert images.test_labels.tolist() == list(range(10))


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: d + b"x", lambda d: b"\1" + d[1:], lambda d: d[:6], lambda d: b""]
)
def test_damaged_fashionmnist(tmp_path, damage):
    write_fashion(tmp_path / "fashionmnist", True, damage)
    with pytest.raises(MachineFault, match="t10k-images-idx3-ubyte.gz"):
        find("fashionmnist", tmp_path).read(1)


def test_digits():
    images = find("digits", Path("nowhere")).read(1)
    assert images.train.shape == (1500, 32, 32, 3) and images.test.shape == (297, 32, 32, 3)
    assert images.train.max() == 255 and (images.train[..., 0] == images.train[..., 2]).all()
    assert np.bincount(images.train_labels).min() > 140


@pytest.mark.parametrize(
    "name, told",
    [
        ("cifar10", "cifar-10-batches-py, .*cifar10/train/<class>/, .*cifar10.tar.*; --download fetches it"),
        ("cifar100", "cifar-100-python"),
        ("fashionmnist", "FashionMNIST/raw.*apt-get install dataset-fashion-mnist"),
    ],
)
def test_a_missing_dataset_says_where_and_how(tmp_path, name, told, monkeypatch):
    monkeypatch.setattr(datasets.Path, "is_file", lambda self: False)  # the Debian package may be installed here
    with pytest.raises(RequestError, match=told) as error:
        find(name, tmp_path)
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []


def test_download_goes_through_torchvision(tmp_path, monkeypatch):
    import torchvision

    def no_network(self):
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", no_network)
    with pytest.raises(MachineFault, match="cannot download it: no network"):
        find("cifar10", tmp_path, download=True).read(1)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"train/class3/0000.png": picture(1)[:-30]}, "train/class3/0000.png cannot be used"),
        ({"test/class9/0001.png": b"no image"}, "test/class9/0001.png cannot be used"),
        ({"train/class0/0001.png": picture(1, size=(48, 32))}, "it is 48×32, not 32×32"),
        ({"train/class_new/0000.png": picture(1)}, "train/ holds 11 classes with images, not 10"),
        ({"train/class9/0000.png": None, "train/class9/0001.png": None}, "train/ holds 9 classes with images, not 10"),
        ({"test/class9/0000.png": None, "test/class9/0001.png": None, "test/classX/0.png": picture(1)}, "'class9' is only in one"),
    ],
)  # fmt: skip
def test_damaged_images(tmp_path, change, told):
    files = {name: data for name, data in (tree() | change).items() if data is not None}
    write_folder(tmp_path / "a" / "cifar10", files)
    (tmp_path / "b").mkdir()
    write_tar(tmp_path / "b" / "cifar10.tar.xz", files)
    for place in "ab":
        with pytest.raises(MachineFault, match=told):
            find("cifar10", tmp_path / place).read(2)
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["cifar10.tar.xz"]  # no cache of a damaged tar


def test_modes_are_converted(tmp_path):
    files = tree() | {
        f"train/class{n}/0000.png": picture(10 * n, mode, format=kind)
        for n, (mode, kind) in enumerate((("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("1", "PNG")))
    }
    write_folder(tmp_path / "cifar10", files)
    assert find("cifar10", tmp_path).read(2).train.shape == (20, 32, 32, 3)


def test_a_truncated_tar(tmp_path):
    write_tar(tmp_path / "cifar10.tar.xz", tree())
    whole = (tmp_path / "cifar10.tar.xz").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a tar at all" * 100):
        (tmp_path / "cifar10.tar.xz").write_bytes(damaged)
        with pytest.raises(MachineFault, match="cifar10.tar.xz"):
            find("cifar10", tmp_path).read(1)


@pytest.mark.skipif(not os.environ.get("DATA_DIR"), reason="needs the real CIFAR-10 in $DATA_DIR, as .ci/run sets it")
def test_the_real_cifar10():
    images = find("cifar10", Path(os.environ["DATA_DIR"])).read(2)
    assert (
        np.bincount(images.train_labels).tolist() == [5000] * 10
        and np.bincount(images.test_labels).tolist() == [1000] * 10
    )
    mean = images.train.mean((0, 1, 2)) / 255
    np.testing.assert_allclose(mean, DATASETS["cifar10"].mean, atol=0.003)
