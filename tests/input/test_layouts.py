"""What people have on disk beside and around the images of small datasets: junk, other suffixes, archives, names of splits."""

import io
import pickle
import stat
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import zstandard
from samples import check, picture, tarred, tree, write_folder, write_tar

from input import archives, image_files
from input.image_files import Passed, is_image, is_junk, shown
from input.places import find
from system.errors import MachineFault

JUNK = {
    "train/class3/Thumbs.db": b"\xd0\xcf", "train/class3/desktop.ini": b"x", "test/class0/.DS_Store": b"x",
    "train/class3/README": b"x", "train/class3/LICENSE.md": b"x", "train/class1/notes.txt": b"x", "train/lost+found/x.png": b"x",
    "__MACOSX/train/class1/._0000.png": b"x", "train/class1/._0000.png": b"x", "train/README.txt": b"x",
}  # fmt: skip
ODD = {
    "train/class4/zebra.heic": b"x",
    "train/class4/apple.jp2": b"x",
    "train/class2/labels.csv": b"x",
    "test/loose.png": b"x",
}


def write_zip(path, files, **keywords) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **keywords) as archive:
        for name, contents in files.items():
            archive.writestr(name, contents)


def write_zst(path, files) -> None:
    data = tarred(files)
    half = len(data) // 2
    pack = zstandard.ZstdCompressor().compress
    path.write_bytes(pack(data[:half]) + pack(data[half:]))  # two frames, as parallel compressors write


def read(folder, name="cifar10"):
    return find(name, folder).read(2)


WRITERS = {
    "folder": lambda place, files: write_folder(place / "cifar10", files),
    "cifar10.tar": lambda place, files: write_tar(place / "cifar10.tar", files, "w"),
    "cifar10.tgz": lambda place, files: write_tar(place / "cifar10.tgz", files, "w:gz"),
    "cifar10.tbz2": lambda place, files: write_tar(place / "cifar10.tbz2", files, "w:bz2"),
    "cifar10.txz": lambda place, files: write_tar(place / "cifar10.txz", files, "w:xz"),
    "cifar10.tar.zst": lambda place, files: write_zst(place / "cifar10.tar.zst", files),
    "cifar10.zip": lambda place, files: write_zip(place / "cifar10.zip", files),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_junk_is_passed_over_in_silence_and_what_else_is_no_image_with_a_word(tmp_path, kind, capsys):
    WRITERS[kind](tmp_path, tree() | JUNK)
    images = read(tmp_path)
    check(images)
    assert images.notes == ()
    (tmp_path / "b").mkdir()
    WRITERS[kind](
        tmp_path / "b", {("cifar10/" if kind != "folder" else "") + name: data for name, data in (tree() | ODD).items()}
    )
    for _ in range(2):  # the second time from the cache
        images = read(tmp_path / "b")
        check(images)
        train, test = images.notes
        first = "class2/labels.csv" if kind == "folder" else "class4/zebra.heic"  # by name, or as the archive has them
        assert train.startswith("3 files of") and f"the first one is {first}" in train
        assert test.startswith("1 file of") and "test passed over, loose.png: it lies in no class folder" in test


@pytest.mark.parametrize("kind", ["folder", "cifar10.zip", "cifar10.tar"])
def test_other_suffixes_and_folders_within_class_folders(tmp_path, kind):
    files = tree()
    for number, (suffix, format) in enumerate(
        (
            ("tif", "TIFF"),
            ("TIFF", "TIFF"),
            ("ppm", "PPM"),
            ("gif", "GIF"),
            ("jfif", "JPEG"),
            ("JPE", "JPEG"),
            ("bmp", "BMP"),
        )
    ):
        files.pop(f"train/class{number}/0001.png")
        files[f"train/class{number}/deep/er/1.{suffix}"] = picture(10 * number + 1, format=format)
    WRITERS[kind](tmp_path, files)
    images = read(tmp_path)
    assert images.notes == () and images.train_labels.tolist() == [n for n in range(10) for _ in range(2)]
    assert images.train[2 * 2 + 1, 0, 0, 0] == 21


@pytest.mark.parametrize("kind", ["folder", "cifar10.zip", "cifar10.tar"])
def test_the_split_that_tests_has_several_names(tmp_path, kind):
    renamed = {name.replace("test/", "valid/"): data for name, data in tree().items()}
    WRITERS[kind](tmp_path, renamed)
    images = read(tmp_path)
    check(images)
    assert images.notes == ()
    (tmp_path / "cinic").mkdir()
    both = tree() | {name: picture(255) for name in renamed if name.startswith("valid")}
    WRITERS[kind](tmp_path / "cinic", both)
    for _ in range(2):
        images = read(tmp_path / "cinic")
        check(images)
        (note,) = images.notes
        assert note.endswith("cifar10 has test/ and valid/: test/ is what is tested on".removeprefix("cifar10")), note


def test_no_split_to_test_on(tmp_path):
    write_folder(tmp_path / "cifar10", {name: data for name, data in tree().items() if name.startswith("train")})
    with pytest.raises(MachineFault, match="none to test on, which are in test/, val/, valid/"):
        read(tmp_path)


def test_class_folders_called_by_numbers_are_their_labels(tmp_path):
    """Of 100 the alphabet has 10 before 2."""
    files = {
        f"{split}/{number}/x.png": picture(2 * number + (split == "test"))
        for split in ("train", "test")
        for number in range(100)
    }
    write_folder(tmp_path / "cifar100", files)
    images = read(tmp_path, "cifar100")
    assert (images.train[:, 0, 0, 0] == 2 * images.train_labels).all() and sorted(images.train_labels) == list(
        range(100)
    )


@pytest.mark.parametrize("name", ["a b.png", "ä–本.png", "line\nbreak.png", "caf\udce9.png"])
def test_odd_names(tmp_path, name):
    files = tree()
    files[f"train/class0/1{name}"] = files.pop("train/class0/0001.png")
    write_folder(tmp_path / "cifar10", files)
    check(read(tmp_path))
    write_folder(tmp_path / "cifar10", {f"train/class0/1{name}": b"no image"})
    with pytest.raises(MachineFault) as error:
        read(tmp_path)
    told = str(error.value)
    assert (
        "\n" not in told
        and "BytesIO" not in told
        and "cannot identify image file: it is no image, or none of PNG" in told
    )
    told.encode()


def of_zip(name: str, contents: bytes = b"x", **attributes):
    def make(path):
        write_zip(path, tree())
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            info = zipfile.ZipInfo(name)
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.writestr(info, contents)

    return make


def encrypted(path):
    write_zip(path, tree())
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2") + 8
    data[at : at + 2] = struct.pack("<H", 1)
    path.write_bytes(data)


def lies_about_its_size(path):
    """200 MB that are declared to be 3 kB."""
    write_zip(path, tree() | {"train/class0/9.png": bytes(200 << 20)})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2", data.rindex(b"PK\1\2"))
    data[at + 24 : at + 28] = struct.pack("<I", 3000)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "make, told",
    [
        (of_zip("/train/class0/9.png"), "'/train/class0/9.png' cannot be used: its path is absolute"),
        (of_zip("C:\\train\\class0\\9.png"), "its path is absolute"),
        (of_zip("..\\train\\class0\\9.png"), "its path leaves the archive"),
        (of_zip("train/class0/9.png", external_attr=(stat.S_IFLNK | 0o777) << 16, create_system=3), "it is a link"),
        (of_zip("train/class0/9.png", external_attr=(stat.S_IFIFO | 0o777) << 16, create_system=3), "it is no file"),
        (of_zip("train/class0/9.png", bytes(2 << 20)), "2,097,152 bytes are no small image"),
        (of_zip("b/train/class0/0000.png"), "it is there twice"),
        (of_zip("b\\train\\class0\\0000.png"), "it is there twice"),
        (encrypted, "is encrypted: pack it without a password"),
        (lies_about_its_size, "cannot be read: Bad CRC"),
    ],
)
def test_members_of_a_zip_that_are_refused(tmp_path, make, told):
    make(tmp_path / "cifar10.zip")
    tracemalloc.start()
    with pytest.raises(MachineFault, match=told) as error:
        read(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert "\n" not in str(error.value) and [path.name for path in tmp_path.iterdir()] == ["cifar10.zip"]


def test_a_zip_of_windows_and_one_of_macos(tmp_path):
    with zipfile.ZipFile(tmp_path / "cifar10.zip", "w") as archive:
        for name, data in (tree() | JUNK).items():
            info = zipfile.ZipInfo("x")
            info.filename, info.create_system = f"cifar10/{name}".replace("/", "\\"), 0
            archive.writestr(info, data)
    assert b"train\\class0" in (tmp_path / "cifar10.zip").read_bytes()
    images = read(tmp_path)
    check(images)
    assert images.notes == ()


@pytest.mark.parametrize("kind", ["cifar10.zip", "cifar10.tar.zst", "cifar10.tgz", "cifar10.tar"])
def test_an_archive_that_was_cut_off_is_never_a_smaller_one(tmp_path, kind):
    WRITERS[kind](tmp_path, tree())
    path = tmp_path / kind
    whole = path.read_bytes()
    cuts = (
        {len(whole) // 3, len(whole) // 2, len(whole) - 11000} if kind != "cifar10.tar" else range(512, 512 * 41, 2560)
    )
    for cut in sorted(cut for cut in cuts if cut > 0):
        path.write_bytes(whole[:cut])
        with pytest.raises(MachineFault, match=f"{kind} cannot be read: |{kind}: "):
            read(tmp_path)


def test_a_tar_that_is_damaged_or_joined_is_refused(tmp_path):
    """tarfile takes a damaged header, and the end of the first of two tars, for the end of all."""
    write_tar(tmp_path / "cifar10.tar", tree(), "w")
    whole = (tmp_path / "cifar10.tar").read_bytes()
    (tmp_path / "cifar10.tar").write_bytes(whole[: 30 * 512] + b"\xff" * 512 + whole[31 * 512 :])
    with pytest.raises(MachineFault, match="cifar10.tar cannot be read: "):
        read(tmp_path)
    (tmp_path / "cifar10.tar").write_bytes(whole + whole)
    with pytest.raises(MachineFault, match="goes on after its end, as archives do that were joined"):
        read(tmp_path)


def test_an_archive_of_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_BYTES", 2000)
    write_zip(tmp_path / "cifar10.zip", tree())
    with pytest.raises(MachineFault, match="with it, images take more than 2,000 bytes"):
        read(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "torchvision"])
def test_the_superclasses_of_cifar100(tmp_path, monkeypatch, kind):
    import torchvision

    if kind == "folder":
        files = {f"{split}/c{n:02}/x.png": picture(n) for split in ("train", "test") for n in range(20)}
        write_folder(tmp_path / "cifar100coarse", files)
        assert read(tmp_path, "cifar100coarse").train_labels.tolist() == list(range(20))
        return
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    pixels = np.arange(100 * 3072, dtype=np.uint32).astype(np.uint8).reshape(100, 3072)
    for protocol, split in ((2, "train"), (5, "test")):
        contents = {"data": pixels, "fine_labels": list(range(100)), "coarse_labels": [n % 20 for n in range(100)]}
        (folder / split).write_bytes(pickle.dumps(contents, protocol))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(n) for n in range(100)]}))
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *arguments: True)  # these files are ours
    images = read(tmp_path, "cifar100coarse")
    assert images.train_labels.tolist() == images.test_labels.tolist() == [n % 20 for n in range(100)]
    np.testing.assert_array_equal(images.train[7, 1, 2], pixels[7].reshape(3, 32, 32)[:, 1, 2])


def test_a_pickle_that_would_run_something_is_refused():
    from input.arrays import _Plain

    class Evil:
        def __reduce__(self):
            return print, ("ran",)

    with pytest.raises(pickle.UnpicklingError, match="more than arrays: builtins.print"):
        _Plain(io.BytesIO(pickle.dumps(Evil()))).load()


def test_which_names_are_images():
    assert all(map(is_image, ("a.JPG", "a.v2.jpeg", "a b.TIFF", "x.pgm", "x.jfif", "license.png")))
    assert not any(map(is_image, ("a", ".jpg.swp", "a.jp2", "._x.png", "a.jpg.txt", "a.npy")))
    assert all(
        map(is_junk, ("Thumbs.db", "DESKTOP.INI", "lost+found", "__MACOSX", "._x.png", "readme.md", "LICENSE", "b.txt"))
    )
    assert not any(map(is_junk, ("a.jp2", "a", "license.png", "thumbs", "labels.csv")))
    assert set(image_files.FORMATS) == {"PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP"}
    assert shown("a\nb\udcff") == "a\\nb\\xff" and Passed().line("x") == ""
    assert (
        Passed().add("b.heic").add("a.heic").line("x").startswith("2 files of x passed over, the first one is b.heic: ")
    )


def test_a_test_set_without_labels_hides_no_other(tmp_path):
    """train/, val/ and test/ of which nobody knows the labels, as competitions give them."""
    write_folder(tmp_path / "cifar10", {name.replace("test/", "val/"): data for name, data in tree().items()})
    write_folder(tmp_path / "cifar10", {"test/0001.png": picture(1)})
    images = find("cifar10", tmp_path).read(1)
    check(images)
    assert [note for note in images.notes if "test/ has no images in folders of the training classes: val/ is" in note]
