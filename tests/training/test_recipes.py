"""Recipes from the command line: what is resolved, what a run makes of it, and a run that --until ends early."""

import json

import torch
from results import rows_of, same_run, saved, snapshot

import main
import schedules.list
from cli import options
from distributed.process_group import ALONE
from input.augment import Augmentation
from record import reader
from record.identity import differences
from record.paths import RUNS
from training.optim import SGD, Adam
from training.prepare import assemble, prepare

SMALL = "--wrn_depth 10 --wrn_width 0.25 --train_size 48 --batch_size 16 --epochs 3".split()
RECIPE = [
    *"digits teacher -t r --conv Tucker_0.5 --structured_lr auto --optimizer adamw --schedule linear --reestimate_bn 2".split(),
    *"--lr_points [[0,0],[2,0.02],[3,0]] --cutout_inside --pad reflect".split(),
    *SMALL, "--test_every", "3",
]  # fmt: skip
NEITHER = {"lr_points": None, "epoch_step": None, "restart_epochs": None, "restart_mult": None, "lr_decay_ratio": None}


def resolved(text, *names):
    asked = options.training(text.split())
    return {name: asked[name] for name in names or ("lr", "momentum", "nesterov", "schedule", "epochs", *NEITHER)}


def test_a_run_that_until_ends_goes_on(workplace, capsys, monkeypatch):
    """Its epochs are those of the unbroken run, to the bit; it is incomplete, not failed."""
    (workplace / "whole").mkdir()
    monkeypatch.chdir(workplace / "whole")
    assert main.main(RECIPE) == 0
    monkeypatch.chdir(workplace)
    capsys.readouterr()
    assert main.main([*RECIPE, "--until", "1"]) == 0
    said = capsys.readouterr().out
    assert "1 of 3 epochs: the same command with a later --until, or none, and --resume goes on" in said
    assert "learning rate by epoch 0 at 0, 0.02 at 2, 0 at 3, straight between at every step" in said
    assert "structured parameters, 0.167 of the learning rate" in said
    before = saved(workplace, "r")
    there = snapshot(workplace)
    assert main.main([*RECIPE, "--until", "1", "--resume"]) == 0
    assert snapshot(workplace) == there
    assert "1 of 3 epochs are done, nothing is left to do until then" in capsys.readouterr().out
    assert saved(workplace, "r")["epoch"] == before["epoch"] == 1
    record = reader.read(RUNS / "r")
    end = json.loads((workplace / "runs/r/end.json").read_text())
    assert (record.state, record.reason) == ("incomplete", "ended by --until; 1 of 3 epochs are kept")
    assert (end["status"], end["cause"], end["resumable"], end["epochs"], end["steps"]) == (0, "until", True, 1, 0)
    assert main.main([*RECIPE, "--until", "2", "--resume", "--dry_run"]) == 0
    assert "for 1 epochs, 0 of which test, 1 are done, until epoch 2 of 3" in capsys.readouterr().out
    assert main.main([*RECIPE, "--until", "2", "--resume"]) == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("sys.argv", ["main.py", *RECIPE, "--until", "2"])
        assert schedules.list.main([]) == 0
    assert "1 runs: 1 paused" in capsys.readouterr().out
    assert main.main([*RECIPE, "--resume"]) == 0
    assert "with batch-norm's statistics taken anew" in capsys.readouterr().out
    assert same_run(workplace / "whole", workplace, "r") and not (workplace / "runs/r/end.json").exists()
    assert ["test_reestimated_loss" in row for row in rows_of(workplace, "r")] == [False, False, True]


def test_the_command_that_goes_on_is_the_last_without_an_until_that_is_reached():
    record = reader.Record(RUNS / "r", {"argv": ["main.py", *SMALL, "--until", "2", "--until=1", "--resume"]}, [])
    assert schedules.list.repeat(record) == f"python main.py {' '.join(SMALL)} --until 2 --until 1 --resume"
    record.lines = [b"{}"] * 2
    assert schedules.list.repeat(record) == f"python main.py {' '.join(SMALL)} --resume"
    record.document["resumed"] = [{"argv": ["main.py", *SMALL]}, {"argv": ["main.py", *SMALL, "--until", "3", "-r"]}]
    assert schedules.list.repeat(record) == f"python main.py {' '.join(SMALL)} --until 3 --resume"


def test_the_preset_of_resnet9_and_what_overrides_it():
    resnet9 = "cifar10 teacher -t x --network ResNet9"
    assert resolved(resnet9, "batch_size", "weight_decay", "cutout", "cutout_inside", "pad", "augment") == {
        "batch_size": 512, "weight_decay": 5e-4, "cutout": 8, "cutout_inside": True, "pad": "reflect", "augment": "full",
    }  # fmt: skip
    own = {"momentum": 0.9, "nesterov": True, "schedule": "linear", **NEITHER}
    points = [[0, 0], [5, 0.4], [24, 0]]
    assert resolved(resnet9) == {**own, "lr": 0.4, "epochs": 24, "lr_points": points}
    longer = resolved(f"{resnet9} --epochs 30 --lr 0.2")
    assert longer == {**own, "lr": 0.2, "epochs": 30, "lr_points": [[0, 0], [6.25, 0.2], [30, 0]]}
    given = resolved(f"{resnet9} --epochs 48 --lr_points [[0,1e-2],[3,0.3],[48,1e-3]]")
    assert given == {**own, "lr": 0.3, "epochs": 48, "lr_points": [[0, 1e-2], [3, 0.3], [48, 1e-3]]}
    cosine = {**own, "schedule": "cosine", "lr": 0.2}
    assert resolved(f"{resnet9} --schedule cosine --epochs 128") == {**cosine, "epochs": 128}
    assert resolved("digits teacher -t x --network ResNet9") == {**cosine, "epochs": 30}
    adam = resolved(f"{resnet9} --optimizer adam")
    assert adam == {**own, "nesterov": None, "lr": 1e-3, "epochs": 24, "lr_points": [[0, 0], [5, 1e-3], [24, 0]]}
    for flag in ("--no_nesterov", "--momentum 0"):
        assert resolved(f"{resnet9} {flag}", "nesterov") == {"nesterov": None}
    augmented = ("cutout", "cutout_inside", "pad")
    for flag, expected in {
        "--augment crop": (0, None, "reflect"),
        "--augment none": (0, None, None),
        "--pad zero": (8, True, None),
        "--cutout 0": (0, None, "reflect"),
        "--cutout 40": (40, None, "reflect"),
    }.items():
        assert tuple(resolved(f"{resnet9} {flag}", *augmented).values()) == expected, flag


def test_defaults_are_neutral():
    """A run that names them is the run that does not, and is that of before there were any."""
    flags = "cifar10 teacher -t x --optimizer sgd --pad zero --no_nesterov --no_cutout_inside --structured_lr 1 --momentum 0.9"
    neutral, plain = (options.training(text.split()) for text in (f"{flags} --reestimate_bn 0 --until 200", flags[:20]))
    assert neutral == plain
    added = {"optimizer", "nesterov", "pad", "cutout_inside", "structured_lr", *NEITHER} - {
        "epoch_step",
        "lr_decay_ratio",
    }
    assert all(plain[name] is None for name in (*added, "until", "reestimate_bn"))
    before = {name: value for name, value in plain.items() if name not in added}
    assert differences(before, plain) == [] and differences(plain, plain | {"until": 3, "reestimate_bn": 2}) == []
    for changed in ({"nesterov": True}, {"optimizer": "adam"}, {"pad": "reflect"}, {"structured_lr": "auto"}):
        assert len(differences(before, plain | changed)) == 1
    for given, rate in {
        "Hashed_0.1": "shared", "groups.0=Hashed_0.1,.*=Sep": "shared", "HashedDecimate": "shared", "SepHashed_0.1": None,
        "OriginalACDC_4": "shared", "Tucker_0.5": "shared", "ACDC": None, "TensorTrain_0.5": None, "groups.0=Tucker_0.5": "shared",
        "Hashed_0.1 --structured_lr 1": None, "Hashed_0.1 --optimizer adam": None, "Hashed --budget 5e5": "shared",
    }.items():  # fmt: skip
        assert resolved(f"cifar10 teacher -t x --conv {given}", "structured_lr") == {"structured_lr": rate}, given
    hashed = {"conv": "Hashed_0.1", "structured_lr": "shared"}
    assert differences(hashed | {"structured_lr": None}, hashed) == [
        "structured_lr was 1, is shared by its preset; --structured_lr 1 goes on with it"
    ]
    assert differences({"conv": "Sep", "structured_lr": None}, hashed)[1] == "structured_lr was 1, is shared"
    assert resolved("cifar10 teacher -t x --schedule sgdr", *NEITHER) == NEITHER | {
        "restart_epochs": 10,
        "restart_mult": 2,
    }
    assert resolved("cifar10 teacher -t x --optimizer adamw --momentum 0.8", "lr", "momentum") == {
        "lr": 1e-3,
        "momentum": 0.8,
    }
    assert resolved("cifar10 teacher -t x --optimizer adamw --lr 0.1", "lr") == {"lr": 0.1}


def test_every_setting_reaches_the_run(workplace):
    def made(flags):
        request = options.training([*"digits teacher -t r --conv Generic_0.5".split(), *SMALL, *flags.split()])
        prepared = prepare(request, torch.device("cpu"), ALONE)
        return assemble(prepared, torch.device("cpu"), ALONE), prepared.data

    step, data = made("--nesterov --structured_lr auto --pad reflect --cutout_inside --lr 0.2 --reestimate_bn 3")
    optimizer = step.optimizer
    assert (type(optimizer), optimizer.nesterov, data.reestimate_bn) == (SGD, True, 3)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.1]
    assert data.augmentation == Augmentation(True, False, 16, cutout_inside=True, reflect=True)
    step, data = made("--optimizer adam --schedule linear --lr_points [[0,0.01],[3,0]] --momentum 0.8")
    assert (type(step.optimizer), data.reestimate_bn, data.augmentation) == (Adam, 0, Augmentation(True, False, 16))
    assert [(group["lr"], group["momentum"]) for group in step.optimizer.param_groups] == [(0.01, 0.8)] * 2
