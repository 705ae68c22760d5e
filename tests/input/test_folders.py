"""folder:PATH, a dataset of one's own: how it is read and kept, what is refused, and whole runs on it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ranks import Ranks
from results import refused, rows_of, saved, snapshot
from samples import picture, write_own

import count
import main
from cli import command as cli_command
from input import folders
from input.folders import look, read
from schedules import collate, estimate, generate
from schedules import run as schedules_run
from system.errors import RequestError

NETWORK = ["--wrn_depth", "10", "--wrn_width", "1", "--epochs", "2", "--batch_size", "8"]
TEACHER = ["folder:leaves", "teacher", "-t", "t", *NETWORK]


@pytest.fixture
def leaves(workplace):
    return write_own(workplace / "leaves")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the run `t` and what it was trained on. Copy it before writing there."""
    folder = tmp_path_factory.mktemp("own")
    write_own(folder / "leaves")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main.main([*TEACHER, "--test_every", "2"]) == 0
    return folder


def age(folder: Path) -> None:
    """As if its files had lain there for long: only then may what was read of them be kept."""
    for path in folder.rglob("*"):
        os.utime(path, ns=(10**18, 10**18))


def read_own(folder: Path, image_size=None, keep=True):
    own = look(str(folder), image_size)
    return read(own, own.side, image_size is not None, 2, keep)


def test_what_is_read(leaves):
    (leaves / "train/elm/deeper").mkdir(), (leaves / "train/elm/0.png").rename(leaves / "train/elm/deeper/0.png")
    (leaves / "train/ash/notes.txt").touch(), (leaves / "train/.hidden").mkdir()
    images = read_own(leaves)
    assert images.train.shape == (18, 12, 12, 3) and images.classes == ("ash", "elm", "oak")
    assert images.train_labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6 and len(images.test) == 6
    assert images.train[..., 0][images.train_labels == 0].min() >= 120
    pixels = images.train.reshape(-1, 3) / 255
    np.testing.assert_allclose(images.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(images.std, pixels.std(0), rtol=1e-12)


def test_classes_that_are_numbers_keep_them(workplace):
    images = read_own(write_own(workplace / "n", [str(number) for number in range(11)], count=1))
    assert images.train_labels.tolist() == [0, 1, 10, *range(2, 10)] and images.classes[2] == "2"


def test_what_was_decoded_is_kept_until_a_file_changes(leaves, capsys):
    read_own(leaves)
    assert not list(leaves.parent.glob("*.npz"))  # a file that is so young might change again, unnoticed
    age(leaves)
    first = read_own(leaves)
    assert [path.name for path in leaves.parent.glob("*.npz")] == ["leaves.decoded-12.npz"]
    capsys.readouterr()
    again = read_own(leaves)
    assert capsys.readouterr().err == "" and again.train_digest == first.train_digest and again.mean == first.mean
    np.testing.assert_array_equal(again.train, first.train)
    path = leaves / "train/ash/3.png"
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    changed = read_own(leaves)
    assert "decoding" in capsys.readouterr().err and changed.train[3, 0, 0, 0] == 255 - first.train[3, 0, 0, 0]
    assert changed.train_digest != first.train_digest and changed.test_digest == first.test_digest


def test_resized_to_its_middle(workplace):
    folder = write_own(workplace / "mixed")
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    Image.fromarray(wide).save(folder / "train/ash/0.png")
    images = read_own(folder, image_size=10)
    assert images.train.shape[1:] == (10, 10, 3) and (images.train[0] == 200).all()
    assert read_own(folder, image_size=12).train_digest == images.train_digest  # that of the files


def missing(folder, *names):
    for name in names:
        shutil.rmtree(folder / name)


def replaced(folder, name, contents):
    (folder / name).write_bytes(contents)


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda f: missing(f, "train"), "folder:leaves has no folder train/ (there are: test); the layout is"),
        (lambda f: missing(f, "test"), "folder:leaves has no folder test/ (or val/) (there are: train)"),
        (lambda f: missing(f, "train/ash", "train/elm", "test/ash", "test/elm"), "has one class, 'oak': 2 to 1,000"),
        (lambda f: missing(f, "test/elm"), "the class 'elm' has images in train/, but none in test/"),
        (lambda f: missing(f, "train/elm"), "the class 'elm' has images in test/, but none in train/"),
        (lambda f: missing(f, "train/ash", "train/elm", "train/oak"), "train/ has no images in folders of classes"),
        (lambda f: replaced(f, "train/ash/0.png", b"a text"), "train/ash/0.png cannot be used: cannot identify image"),
        (lambda f: replaced(f, "train/oak/5.png", b"a text"), "train/oak/5.png cannot be used: cannot identify image"),
        (lambda f: replaced(f, "test/oak/1.png", picture(9, size=(8, 8))), "test/oak/1.png is 8×8, train/ash/0.png is 12×12: --image_size"),
        (lambda f: replaced(f, "train/ash/0.png", picture(9, size=(8, 9))), "is 8×9, not square: --image_size N"),
        (lambda f: replaced(f, "train/ash/0.png", picture(9, size=(97, 97))), "larger than 96×96: --image_size N"),
    ],
)  # fmt: skip
def test_what_is_no_dataset(leaves, change, told, capsys):
    change(leaves)
    assert told in refused(capsys, main.main, *TEACHER)[1]


@pytest.mark.parametrize(
    "command, told",
    [
        ("folder:leavs teacher -t t", "folder:leavs is not there; did you mean 'leaves'?"),
        ("folder: teacher -t t", "names no folder"),
        ("leaves teacher -t t", "did you mean 'folder:leaves'?"),
        ("folder:~nobody-of-this-name/x teacher -t t", "cannot be read"),
        ("folder:leaves/train/ash/0.png teacher -t t", "is a file"),
        ("folder:leaves teacher -t t --imagenet_loc x", "--imagenet_loc goes with imagenet, not folder:leaves"),
        ("folder:leaves teacher -t t --download", "--download fetches none of your own"),
        ("folder:leaves teacher -t t --image_size 97", "'97' is not a whole number of at least 1 and at most 96"),
        ("folder:leaves teacher -t t --train_size 19", "--train_size 19: there are 18 training images: at most 18"),
        ("folder:leaves teacher -t t --val_size 8 --train_size 11", "of which --val_size holds out 8: at most 10"),
        ("folder:leaves teacher -t t --network DARTS", "--network DARTS does not take images of 12×12"),
        (
            "folder:leaves teacher -t t --network DARTS",
            "possible are --image_size 32, --network WideResNet or WRN_50_2",
        ),
        ("folder:leaves teacher -t t --network MobileNetV2 --batch_size 17", "MobileNetV2 at 12×12 needs two in each"),
        ("folder:leaves teacher -t ./x.pth --evaluate", "cannot be read"),
    ],
)
def test_what_is_refused(leaves, command, told, capsys):
    assert told in refused(capsys, main.main, *command.split())[1]


def test_a_run_needs_no_folder_to_be_restored(trained, workplace, capsys, monkeypatch):
    """Its record has the classes and the side: it teaches on another folder, is tested on one and is started from."""
    shutil.copytree(trained, workplace, dirs_exist_ok=True)
    config = json.loads(Path("runs/t/config.json").read_text())["config"]
    assert (config["dataset"], config["image_size"], config["data_classes"]) == ("folder:leaves", 12, 3)
    assert (config["data_names"], config["data_train"], config["data_test"]) == ("ash/elm/oak", 18, 6)
    assert config["cutout"] == 6 and saved(workplace, "t")["config"] == config
    assert [("test_top1_error" in row, "best_test_top1_error" in row) for row in rows_of(workplace, "t")] == [
        (False, False), (True, True),
    ]  # fmt: skip
    assert rows_of(workplace, "t")[1]["test_top5_error"] == 0  # of three classes
    shutil.move("leaves", "elsewhere and renamed")
    monkeypatch.setenv("HOME", str(workplace))
    place = "folder:~/elsewhere and renamed"
    assert main.main([place, *TEACHER[1:], "--test_every", "2", "--resume"]) == 0
    assert "t is finished" in capsys.readouterr().out
    assert main.main([place, "teacher", "-t", "t", "--evaluate"]) == 0
    out = capsys.readouterr().out
    assert "other test images" not in out and f"Error@1 {rows_of(workplace, 't')[-1]['test_top1_error']:.2f}" in out
    write_own(workplace / "others", side=16, test="val", seed=1)
    assert main.main(["folder:others", "teacher", "-t", "t", "--evaluate"]) == 0
    out = capsys.readouterr().out
    assert "these are other test images than t was tested on in training (6 of folder:leaves)" in out and "12×12" in out
    write_own(workplace / "large", side=100)  # which could not be trained on without --image_size
    assert main.main(["folder:large", "teacher", "-t", "t", "--evaluate"]) == 0
    assert "12×12" in capsys.readouterr().out
    student = ["folder:others", "student", "-t", "t", "-s", "s", *NETWORK, "--init_from", "t"]
    assert main.main(student) == 0
    out, err = capsys.readouterr()
    assert "warning: the teacher 't' was trained on other data: other images by digest" in err
    assert json.loads(Path("runs/s/config.json").read_text())["teacher_data"]["data_digest"] == config["data_digest"]
    write_own(workplace / "beeches", ["ash", "beech", "oak"]), write_own(workplace / "two", ["ash", "oak"])
    told = refused(capsys, main.main, "folder:beeches", *student[1:4], "-s", "b", *NETWORK)[1]
    assert "trained on folder:leaves (3 classes: ash/elm/oak), not folder:beeches (3 classes: ash/beech/oak)" in told
    told = refused(capsys, main.main, "folder:two", "teacher", "-t", "b", *NETWORK, "--init_from", "t")[1]
    assert "--init_from t: folder:two has 2 classes, that network 3" in told
    assert "folder:two (2 classes)" in refused(capsys, main.main, "folder:two", "teacher", "-t", "t", "--evaluate")[1]


def test_other_images_are_another_run(trained, workplace, capsys):
    shutil.copytree(trained, workplace, dirs_exist_ok=True)
    Path("leaves/train/elm/5.png").unlink()
    before = snapshot(Path("runs")) | snapshot(Path("checkpoints"))
    assert cli_command.run(lambda: main.main([*TEACHER, "--test_every", "2", "--resume"])) == 2
    assert "(18 training images then, 17 now; other training images by digest)" in capsys.readouterr().err
    assert snapshot(Path("runs")) | snapshot(Path("checkpoints")) == before


def test_networks_for_large_images_take_it_too(leaves, capsys):
    command = [*TEACHER[:4], "--network", "MobileNetV2", "--image_size", "32", "--batch_size", "6", "--lr", "1e-4"]
    assert main.main([*command, "--dry_run"]) == 0
    assert "18 training images, 6 test images, 3 classes (ash, elm, oak)" in capsys.readouterr().out
    assert count.main(["folder:leaves", "--network", "WRN_50_2", "--image_size", "64", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["params"] == 68_883_240 - 997 * 2049


def test_counted_at_its_side_and_classes(leaves, capsys):
    def counted(*flags):
        assert count.main(["folder:leaves", *NETWORK[:4], "--json", *flags]) == 0
        return json.loads(capsys.readouterr().out)

    own, larger = counted(), counted("--image_size", "24")
    assert own["params"] == larger["params"] == 77_850 - 65 * 7 and own["image_size"] == 12
    convolutions = [costs["mult_adds_exact"] - 3 * 64 for costs in (own, larger)]
    assert convolutions[1] == 4 * convolutions[0]
    assert counted("--conv", "SepHashed", "--budget", "1e4")["params"] == pytest.approx(10_000, rel=0.01)


failed = subprocess.CompletedProcess([], 2, "", "error: as the test wants it")


def test_a_study_of_it(leaves, capsys, monkeypatch):
    """From its schedule to its table; the same folder by another name is the same data."""
    assert generate.main(["digits", "--dataset", "folder:leaves", "--convs", "ACDC_3", "--", *NETWORK]) == 0
    jobs = json.loads(Path("digits.leaves.json").read_text())
    assert [job[2] for job in jobs] == ["folder:leaves"] * 3 and jobs[0][5] == "digits.leaves.teacher"
    for job in jobs[:2]:
        assert main.main(job[2:]) == 0
    write_own(Path("others"), names=("ash", "elm", "oak"), seed=5), shutil.copytree("leaves", "renamed")
    for name, seed, place in (("a", "1", "leaves"), ("b", "2", "renamed"), ("c", "3", "others")):
        assert main.main([f"folder:{place}", "teacher", "-t", name, *NETWORK, "--seed", seed]) == 0
    capsys.readouterr()
    commands = []
    with monkeypatch.context() as patch:  # each would take seconds, in a folder of its own
        patch.setattr(estimate.subprocess, "run", lambda command, **_: commands.append(command) or failed)
        assert cli_command.run(lambda: schedules_run.main(["digits.leaves.json", "--dry_run"])) == 2
    *_, measured = [each for each in commands if "--dry_run" in each]
    assert measured[2:4] == [f"folder:{leaves}", "teacher"]
    assert collate.main(["-o", "study"]) == 0
    runs = {each["name"]: each for each in json.loads(Path("study.json").read_text())["runs"]}
    assert runs["a"]["group"] == runs["b"]["group"] == runs["digits.leaves.teacher"]["group"] != runs["c"]["group"]
    assert runs["c"]["data_digest"] != runs["a"]["data_digest"] and runs["a"]["data_train"] == 18


def test_measured_in_parts(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (5000, 4, 4, 3), dtype=np.uint8)
    images[..., 2] = 7
    mean, std = folders.measure(images)
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)) / 255)
    np.testing.assert_allclose(std[:2], images.std((0, 1, 2))[:2] / 255)
    assert std[2] == 1  # instead of 0, by which nothing can be divided


def test_an_image_that_is_cut_off(leaves, capsys):
    path = leaves / "train/oak/4.png"
    path.write_bytes(path.read_bytes()[:100])
    assert cli_command.run(lambda: main.main(TEACHER)) == 4
    assert "train/oak/4.png cannot be used" in capsys.readouterr().err and not Path("runs").exists()


@pytest.mark.long
def test_two_processes_read_the_same(leaves):
    ranks = Ranks(2, *TEACHER, "--train_size", "16", cwd=leaves.parent)
    assert ranks.wait() == [0, 0] and ranks.stdout.count("16 of its 18 training images") == 1
    config = saved(leaves.parent, "t")["config"]
    one = ["folder:leaves", "teacher", "-t", "t", "--evaluate"]
    assert main.main(one) == 0 and config["train_size"] == 16


def test_an_allocation_that_is_refused_later_leaves_nothing_behind(trained, workplace, monkeypatch, capsys):
    """And one that is not decodes the images once, although they are read for it and for the training."""
    shutil.copytree(trained, workplace, dirs_exist_ok=True)
    age(workplace / "leaves")
    for kept in workplace.glob("*.npz"):
        kept.unlink()
    run = ["folder:leaves", "teacher", "-t", "a", *NETWORK, "--epochs", "1", "--init_from", "t", "--budget", "45000"]
    run += ["--conv", "groups.2.0.conv2=Generic", "--allocate", "--fit_effort", "0.02"]
    prepare = main.prepare

    def refuse(*arguments):
        prepare(*arguments)
        raise RequestError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(main, "prepare", refuse)
        assert refused(capsys, main.main, *run)[1] == "error: refused"
    assert main.main(run) == 0 and capsys.readouterr().err.count("decoding") == 1
    assert [path.name for path in workplace.glob("*.npz")] == ["leaves.decoded-12.npz"]
