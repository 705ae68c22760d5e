"""What labels of photographs mean: places among the 1000 classes, lists, and networks trained with other labels."""

import numpy as np
import pytest
import torch
from photo_samples import CLASSES, LABELS, photo, photographs, write_tar
from references import torchvision
from samples import write_folder

import main
from cli import command as cli_command
from input import places
from input.photos.labels import CLS, alphabetical, disagreement, of_imagenet, wnids
from input.photos.lists import of_list
from record.identity import differences
from system.errors import RequestError

NETWORK = [
    "--network",
    "MobileNetV2",
    "--width_mult",
    "0.35",
    "--image_size",
    "64",
    "--batch_size",
    "6",
    "--workers",
    "1",
]


def read(place, only_test=False, **keywords):
    return places.find("imagenet", place, imagenet_loc=str(place), only_test=only_test, **keywords).read(1, keep=False)


def renamed(names) -> dict[str, bytes]:
    """The photographs in class folders of other names."""
    files = {}
    for name, data in photographs(2).items():
        split, label, file = name.split("/")
        files[f"{split}/{names[CLASSES.index(label)]}/{file}"] = data
    return files


def test_the_1000_wnids():
    known = list(wnids())
    assert len(known) == 1000 and known == sorted(set(known)) and known[217] == "n02102040" and known[0] == "n01440764"


@pytest.mark.parametrize(
    "names, how, labels, odd",
    [
        (CLASSES, "wnid", LABELS, ""),
        (("7", "012", "999"), "number", (7, 12, 999), ""),
        (("cat", "dog", "ant"), "alphabet", (1, 2, 0), "ant"),
        (("n01440764", "n02102040", "n99999999"), "alphabet", (0, 1, 2), "n99999999"),
        (("3", "4", "1000"), "alphabet", (1, 2, 0), "1000"),
        (("3", "4", "²"), "alphabet", (0, 1, 2), "²"),
    ],
)
def test_how_class_folders_are_labelled(tmp_path, names, how, labels, odd):
    write_folder(tmp_path / "tree", renamed(names))
    for split in ("train", "val"):
        own = {name.partition("/")[2]: data for name, data in renamed(names).items() if name.startswith(split)}
        write_tar(tmp_path / f"s-{split}-0.tar", own)
    sharded = places.find("imagenet", tmp_path, imagenet_loc=f"{tmp_path}/s-{{train,val}}-{{0..}}.tar").read(1, False)
    for index in (*read(tmp_path / "tree"), *sharded):
        assert index.labelled == how and index.labelling.odd == odd and index.classes == sorted(names)
        of_name = dict(zip(names, labels))
        assert all(of_name[index.name(n).split("/")[-2].split(": ")[-1]] == index.labels[n] for n in range(len(index)))


def test_two_folders_of_one_number(tmp_path):
    write_folder(tmp_path, renamed(("7", "07", "8")))
    with pytest.raises(RequestError, match="two class folders have the number 7"):
        read(tmp_path)


def test_val_alone_is_enough_where_its_folders_say_which_classes_they_are(tmp_path):
    write_folder(tmp_path, {name: data for name, data in photographs(2).items() if name.startswith("val")})
    assert read(tmp_path, only_test=True).val.labels.tolist() == [n for n in LABELS for _ in range(2)]
    (tmp_path / "val" / CLASSES[0]).rename(tmp_path / "val" / "fish")
    with pytest.raises(
        RequestError, match="no train/, and val/ has 3 classes, 'fish' for one: nothing says which of the 1000"
    ):
        read(tmp_path, only_test=True)


def test_whether_labels_mean_the_same():
    some, all_of, own = of_imagenet(CLASSES), of_imagenet(list(wnids())), of_imagenet(["a", "b"])
    numbers = of_imagenet([str(n) for n in range(1000)])
    assert not disagreement({}, all_of) and not disagreement({}, own) and not disagreement({}, CLS)
    assert "by the alphabetical order of the class folders" in disagreement({}, some)
    assert disagreement({}, numbers) and not disagreement({}, of_imagenet([f"{n:03}" for n in range(1000)]))
    for one in (some, all_of, numbers, CLS):
        for other in (some, all_of, numbers, CLS):
            assert not disagreement(one.record(), other)
        assert disagreement(one.record(), own) and disagreement(own.record(), one)
    assert not disagreement(own.record(), alphabetical(["b", "a"]))
    assert "other class folders" in disagreement(own.record(), alphabetical(["b", "c"]))
    assert not differences({}, some.record())  # is compared here alone


@pytest.fixture
def published(workplace):
    network = torchvision.models.mobilenet_v2(width_mult=0.35)
    state = network.state_dict()
    state["classifier.1.weight"].zero_(), state["classifier.1.bias"].zero_()
    state["classifier.1.bias"][217] = 9
    torch.save(state, "published.pth")
    return "./published.pth"


def run(*arguments) -> int:
    return cli_command.run(lambda: main.main([*arguments]))


def test_weights_from_elsewhere_are_tested_by_the_labels_of_the_1000_or_not_at_all(published, workplace, capsys):
    write_folder(workplace / "three", photographs(2))
    evaluate = ["imagenet", "teacher", "-t", published, *NETWORK, "--evaluate", "--imagenet_loc"]
    assert run(*evaluate, "three") == 0
    assert "Error@1 66.67" in capsys.readouterr().out
    write_folder(workplace / "own", renamed(("cat", "dog", "n02102040")))
    student = [
        "imagenet",
        "student",
        "-t",
        published,
        "-s",
        "s",
        *NETWORK,
        "--epochs",
        "1",
        "--dry_run",
        "--imagenet_loc",
    ]
    for command, what in ((evaluate, "run"), (student, "teacher")):
        assert run(*command, "own") == 2
        (line,) = [
            line for line in capsys.readouterr().err.splitlines() if "indexing" not in line and "warning" not in line
        ]
        assert f"the {what} './published.pth' counts the 1000 classes" in line and "'cat' is none" in line
    assert not (workplace / "runs").exists()


def test_a_run_is_not_tested_nor_goes_on_with_labels_of_another_meaning(workplace, capsys):
    write_folder(workplace / "d", renamed(("cat", "dog", "emu")))
    base = ["imagenet", "teacher", "-t", "t", *NETWORK, "--imagenet_loc", "d"]
    train = [*base, "--epochs", "1", "--lr", "0.01"]
    assert run(*train) == 0 and run(*base, "--evaluate") == 0
    for split in ("train", "val"):
        for before, after in zip(("cat", "dog", "emu"), CLASSES):
            (workplace / "d" / split / before).rename(workplace / "d" / split / after)
    capsys.readouterr()
    student = [
        "imagenet",
        "student",
        "-t",
        "t",
        "-s",
        "s",
        *NETWORK,
        "--imagenet_loc",
        "d",
        "--epochs",
        "1",
        "--dry_run",
    ]
    for command, what in (([*base, "--evaluate"], "run"), ([*train, "--resume"], "run"), (student, "teacher")):
        assert run(*command) == 2
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert (
            len(told) == 1
            and f"the {what} 't' cannot be used on these images: it was trained with labels by the alph" in told[0]
        )


NAMES = ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG", "ILSVRC2012_val_00000003.JPEG"]
FLAT = {f"val/{name}": photo(number) for number, name in enumerate(NAMES)}


def meta_mat(path):
    """The devkit's table, with classes counted from 1 in an order of its own, and two that have others below them."""
    from scipy.io import savemat

    order = [*sorted(wnids(), reverse=True), "n00001740", "n00021265"]
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    synsets = np.array([[(float(n), wnid, "x", float(n > 1000))] for n, wnid in enumerate(order, 1)], dtype=kind)
    savemat(path, {"synsets": synsets})


@pytest.mark.parametrize(
    "text",
    [
        "ILSVRC2012_val_00000003.JPEG n01443537\nILSVRC2012_val_00000001.JPEG n02102040\nILSVRC2012_val_00000002.JPEG n01440764\n",
        "ImageId,PredictionString\r\nILSVRC2012_val_00000002,n01440764 5 5 9 9 n01440764 1 1 2 2\r\n"
        "ILSVRC2012_val_00000003,n01443537 1 2 3 4\r\nILSVRC2012_val_00000001,n02102040 1 2 3 4\r\n",
        "val/ILSVRC2012_val_00000001.JPEG,n02102040\nILSVRC2012_val_00000002.JPEG,n01440764\nILSVRC2012_val_00000003,n01443537",
        "ILSVRC2012_val_00000001.JPEG 217\nILSVRC2012_val_00000002.JPEG 0\nILSVRC2012_val_00000003.JPEG 1\n",
        "\ufeff217\n0\n1\n\n",
        "783\n1000\n999\n",
        "n02102040\nn01440764\nn01443537\n",
        'filename,label\n"ILSVRC2012_val_00000003.JPEG","n01443537"\n"ILSVRC2012_val_00000001.JPEG","n02102040"\n'
        "ILSVRC2012_val_00000002.JPEG,n01440764\n",
    ],
)
@pytest.mark.parametrize("only_test", [False, True])
def test_lists_of_labels(tmp_path, text, only_test):
    files = FLAT | (
        {} if only_test else {name: data for name, data in photographs(1).items() if name.startswith("train")}
    )
    write_folder(tmp_path / "d", files)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/list.txt").write_bytes(text.encode())
    if text.startswith("783"):
        with pytest.raises(RequestError, match="numbers without a 0: those of ILSVRC's devkit .* meta.mat"):
            read(tmp_path / "d", only_test, val_labels=str(tmp_path / "labels/list.txt"))
        meta_mat(tmp_path / "labels/meta.mat")
    val = read(tmp_path / "d", only_test, val_labels=str(tmp_path / "labels/list.txt")).val
    assert (
        val.labels.tolist() == [217, 0, 1]
        and val.name(1) == f"{tmp_path}/d/{list(FLAT)[1]}"
        and val.read(2) == FLAT[f"val/{NAMES[2]}"]
    )
    assert val.labelled in ("wnid", "number") and not val.passed.count and len(val.fingerprint()) == 64


@pytest.mark.parametrize(
    "lines, told",
    [
        ([f"{NAMES[0]} n01440764", f"{NAMES[1]} n01440764"], "labels 2 images, but there are 3"),
        ([f"{name} n01440764" for name in (*NAMES[:2], "x.JPEG")], "line 3: 'x.JPEG': there is no such image"),
        ([f"{name} n01440764" for name in (NAMES[0], NAMES[1], NAMES[1])], "line 3: .* was labelled before"),
        (
            [f"{name} n01440765" for name in NAMES],
            "line 1: 'n01440765' is none of the 3 classes to train on; did you mean",
        ),
        (["0", "1", "1001"], "line 3: 1001 is none of the 1000 classes"),
        (["0", "1", "5"], "line 3: 'n01496331' is none of the 3 classes"),
        (["0", "1"], "labels 2 images, but there are 3"),
        (["0", "1", "n01440764"], "line 3: it is not of the kind of the first line"),
        (["0", "1", f"{NAMES[0]} n01440764"], "line 3: it is not of the kind of the first line"),
        (["hello"], "line 1: 'hello' is neither"),
        ([], "has no lines"),
        (["0", "1\0", "2"], "is no list of labels"),
    ],
)
def test_lists_that_do_not_go_with_the_images(tmp_path, lines, told):
    write_folder(
        tmp_path / "d", FLAT | {name: data for name, data in photographs(1).items() if name.startswith("train")}
    )
    (tmp_path / "list.txt").write_text("\n".join(lines))
    with pytest.raises(RequestError, match=told) as error:
        read(tmp_path / "d", val_labels=str(tmp_path / "list.txt"))
    assert "\n" not in str(error.value)


def test_where_a_list_does_not_belong(tmp_path, workplace, capsys):
    write_folder(tmp_path / "d", photographs(1))
    (tmp_path / "list.txt").write_text("0\n")
    with pytest.raises(RequestError, match="val/ has folders, n01440764/ for one, which label its images"):
        read(tmp_path / "d", val_labels=str(tmp_path / "list.txt"))
    with pytest.raises(RequestError, match="goes with a folder of images, shards hold their labels"):
        places.find("imagenet", tmp_path, imagenet_loc="s-{train,val}-{0..}.tar", val_labels="list.txt")
    of_list(tmp_path / "list.txt", None)(["a/x.jpg"])  # as many as lines
    (tmp_path / "list.txt").write_text("0\n1\n")
    with pytest.raises(RequestError, match="the images lie in several folders"):
        of_list(tmp_path / "list.txt", None)(["a/x.jpg", "b/x.jpg"])
    with pytest.raises(RequestError, match="the list of labels 'nowhere' is not there"):
        of_list(places.Path("nowhere"), None)
    assert run("digits", "teacher", "-t", "t", "--val_labels", "x") == 2
    assert "--val_labels goes with imagenet, not digits" in capsys.readouterr().err


def test_tiny_imagenet(tmp_path):
    files = {f"train/{label}/images/{label}_{n}.JPEG": photo(n) for label in CLASSES for n in range(2)}
    files |= {f"train/{label}/{label}_boxes.txt": b"x" for label in CLASSES}
    files |= {f"val/images/val_{n}.JPEG": photo(10 + n) for n in range(4)} | {"test/images/test_0.JPEG": photo(0)}
    files["val/val_annotations.txt"] = b"".join(
        b"val_%d.JPEG\t%s\t0\t0\t9\t9\n" % (n, CLASSES[n % 3].encode()) for n in (2, 1, 0)
    )
    write_folder(tmp_path, files)
    train, val = read(tmp_path)
    assert train.labels.tolist() == [n for n in LABELS for _ in range(2)] and train.passed.count == 0
    assert train.name(2) == f"{tmp_path}/train/n01443537/images/n01443537_0.JPEG" and train.read(2) == photo(0)
    assert val.labels.tolist() == list(LABELS) and val.name(2) == f"{tmp_path}/val/images/val_2.JPEG"
    assert val.passed.line("val") == "1 file of val passed over, images/val_3.JPEG: it has no label"
    write_folder(tmp_path, {"val/val_annotations.txt": b"val_9.JPEG\tn01440764\n"})
    with pytest.raises(RequestError, match="val_annotations.txt, line 1: 'val_9.JPEG': there is no such image"):
        read(tmp_path)


def test_the_file_that_torchvision_makes_of_the_devkit(tmp_path):
    write_folder(
        tmp_path / "d", FLAT | {name: data for name, data in photographs(1).items() if name.startswith("train")}
    )
    torch.save(({"n02102040": ("English springer",)}, ["n02102040", "n01440764", "n01443537"]), tmp_path / "meta.bin")
    assert read(tmp_path / "d", val_labels=str(tmp_path / "meta.bin")).val.labels.tolist() == [217, 0, 1]
    (tmp_path / "meta.bin").write_bytes(b"PK\3\4 cut")
    with pytest.raises(RequestError, match="meta.bin is neither a list of labels nor torchvision's meta.bin"):
        read(tmp_path / "d", val_labels=str(tmp_path / "meta.bin"))
