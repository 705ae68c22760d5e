"""Where datasets lie: every layout, their order, and the message for a missing one."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from references import datasets_of_sklearn
from samples import check, tree, write_fashion, write_folder, write_tar

from input import places
from input.datasets import DATASETS
from input.places import find
from system.errors import MachineFault, RequestError


def test_folder(tmp_path):
    write_folder(tmp_path / "cifar10", tree())
    source = find("cifar10", tmp_path)
    assert source.where == str(tmp_path / "cifar10")
    check(source.read(2))


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


def test_digits():
    images = find("digits", Path("nowhere")).read(1)
    assert images.train.shape == (1500, 32, 32, 3) and images.test.shape == (297, 32, 32, 3)
    assert images.train.max() == 255 and (images.train[..., 0] == images.train[..., 2]).all()
    assert np.bincount(images.train_labels).min() > 140
    theirs = datasets_of_sklearn.load_digits()
    assert theirs.target.tolist() == [*images.train_labels, *images.test_labels]
    corners = np.round(theirs.images[:, ::7, ::7] * (255 / 16))  # enlarging keeps the corners
    assert (np.concatenate([images.train, images.test])[:, ::31, ::31, 1] == corners).all()


@pytest.mark.parametrize(
    "name, told",
    [
        ("cifar10", "cifar-10-batches-py, .*cifar10/train/<class>/, .*cifar10.tar.*; --download fetches it"),
        ("cifar100", "cifar-100-python"),
        ("fashionmnist", "FashionMNIST/raw.*apt-get install dataset-fashion-mnist"),
    ],
)
def test_a_missing_dataset_says_where_and_how(tmp_path, name, told, monkeypatch):
    monkeypatch.setattr(places.Path, "is_file", lambda self: False)  # the Debian package may be installed here
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


@pytest.mark.skipif(not os.environ.get("DATA_DIR"), reason="needs the real CIFAR-10 in $DATA_DIR, as .ci/run sets it")
def test_the_real_cifar10():
    images = find("cifar10", Path(os.environ["DATA_DIR"])).read(2)
    assert (
        np.bincount(images.train_labels).tolist() == [5000] * 10
        and np.bincount(images.test_labels).tolist() == [1000] * 10
    )
    mean = images.train.mean((0, 1, 2)) / 255
    np.testing.assert_allclose(mean, DATASETS["cifar10"].mean, atol=0.003)
