"""The index of a folder of images: its contents, its cache, and the messages for a wrong folder."""

import os
import pickle
import shutil
import time

import numpy as np
import pytest
from photo_samples import CLASSES, photographs
from samples import write_folder

from input import cache, places
from input.photos import scan, tree
from input.photos.index import Packed
from input.photos.tree import read_tree
from system.errors import MachineFault, RequestError

OLD = time.time() - 1000


def age(root):
    """What was just written counts as written long ago."""
    for folder in root.iterdir():
        os.utime(folder, (OLD, OLD))


@pytest.fixture
def place(tmp_path):
    write_folder(tmp_path / "imagenet", photographs())
    age(tmp_path / "imagenet" / "train")
    return tmp_path / "imagenet"


@pytest.fixture
def scans(monkeypatch):
    """The names of the folders that are scanned."""
    seen, listed = [], scan._listed
    monkeypatch.setattr(scan, "_listed", lambda folder, changed: seen.append(folder.name) or listed(folder, changed))
    return seen


def test_images_by_class_and_name(place):
    for hidden in ("train/.hidden/x.JPEG", "train/n01440764/.x.JPEG", "train/n01440764/notes.txt", "train/x.JPEG"):
        write_folder(place, {hidden: b"x"})
    for suffix in ("a.jpg", "a.PNG", "a.WebP", "a.bmp"):
        write_folder(place, {f"train/n02102040/{suffix}": b"12345"})
    index = read_tree(place / "train")
    assert list(index.classes) == list(CLASSES) and index.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 8
    assert index.passed.line("train") == "1 file of train passed over, x.JPEG: it lies in no class folder"
    assert index.name(5) == f"{place}/train/n01443537/n01443537_1.JPEG" and index.read(8) == b"12345"
    assert sorted(index.order(0, 1).tolist()) == list(range(16))
    assert index.order(0, 1).tolist() != index.order(0, 2).tolist() != index.order(1, 1).tolist()
    again = pickle.loads(pickle.dumps(index))
    assert again.name(5) == index.name(5)


def test_only_what_changed_is_scanned_again(place, scans, capsys):
    first = read_tree(place / "train")
    assert scans == list(CLASSES) and "indexing" in capsys.readouterr().err
    names = [first.name(number) for number in range(len(first))]
    second = read_tree(place / "train")
    assert scans == list(CLASSES) and [second.name(number) for number in range(len(second))] == names
    (place / "train" / CLASSES[1] / "new.JPEG").write_bytes(b"")
    assert len(read_tree(place / "train")) == 13 and scans[3:] == [CLASSES[1]]
    # so young a change is not trusted: another could leave the same time
    assert len(read_tree(place / "train")) == 13 and scans[4:] == [CLASSES[1]]
    write_folder(place, {"train/n09999999/x.JPEG": b""})
    for file in (place / "train" / CLASSES[0]).iterdir():
        file.unlink()
    (place / "train" / CLASSES[0]).rmdir()
    age(place / "train")
    os.utime(place / "train" / CLASSES[1], (OLD + 1, OLD + 1))
    changed = read_tree(place / "train")
    assert list(changed.classes) == [*CLASSES[1:], "n09999999"] and changed.labels.tolist() == [0] * 5 + [1] * 4 + [2]
    del scans[:]
    read_tree(place / "train")
    assert scans == []


def test_a_damaged_index_is_told_and_made_anew(place, capsys):
    read_tree(place / "train")
    kept = cache.place(place / "train", "index")
    assert kept == place / "train.index.npz"
    for damage in (b"", b"no zip", kept.read_bytes()[:-30], kept.read_bytes().replace(b"n01440764_1", b"n01440764_7")):
        kept.write_bytes(damage)
        capsys.readouterr()
        assert len(read_tree(place / "train")) == 12
        assert "is damaged and is made anew" in capsys.readouterr().err


def test_nothing_is_written_unless_allowed(place, monkeypatch, tmp_path):
    read_tree(place / "train", keep=False)
    assert not list(place.glob("*.npz"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    place.chmod(0o555)
    try:
        read_tree(place / "train")
    finally:
        place.chmod(0o755)
    assert len(list((tmp_path / "home" / "swapconv").iterdir())) == 1 and not list(place.glob("*.npz"))


def test_packed_strings():
    strings = ["a", "", "ä\udcff", "bcd"]
    packed = Packed.joined([Packed.of(strings[:2]), Packed.of([]), Packed.of(strings[2:])])
    assert [packed[number] for number in range(len(packed))] == strings
    assert [packed.part(1, 3)[number] for number in range(2)] == strings[1:3] and len(packed.part(0, 0)) == 0


def test_the_dataset_is_found(place, monkeypatch):
    for source in (
        places.find("imagenet", place.parent),
        places.find("imagenet", place, imagenet_loc=str(place)),
    ):
        train, val = source.read(1)
        assert source.where == str(place) and len(train) == len(val) == 12
    val_only = place / "val" / CLASSES[0]
    val_only.rename(place / "val" / "n01440765")
    with pytest.raises(RequestError, match="has the class 'n01440765', which is none of the 3 to train on"):
        places.find("imagenet", place.parent).read(1)
    (place / "val" / "n01440765").rename(place / "elsewhere")  # fewer classes to test on are allowed
    assert places.find("imagenet", place.parent).read(1).val.labels.tolist() == [1] * 4 + [217] * 4


@pytest.mark.parametrize(
    "files, told",
    [
        (["val/a/x.JPEG"], "has no folder train/ .there are: val.*image-net.org"),
        (["train/a/x.JPEG"], "has no folder val/"),
        (["train/a/x.JPEG", "val/x.JPEG", "val/y.jpg"], "val/ holds no images in class folders.*2 images lie in it unsorted"),
        (["train/a/x.JPEG", "val/a/x.txt"], "val/ holds no images in class folders, as in"),
        (["train/a/x.JPEG", "train/b/x.txt", "val/a/x.JPEG"], "train/b/ holds no images"),
        ([f"{split}/{n:04}/x.JPEG" for n in range(1001) for split in ("train", "val")], "1,001 class folders, at most 1,000"),
    ],
)  # fmt: skip
def test_wrong_layouts(tmp_path, files, told):
    write_folder(tmp_path / "imagenet", dict.fromkeys(files, b""))
    with pytest.raises(RequestError, match=told) as error:
        places.find("imagenet", tmp_path).read(1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "place, told",
    [
        (None, "no imagenet: looked for .*imagenet/train/<wnid>/; image-net.org gives it, --imagenet_loc names"),
        ("nowhere", "--imagenet_loc 'nowhere' is not there: it has to be a folder with train/ and val/, or a pattern"),
        ("file", "'file' is a file: it has to be a folder"),
        ("a\0b", "is not there"),
        ("x-{train,val}.zip", "is no pattern of shards: it stands for x-train.zip"),
    ],
)
def test_wrong_places(workplace, place, told):
    (workplace / "file").touch()
    with pytest.raises(RequestError, match=told) as error:
        places.find("imagenet", workplace, imagenet_loc=place)
    assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_read(place, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(tree.os, "scandir", refused)
    with pytest.raises(MachineFault, match="train cannot be read: Permission denied"):
        read_tree(place / "train")


def test_all_suffixes_nested_folders_links_and_what_is_passed_over(place, scans, tmp_path):
    """However the index was made: at once, from what is kept, or in part."""
    label = CLASSES[1]
    write_folder(tmp_path / "elsewhere", {"a.gif": b"1", "deep/b.jfif": b"22"})
    write_folder(
        place / "train" / label,
        {f"{n}.{s}": b"333" for n, s in enumerate(("tif", "TIFF", "ppm", "pgm", "jpe", "apng"))},
    )
    write_folder(
        place / "train" / label, {"in/ner/x.v2.jpg": b"4", "in/.x.jpg": b"", "in/ner/x.heic": b"", "a\nb ü.jpg": b"55"}
    )
    write_folder(
        place / "train" / CLASSES[0], {"b.raw": b"", "a.raw": b"", "Thumbs.db": b"", "LICENSE": b"", ".DS_Store": b""}
    )
    write_folder(place / "train", {"lost+found/x.jpg": b"", ".cache/x.jpg": b"", "README.md": b""})
    (place / "train" / "zlink").symlink_to(tmp_path / "elsewhere"), (place / "train" / label / "loop").symlink_to("..")
    (place / "train" / label / "gone.jpg").symlink_to("nowhere"), os.mkfifo(place / "train" / label / "pipe.jpg")
    for folder in [*place.rglob("*"), *(tmp_path / "elsewhere").rglob("*"), tmp_path / "elsewhere"]:
        if folder.is_dir():
            os.utime(folder, (OLD, OLD))
    first = read_tree(place / "train")
    assert list(first.classes) == [*CLASSES, "zlink"] and np.bincount(first.labels).tolist() == [4, 4 + 6 + 2 + 2, 4, 2]
    assert first.passed == (3, f"{CLASSES[0]}/a.raw", "")
    names = [first.name(n) for n in range(len(first))]
    assert [f"{place}/train/{label}/in/ner/x.v2.jpg", f"{place}/train/zlink/deep/b.jfif"] == [names[17], names[-1]]
    by_name = {name.rpartition("/")[2]: number for number, name in enumerate(names)}
    assert first.read(by_name["a\nb ü.jpg"]) == b"55" and first.sizes[by_name["b.jfif"]] == 2
    for odd, told in (("gone.jpg", "No such file"), ("pipe.jpg", "it is no file")):
        with pytest.raises(OSError, match=told):
            first.read(by_name[odd])
    del scans[:]
    again = read_tree(place / "train")
    assert scans == [] and [again.name(n) for n in range(len(again))] == names and again.passed == first.passed
    assert again.fingerprint() == first.fingerprint()
    write_folder(place / "train" / label, {"in/ner/y.jpg": b"4"})
    os.utime(place / "train" / label / "in" / "ner", (OLD + 1, OLD + 1))
    more = read_tree(place / "train")
    assert scans == ["ner"] and len(more) == len(first) + 1 and more.fingerprint() != first.fingerprint()


def test_a_fingerprint_is_of_what_lies_there_not_of_where(place, tmp_path):
    first = read_tree(place / "train")
    shutil.copytree(place / "train", tmp_path / "copy")
    assert read_tree(tmp_path / "copy").fingerprint() == first.fingerprint() and len(first.fingerprint()) == 64
    assert read_tree(place / "val").fingerprint() != first.fingerprint()
    file = next((tmp_path / "copy" / CLASSES[0]).iterdir())
    file.write_bytes(b"x"), os.utime(file.parent, (OLD + 1, OLD + 1))
    assert read_tree(tmp_path / "copy").fingerprint() != first.fingerprint()
    (place / "train" / CLASSES[2]).rename(place / "train" / "n02102041")
    assert read_tree(place / "train").fingerprint() != first.fingerprint()


def test_an_index_of_an_earlier_version_is_made_anew_in_silence(place, capsys):
    read_tree(place / "train")
    kept = cache.place(place / "train", "index")
    np.savez(kept, format=np.array(1), times=np.array([0]), counts=np.array([12]))
    capsys.readouterr()
    assert len(read_tree(place / "train")) == 12 and "damaged" not in capsys.readouterr().err
