"""main.py on photographs: training, --evaluate, --resume, several processes, shards, a student of published weights."""

import os
import shutil
import signal

import pytest
import torch
from children import Child
from photo_samples import photographs, write_shards, write_tar
from ranks import Ranks
from references import torchvision
from results import same, saved, snapshot

import main
from cli import command as cli_command
from input.places import find
from system.errors import RequestError

NETWORK = ["--network", "MobileNetV2", "--width_mult", "0.1", "--image_size", "64", "--batch_size", "5"]
TEACHER = ["imagenet", "teacher", "-t", "t", *NETWORK, "--epochs", "2", "--lr", "0.01", "--workers", "1"]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The same photographs as a tree and as shards."""
    folder = tmp_path_factory.mktemp("photographs")
    files = photographs()
    for name, contents in files.items():
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tree" / name).write_bytes(contents)
    return {"tree": str(folder / "tree"), "shards": write_shards(folder / "shards", files)}


@pytest.fixture(scope="module")
def trained(places, tmp_path_factory):
    """A folder with the run `t`, which no other test has changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    folder.mkdir()
    assert Child(*TEACHER, "--imagenet_loc", places["tree"], cwd=folder).wait() == 0
    return folder


def test_stopped_within_an_epoch_it_goes_on_to_the_same_end(trained, places, workplace):
    """12 images, 3 steps an epoch; the decoding processes are other ones after it."""
    command = [*TEACHER, "--imagenet_loc", places["tree"]]
    child = Child(*command, cwd=workplace, pause=("step", 3, 0.5))
    assert child.reaches_pause()
    child.send(signal.SIGTERM)
    assert child.wait() == 143 and (saved(workplace, "t")["epoch"], saved(workplace, "t")["step"]) == (1, 1)
    more = ["--resume", "--workers", "2"]
    assert Child(*command, *more, cwd=workplace).wait() == 0
    whole, again = saved(trained, "t"), saved(workplace, "t")
    assert all(same(whole[part], again[part]) for part in whole if part != "config")


@pytest.mark.parametrize(
    "count, place",
    [(1, "shards"), pytest.param(2, "tree", marks=pytest.mark.long), pytest.param(2, "shards", marks=pytest.mark.long)],
)
def test_evaluate_is_the_last_test_and_writes_nothing(trained, places, place, count, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(trained / "cache"))
    before = snapshot(trained)
    command = ["imagenet", "teacher", "-t", "t", *NETWORK, "--evaluate", "--imagenet_loc", places[place]]
    ranks = Ranks(count, *command, cwd=trained)
    assert ranks.wait() == [0] * count
    last = saved(trained, "t")["rows"][-1]
    assert ranks.stdout.splitlines()[0] == "t: MobileNetV2 (width_mult 0.1) with Conv"
    assert (
        ranks.stdout.splitlines()[-1] == f"Error@1 {last['test_top1_error']:.2f} Error@5 {last['test_top5_error']:.2f}"
    )
    assert snapshot(trained) == before


@pytest.mark.long
def test_shards_in_two_processes(places, workplace):
    ranks = Ranks(2, *TEACHER, "--imagenet_loc", places["shards"], "--batch_size", "3", cwd=workplace)
    assert ranks.wait() == [0, 0]
    assert len(saved(workplace, "t")["rows"]) == 2


def test_a_student_of_published_weights(places, workplace, capsys):
    """Three steps with attention transfer from torchvision's network; the table of the mapping is printed."""
    torch.save(torchvision.models.mobilenet_v2().state_dict(), "weights.pth")
    student = ["imagenet", "student", "-t", "./weights.pth", "-s", "s", "--conv", "SepHashed_0.5", *NETWORK]
    student = [*student, "--width_mult", "1", "--epochs", "1", "--workers", "1", "--imagenet_loc", places["tree"]]
    assert main.main(student) == 0
    out = capsys.readouterr().out
    assert "features.18.0" in out and "head.0" in out and saved(workplace, "s")["rows"][0]["train_loss_attention"] > 0
    assert main.main(["imagenet", "teacher", "-t", "./weights.pth", "--evaluate", *student[-2:], *NETWORK]) == 0
    assert "Error@1 " in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--evaluate", "--resume"], "--evaluate only tests a trained network, --resume does not go with it"),
        (["--evaluate", "--dry_run"], "--evaluate only tests a trained network, --dry_run does not go with it"),
        (["--evaluate"], "no run 't': checkpoints/t.pt does not exist"),
        (["--imagenet_loc", "nowhere"], "--imagenet_loc 'nowhere' is not there"),
        (["--image_size", "63"], "argument --image_size: '63' is not a whole number of at least 64"),
        (["--network", "WideResNet", "--image_size", "64"], "--network WideResNet takes "),
        (["--grad_accum", "0"], "argument --grad_accum: '0' is not a whole number of at least 1"),
    ],
)
def test_what_is_refused(flags, told, places, workplace, capsys):
    base = ["imagenet", "teacher", "-t", "t", "--network", "MobileNetV2", "--imagenet_loc", places["tree"]]
    assert cli_command.run(lambda: main.main([*base, *flags])) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {told}") and list(workplace.iterdir()) == []


def test_a_trained_network_is_tested_as_its_checkpoint_says(trained, places, monkeypatch, capsys):
    """Neither --image_size nor --width_mult has to be given again."""
    monkeypatch.chdir(trained)
    command = ["imagenet", "teacher", "-t", "t", "--network", "WRN_50_2", "--evaluate", "--batch_size", "5"]
    assert main.main([*command, "--workers", "1", "--imagenet_loc", places["tree"]]) == 0
    last = saved(trained, "t")["rows"][-1]
    first, where, errors = capsys.readouterr().out.splitlines()
    assert first == "t: MobileNetV2 (width_mult 0.1) with Conv" and where.endswith("12 of 12 test images, 64×64")
    assert errors == f"Error@1 {last['test_top1_error']:.2f} Error@5 {last['test_top5_error']:.2f}"


def test_damaged_images_are_counted_in_the_metrics(places, workplace):
    shutil.copytree(places["tree"], workplace / "tree")
    for split, count in (("train", 2), ("val", 1)):
        for path in sorted((workplace / "tree" / split).glob("*/*"))[:count]:
            path.write_bytes(path.read_bytes()[:300])
    ranks = Ranks(2, *TEACHER, "--imagenet_loc", "tree", cwd=workplace)
    assert ranks.wait() == [0, 0]
    for row in saved(workplace, "t")["rows"]:
        assert (row["train_left_out"], row["test_left_out"]) == (2, 1)
    assert ranks.stdout.count("2 train images left out  1 test images left out") == 2


def test_testing_needs_no_training_images(trained, places, workplace, monkeypatch, capsys):
    """Where the class folders say which of the 1000 they are. (That they have to: test_labels.)"""
    shutil.copytree(f"{places['tree']}/val", workplace / "only" / "val")
    monkeypatch.chdir(trained)
    command = ["imagenet", "teacher", "-t", "t", *NETWORK, "--evaluate", "--workers", "1", "--imagenet_loc"]
    assert main.main([*command, places["tree"]]) == 0
    whole = capsys.readouterr().out.splitlines()[-1]
    assert main.main([*command, str(workplace / "only")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == whole
    with pytest.raises(RequestError, match="has no folder train/"):
        find("imagenet", None, imagenet_loc=str(workplace / "only"))


def test_what_is_passed_over_is_told_of_every_split_always(places, workplace, capsys):
    """As the index is made, from what is kept of it, in a dry run, in testing alone."""
    shutil.copytree(places["tree"], "tree")
    for name in (
        "train/n01440764/b.heic",
        "train/n01440764/a.heic",
        "val/n01443537/deep/c.heic",
        "val/n01443537/Thumbs.db",
    ):
        (workplace / "tree" / name).parent.mkdir(exist_ok=True)
        (workplace / "tree" / name).write_bytes(b"x")
    files = {name.partition("/")[2]: data for name, data in photographs(1).items() if name.startswith("train")}
    for split, odd in (("train", "n01440764/b.heic"), ("val", "n02102040/x.cls")):
        write_tar(workplace / f"s-{split}-0.tar", files | {odd: b"1", "README.md": b"x"})
    for path in workplace.rglob("*"):
        os.utime(path, (1e9, 1e9))
    expected = {
        "tree": ["2 files of tree (train) passed over, the first one is n01440764/a.heic: images are", "1 file of tree (val) passed over, n01443537/deep/c.heic: images are"],
        "s-{train,val}-{0..}.tar": ["1 file of s-{train,val}-{0..}.tar (1 train and 1 val shards) (train) passed over, s-train-0.tar: n01440764/b.heic: images are", "(val) passed over, s-val-0.tar: n02102040/x.cls: no image goes with it"],
    }  # fmt: skip
    for place, lines in expected.items():
        base = ["imagenet", "teacher", "-t", "t" + place[0], *NETWORK, "--workers", "1", "--imagenet_loc", place]
        for more in (["--dry_run"], ["--epochs", "1"], ["--epochs", "1", "--resume"], ["--evaluate"]):
            capsys.readouterr()
            assert main.main([*base, *more]) == 0
            err = capsys.readouterr().err
            told = [line for line in err.splitlines() if "passed over" in line]
            assert len(told) == 2 and all(line in each for line, each in zip(lines, told)), told
            assert all(line.startswith("warning: ") for line in told) and ("indexing" in err) == (
                more in (["--dry_run"], ["--epochs", "1"])
            )
