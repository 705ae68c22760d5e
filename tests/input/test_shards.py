"""The index of tar shards: the same images as a tree's, windows of an epoch's order, patterns, damage."""

import os
import pickle
import tarfile
import time

import numpy as np
import pytest
from photo_samples import photographs, write_shards, write_tar
from samples import write_folder

from input import places
from input.photos import shards
from input.photos.patterns import find_shards
from input.photos.shards import read_shards
from system.errors import MachineFault, RequestError

OLD = time.time() - 1000


@pytest.fixture
def files():
    return photographs()


def age(folder):
    for path in folder.glob("**/*.tar"):
        os.utime(path, (OLD, OLD))


def test_the_same_images_as_in_a_tree(tmp_path, files):
    write_folder(tmp_path / "tree", files)
    tree = places.find("imagenet", tmp_path, imagenet_loc=str(tmp_path / "tree")).read(1)
    by_label = places.find("imagenet", tmp_path, imagenet_loc=write_shards(tmp_path / "shards", files)).read(1)
    for split in ("train", "val"):
        own = {name.removeprefix(f"{split}/"): data for name, data in files.items() if name.startswith(split)}
        write_tar(tmp_path / "folders" / split / "s-00.tar", dict(list(own.items())[:7]))
        write_tar(tmp_path / "folders" / split / "s-01.tar", dict(list(own.items())[7:]))
    source = places.find("imagenet", tmp_path, imagenet_loc=str(tmp_path / "folders" / "s-{00..}.tar"))
    assert "(2 train and 2 val shards)" in source.where
    for index in (by_label, source.read(1), pickle.loads(pickle.dumps(source.read(1)))):
        for split in ("train", "val"):
            ours, theirs = getattr(index, split), getattr(tree, split)
            assert ours.labels.tolist() == theirs.labels.tolist() and ours.labels.dtype == np.int64
            assert [ours.read(n) for n in range(len(ours))] == [theirs.read(n) for n in range(len(theirs))]
            assert [ours.name(n).split("/")[-1].split(": ")[-1] for n in range(12)] == [
                theirs.name(n).split("/")[-1].removesuffix(".JPEG") for n in range(12)
            ]


def test_many_shards_with_few_files_open(tmp_path, files, monkeypatch):
    monkeypatch.setattr(shards, "OPEN_SHARDS", 2)
    index = read_shards(find_shards(write_shards(tmp_path, files, per_shard=2), "train"))
    for number in [*range(12), 0, 5, 11]:
        assert index.read(number) == list(files.values())[number]
    assert len(index.files) == 2


def test_an_epoch_reads_few_shards_at_a_time(monkeypatch):
    monkeypatch.setattr(shards, "WINDOW_SHARDS", 3)
    monkeypatch.setattr(shards, "WINDOW_IMAGES", 40)
    sizes = [10] * 10 + [25] * 4
    index = shards.Shards.__new__(shards.Shards)
    index.paths, index.shard = ["x"] * 14, np.repeat(np.arange(14), sizes)
    index.labels = np.zeros(sum(sizes), np.int64)
    order = index.order(0, 7)
    assert sorted(order.tolist()) == list(range(200)) and order.tolist() == index.order(0, 7).tolist()
    assert order.tolist() != index.order(0, 8).tolist()
    windows, read = [], index.shard[order]
    while len(read):  # each shard is read within one window, of 3 shards and 40 images at least
        reach = 1
        while set(read[:reach]) & set(read[reach:]):
            reach += 1
        windows.append((len(set(read[:reach].tolist())), reach))
        assert len(np.unique(read[:5])) > 1
        read = read[reach:]
    assert len(windows) >= 3 and all(3 <= shards <= 8 and 40 <= images <= 120 for shards, images in windows)


def test_only_shards_that_changed_are_read_again(tmp_path, files, monkeypatch, capsys):
    pattern, seen, members = write_shards(tmp_path, files), [], shards.read_members
    age(tmp_path)
    monkeypatch.setattr(shards, "read_members", lambda path, size: seen.append(path.name) or members(path, size))
    read_shards(find_shards(pattern, "train"), keep=False)
    assert len(seen) == 4 and not list(tmp_path.glob("*.npz"))
    first = read_shards(find_shards(pattern, "train"))
    del seen[:]
    second = read_shards(find_shards(pattern, "train"))
    assert seen == [] and [second.read(n) for n in range(12)] == [first.read(n) for n in range(12)]
    assert [second.name(n) for n in range(12)] == [first.name(n) for n in range(12)]
    write_tar(tmp_path / "imagenet-train-002.tar", {"one.png": b"x", "one.cls": b"7\n", "two.txt": b"not an image"})
    third = read_shards(find_shards(pattern, "train"))
    assert seen == ["imagenet-train-002.tar"] and third.labels.tolist() == [0, 0, 0, 0, 1, 1, 7, 217, 217, 217]
    (kept,) = tmp_path.glob("*train*.npz")
    kept.write_bytes(kept.read_bytes()[:-30])
    assert len(read_shards(find_shards(pattern, "train"))) == 10
    assert "is damaged and is made anew" in capsys.readouterr().err


def with_link(path):
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("a/x.jpg")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda path: write_tar(path, {"/a/x.jpg": b"x"}), "'/a/x.jpg' cannot be used: its path is absolute"),
        (lambda path: write_tar(path, {"a/../../x.jpg": b"x"}), "its path leaves the archive"),
        (with_link, "it is a link"),
        (lambda path: write_tar(path, {"a/x.jpg": b"x", "a/x.png": b"x"}), "'a/x' has 2 images"),
        (lambda path: write_tar(path, {"x.jpg": b"x"}), "'x' has no label"),
        (lambda path: write_tar(path, {"a/x.jpg": b"x", "./a/x.jpg": b"x"}), "'./a/x.jpg' cannot be used: it is there twice"),
        (lambda path: write_tar(path, {"x.jpg": b"x", "x.cls": b"dog"}), "x.cls holds b'dog', not a label from 0 to 999"),
        (lambda path: write_tar(path, {"x.jpg": b"x", "x.cls": b"1000"}), "x.cls holds b'1000'"),
        (lambda path: write_tar(path, {"a/x.txt": b"x"}), "no images, which are KEY.jpg"),
        (lambda path: write_tar(path, {"a/x.jpg": b"x", "a/y.jpg": b"x", "a/y.cls": b"3"}), "some samples have a .cls"),
        (lambda path: path.write_bytes(b"x" * 2000), "cannot be read as a plain tar"),
        (lambda path: path.write_bytes(b""), "cannot be read as a plain tar"),
    ],
)  # fmt: skip
def test_shards_that_cannot_be_used(tmp_path, make, told):
    make(tmp_path / "s-0.tar")
    with pytest.raises((MachineFault, RequestError), match=told) as error:
        read_shards([tmp_path / "s-0.tar"])
    assert "\n" not in str(error.value)


def test_a_shard_that_was_cut_off(tmp_path):
    write_tar(tmp_path / "s.tar", {"a/x.jpg": b"x" * 700, "a/y.jpg": b"y" * 700})
    whole = (tmp_path / "s.tar").read_bytes()
    for length in (512 + 1024, 512 + 1024 + 512 + 100, 2 * 1536):  # after an image, within one, before the end's zeros
        (tmp_path / "s.tar").write_bytes(whole[:length])
        with pytest.raises(MachineFault, match="its end is missing|ends before it does|unexpected end"):
            read_shards([tmp_path / "s.tar"])
    (tmp_path / "s.tar").write_bytes(whole)
    index = read_shards([tmp_path / "s.tar"])
    (tmp_path / "s.tar").write_bytes(whole[:600])
    with pytest.raises(OSError, match="the shard ends after 88 of 700 bytes"):
        index.read(0)


def test_classes_have_to_agree(tmp_path):
    write_tar(tmp_path / "t.tar", {"a/x.jpg": b"x", "c/y.jpg": b"x"})
    write_tar(tmp_path / "v.tar", {"c/y.jpg": b"x"})
    write_tar(tmp_path / "odd.tar", {"b/y.jpg": b"x"})
    write_tar(tmp_path / "cls.tar", {"y.jpg": b"x", "y.cls": b"3"})
    train = read_shards([tmp_path / "t.tar"])
    assert train.classes == ["a", "c"] and read_shards([tmp_path / "v.tar"], train.classes).labels.tolist() == [1]
    with pytest.raises(RequestError, match="the class 'b' is none of the 2 to train on"):
        read_shards([tmp_path / "odd.tar"], train.classes)
    with pytest.raises(RequestError, match="have to be alike"):
        read_shards([tmp_path / "cls.tar"], train.classes)
    with pytest.raises(RequestError, match="have to be alike"):
        read_shards([tmp_path / "v.tar"], read_shards([tmp_path / "cls.tar"]).classes)


def test_patterns(tmp_path, files):
    for name in ("a-train-00", "a-train-01", "a-train-02", "a-val-00", "train/b-7", "train/b-8", "val/b-7"):
        write_tar(tmp_path / f"{name}.tar", {})

    def found(pattern, split):
        return [
            str(path.relative_to(tmp_path)).removesuffix(".tar") for path in find_shards(f"{tmp_path}/{pattern}", split)
        ]

    assert found("a-{train,val}-{00..}.tar", "train") == ["a-train-00", "a-train-01", "a-train-02"]
    assert found("a-{train,val}-{01..}.tar", "train") == ["a-train-01", "a-train-02"]
    assert found("a-{val,train}-{00..00}.tar", "val") == ["a-val-00"]
    assert found("b-{7..}.tar", "train") == ["train/b-7", "train/b-8"] and found("b-{7..}.tar", "val") == ["val/b-7"]
    for pattern, told in {
        "a-{train,val}-{00..03}.tar": "a-train-03.tar is missing",
        "none-{000..}.tar": "there is no val shard .*val/none-000.tar",
        "none-{000..002}.tar": "there is no val shard",
        "a-{000..": "is no pattern of shards: Unbalanced braces",
        "a-{x}.tar": "is no pattern of shards: it stands for .*val/a-{x}.tar; write it as",
        "a-{0..}-{0..}.tar": "only one range can be open",
    }.items():
        with pytest.raises(RequestError, match=told) as error:
            find_shards(f"{tmp_path}/{pattern}", "train" if "missing" in told else "val")
        assert "\n" not in str(error.value)


def test_a_shard_that_is_missing_in_an_open_range(tmp_path):
    """It would hide all that come after it."""
    pattern = write_shards(tmp_path, photographs())
    (tmp_path / "imagenet-train-001.tar").unlink()
    with pytest.raises(RequestError, match="imagenet-train-001.tar is missing, but imagenet-train-002.tar is there"):
        find_shards(pattern, "train")


@pytest.mark.parametrize(
    "pattern, told",
    [
        ("imagenet-{train,val}-{0000..}.tar", r"no train shard .*imagenet-train-0000.tar \(there is imagenet-train-000.tar\)"),
        ("imagenet-train-{000..003}.tar", r"no train shard .*; \{train,val\} in it stands for the split"),
        ("imagenet-{train,val}-{0..9999999}.tar", "a range has at most 100,000 numbers"),
        ("http://x/{000..003}.tar", "only files can be read"),
        ("pipe:cat {000..003}.tar", "only files can be read"),
    ],
)  # fmt: skip
def test_patterns_that_find_nothing_say_what_is_there(pattern, told, tmp_path):
    write_shards(tmp_path, photographs())
    where = pattern if ":" in pattern else str(tmp_path / pattern)
    with pytest.raises(RequestError, match=told):
        find_shards(where, "train")


@pytest.mark.parametrize(
    "files, keys, labels, passed",
    [
        (["n01/a.jpg", "n02/a.v2.jpg", "n02/b.2019.05.JPEG"], ["n01/a", "n02/a.v2", "n02/b.2019.05"], [0, 1, 1], None),
        (["a.left.jpg", "a.right.jpg", "a.cls=7"], ["a.left", "a.right"], [7, 7], None),
        (["a.left.jpg", "a.left.cls=5", "a.right.jpg", "a.cls=7"], ["a.left", "a.right"], [5, 7], None),
        (["a.cls=7", "x/b.TIF", "x/b.cls=8", "a.png", "c.d.gif", "c.d.cls=9"], ["x/b", "a", "c.d"], [8, 7, 9], None),
        (["a.jpg", "a.json", "a.txt", "a.cls=1", "b.jp2", "b.cls=2", "c.cls=3"], ["a"], [1], (2, "b.jp2")),
        (["a.jpg", "a.seg.png", "a.cls=1"], ["a"], [1], (1, "a.seg.png")),
        (["a.jpg", "a.cls=1", "._a.jpg", "__MACOSX/._a.jpg", "README", "Thumbs.db", "z.heic"], ["a"], [1], (1, "z.heic")),
        (["train/n01/a.jpg", "train/n02/a.jpg", "train/n02/more/a.jpg"], ["train/n01/a", "train/n02/a", "train/n02/more/a"], [0, 1, 1], None),
        (["n01/images/a.jpg", "n02/images/a.jpg"], ["n01/images/a", "n02/images/a"], [0, 1], None),
        (["x/n02102040/images/a.ppm"], ["x/n02102040/images/a"], [0], None),
        (["n01/a b.jpg", "n01/ä–.jpg", "n02/c\nd.jpg"], ["n01/a b", "n01/ä–", "n02/c\nd"], [0, 0, 1], None),
    ],
)  # fmt: skip
def test_what_is_taken_of_a_shard_and_what_is_passed_over(tmp_path, files, keys, labels, passed):
    contents = {name.partition("=")[0]: (name.partition("=")[2] or name).encode() for name in files}
    write_tar(tmp_path / "s.tar", contents)
    age(tmp_path)
    for _ in range(2):  # read, and from what is kept
        index = read_shards([tmp_path / "s.tar"])
        assert [index.keys[n] for n in range(len(index))] == keys and index.labels.tolist() == labels
        assert [index.read(n).decode().rpartition(".")[0] for n in range(len(index))] == keys
        assert index.passed[:2] == ((passed[0], f"s.tar: {passed[1]}") if passed else (0, ""))


def test_a_fingerprint_is_of_what_lies_there_not_of_where(tmp_path, files):
    first, second = (find_shards(write_shards(tmp_path / place, files), "train") for place in "ab")
    print_of = read_shards(first).fingerprint()
    assert read_shards(first).fingerprint() == read_shards(second).fingerprint() == print_of and len(print_of) == 64
    assert read_shards(find_shards(write_shards(tmp_path / "b", files), "val")).fingerprint() != print_of
    write_shards(tmp_path / "b", files | {"train/n01440764/n01440764_0.JPEG": b"other"})
    assert read_shards(second).fingerprint() != print_of
    write_shards(tmp_path / "b", dict(list(files.items())[1:]))
    assert read_shards(second).fingerprint() != print_of


def test_a_shard_whose_middle_is_damaged(tmp_path):
    """tarfile takes a damaged header for the end."""
    write_tar(tmp_path / "s.tar", {f"a/{n}.jpg": b"x" for n in range(9)})
    whole = (tmp_path / "s.tar").read_bytes()
    (tmp_path / "s.tar").write_bytes(whole[:4096] + b"\xff" * 512 + whole[4608:])
    with pytest.raises(MachineFault, match="cannot be read as a plain tar"):
        read_shards([tmp_path / "s.tar"])
