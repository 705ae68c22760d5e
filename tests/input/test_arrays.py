"""How files become arrays: tars and their caches, images and IDX files, and everything that can be wrong with them."""

import gzip
import io
import os
import struct
import tarfile
import zipfile

import pytest
from PIL import Image
from samples import check, picture, tree, write_fashion, write_folder, write_tar

from input import arrays
from input.places import find
from system.errors import MachineFault


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

    monkeypatch.setattr(arrays.np, "savez", full)
    write_tar(tmp_path / "cifar10.tar", tree(), "w")
    check(find("cifar10", tmp_path).read(2))
    assert "No space left" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["cifar10.tar"]


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: d + b"x", lambda d: b"\1" + d[1:], lambda d: d[:6], lambda d: b""]
)
def test_damaged_fashionmnist(tmp_path, damage):
    write_fashion(tmp_path / "fashionmnist", True, damage)
    with pytest.raises(MachineFault, match="t10k-images-idx3-ubyte.gz"):
        find("fashionmnist", tmp_path).read(1)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"train/class3/0000.png": picture(1)[:-30]}, "train/class3/0000.png cannot be used"),
        ({"test/class9/0001.png": b"no image"}, "test/class9/0001.png cannot be used"),
        ({"train/class0/0001.png": picture(1, size=(48, 32))}, "it is 48×32, not 32×32"),
        ({"train/class_new/0000.png": picture(1)}, "the class 'class_new' has images in train/, but none in test/"),
        ({"train/class9/0000.png": None, "train/class9/0001.png": None}, "the class 'class9' has images in test/, but none in train/"),
        ({"test/class9/0000.png": None, "test/class9/0001.png": None, "test/classX/0.png": picture(1)}, "'class9' has images in train/, but none in test/"),
        ({f"{split}/classX/0.png": picture(1) for split in ("train", "test")}, "there are 11 classes with images, not 10"),
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


@pytest.mark.parametrize(
    "extra", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n", b"", b"\0" * 3000]
)
def test_formats_that_run_programs_are_not_read(tmp_path, extra, monkeypatch):
    """Pillow hands an EPS to Ghostscript."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/pwned\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    write_folder(tmp_path / "cifar10", tree() | {"train/class0/0001.png": extra})
    with pytest.raises(MachineFault, match="train/class0/0001.png cannot be used: cannot identify image file"):
        find("cifar10", tmp_path).read(2)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("kind", ["I;16", "I", "F"])
def test_modes_of_more_than_8_bits_are_refused(tmp_path, kind):
    """Pillow would clip them to white."""
    stream = io.BytesIO()
    Image.new(kind, (32, 32), 900).save(stream, "TIFF")
    write_folder(tmp_path / "cifar10", tree() | {"train/class0/0001.png": stream.getvalue()})
    with pytest.raises(MachineFault, match=f"its mode is {kind}, with more than 8 bits a channel"):
        find("cifar10", tmp_path).read(2)


def test_what_else_lies_in_folders(tmp_path):
    """Hidden files and folders are passed over; links are followed, and named where they lead nowhere."""
    write_folder(tmp_path / "cifar10", tree() | {"train/class0/.DS_Store": b"x", "train/.cache/1.png": picture(1)})
    folder = tmp_path / "cifar10/train/class0"
    (folder / "inner").mkdir(), (folder / "0000.png").rename(tmp_path / "elsewhere.png")
    (folder / "0000.png").symlink_to(tmp_path / "elsewhere.png")
    check(find("cifar10", tmp_path).read(2))
    (folder / "0002.png").symlink_to("nowhere.png")
    with pytest.raises(MachineFault, match="class0/0002.png cannot be read: No such file"):
        find("cifar10", tmp_path).read(2)
    (folder / "0002.png").unlink(), (folder / "0002.png").symlink_to("0002.png")
    with pytest.raises(MachineFault, match="class0/0002.png cannot be read: Too many levels of symbolic links"):
        find("cifar10", tmp_path).read(2)
    (folder / "0002.png").unlink(), (folder / "loop").symlink_to(".")
    check(find("cifar10", tmp_path).read(2))
    os.mkfifo(folder / "0002.png")
    with pytest.raises(MachineFault, match="0002.png cannot be used: it is no file"):
        find("cifar10", tmp_path).read(2)
    (folder / "0002.png").unlink(), (folder / "0002.png").write_bytes(b"x" * (1 << 21))
    with pytest.raises(MachineFault, match="0002.png cannot be used: 2,097,152 bytes are no small image"):
        find("cifar10", tmp_path).read(2)


@pytest.mark.parametrize(
    "name, kind, size, told",
    [
        ("/train/class0/9.png", tarfile.REGTYPE, 5, "its path is absolute"),
        ("../train/class0/9.png", tarfile.REGTYPE, 5, "its path leaves the archive"),
        ("a/../train/class0/9.png", tarfile.REGTYPE, 5, "its path leaves the archive"),
        ("train/class0/9.png", tarfile.SYMTYPE, 0, "it is a link"),
        ("train/class0/9.png", tarfile.LNKTYPE, 0, "it is a link"),
        ("train/class0/9.png", tarfile.FIFOTYPE, 0, "it is no file"),
        ("train/class0/9.png", tarfile.REGTYPE, 1 << 21, "2,097,152 bytes are no small image"),
        ("b/train/class0/0000.png", tarfile.REGTYPE, 5, "it is there twice"),
    ],
)
def test_members_of_a_tar_that_are_refused(tmp_path, name, kind, size, told):
    write_tar(tmp_path / "cifar10.tar", tree(), "w")
    with tarfile.open(tmp_path / "cifar10.tar", "a") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.size, member.linkname = kind, size, "/etc/passwd"
        tar.addfile(member, io.BytesIO(b"x" * size))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(MachineFault) as error:
        find("cifar10", tmp_path).read(2)
    assert str(error.value) == f"{tmp_path}/cifar10.tar: {name!r} cannot be used: {told}"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bomb_of_labels_takes_no_memory(tmp_path):
    """200 MB of zeros in 1 MB: no more is unpacked than the header says, and that is what is wrong."""
    import tracemalloc

    write_fashion(tmp_path / "fashionmnist", True)
    with gzip.open(tmp_path / "fashionmnist/t10k-labels-idx1-ubyte.gz", "wb", compresslevel=1) as file:
        file.write(struct.pack(">BBBBI", 0, 0, 8, 1, 10))
        for _ in range(200):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(MachineFault, match="t10k-labels-idx1-ubyte.gz is damaged: it should hold 10 bytes"):
        find("fashionmnist", tmp_path).read(1)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


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
