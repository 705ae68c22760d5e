"""Whole runs of main.py, and what it refuses because of other runs: one line, exit status 2, nothing written."""

import copy
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from results import snapshot
from samples import tree, write_folder
from small_runs import TINY

import data as data_module
import main
from cli import command, options
from record import checkpoint
from training import registry

SHORT = ["--epochs", "1", "--train_size", "64"]
STUDENT = ["digits", "student", "-t", "t", "-s", "s", *TINY]


def refused(arguments, capsys):
    status = command.run(lambda: main.main(arguments))
    err = capsys.readouterr().err
    assert status == 2 and len(err.splitlines()) == 1 and err.startswith("error: "), err
    return err


def test_teachers_that_do_not_fit(teacher, workplace, capsys):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    write_folder(workplace / "data" / "cifar10", tree())
    saved = torch.load("checkpoints/t.pt", weights_only=True)
    saved["config"] |= {"dataset": "cifar100", "teacher_checkpoint": "hundred"}
    checkpoint.save(Path("checkpoints/hundred.pt"), saved)
    before = snapshot(workplace)
    err = refused(["cifar10", "student", "-t", "hundred", "-s", "s", *TINY], capsys)
    assert "trained on cifar100 (100 classes), not cifar10 (10 classes)" in err
    assert "trained on digits (10 classes), not cifar10" in refused(["cifar10", "student", *STUDENT[2:]], capsys)
    assert "did you mean 't'?" in refused(["digits", "student", "-t", "tt", "-s", "s", *TINY], capsys)
    assert snapshot(workplace) == before


def test_student_metrics_and_teacher_file(teacher, workplace, capsys):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    before = (workplace / "checkpoints/t.pt").read_bytes()
    assert main.main([*STUDENT, "--conv", "Generic_0.5", "--alpha", "0.1", "--val_size", "100", "--epochs", "1"]) == 0
    assert (workplace / "checkpoints/t.pt").read_bytes() == before
    out = capsys.readouterr().out
    assert "weight decay 0.0005 on" in out and "structured parameters" in out and "Error@1" in out
    rows = [json.loads(line) for line in (workplace / "runs/s/metrics.jsonl").read_text().splitlines()]
    parts = {key for key in rows[0] if key.startswith("train_loss_")}
    assert parts == {"train_loss_cross_entropy", "train_loss_distillation", "train_loss_attention"}
    assert rows[0]["train_loss"] == pytest.approx(sum(rows[0][part] for part in parts))
    assert {"val_loss", "val_top1_error", "val_top5_error"} <= set(rows[0])
    assert "teacher_digest" in json.loads((workplace / "runs/s/config.json").read_text())["config"]


def test_a_retrained_teacher_is_noticed_at_a_resume(teacher, workplace, capsys):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    student = [*STUDENT, *SHORT]
    assert main.main(student) == 0
    saved = torch.load("checkpoints/t.pt", weights_only=True)
    saved["model"]["classifier.bias"] += 1
    checkpoint.save(Path("checkpoints/t.pt"), saved)
    capsys.readouterr()
    assert "the digest of the teacher's weights was" in refused([*student, "--resume"], capsys)


def test_a_teacher_that_is_another_run_is_told(teacher, workplace, capsys):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    Path("checkpoints/t.pt").rename("checkpoints/u.pt")
    assert main.main(["digits", "student", "-t", "u", "-s", "s", *TINY, *SHORT]) == 0
    assert "warning: checkpoints/u.pt is a checkpoint of the run 't'" in capsys.readouterr().err


def test_an_unfinished_teacher_is_told(teacher, workplace, capsys):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    shutil.copy("checkpoints/t.pt.previous", "checkpoints/t.pt")
    assert main.main([*STUDENT, *SHORT]) == 0
    assert "has only finished 1 of 2 epochs" in capsys.readouterr().err


def test_crs_is_in_the_run(teacher, workplace):
    for flags, scale in (([], None), (["--nocrswd"], 1.0), (["--crs_factor", "2"], None)):
        name = "x" + str(len(flags))
        assert main.main(["digits", "teacher", "-t", name, *TINY, "--conv", "Generic_0.5", *SHORT, *flags]) == 0
        saved = torch.load(f"checkpoints/{name}.pt", weights_only=True)
        ratio = json.loads((workplace / f"runs/{name}/config.json").read_text())["counts"]["crs_ratio"]
        expected = scale or ratio * (2 if "--crs_factor" in flags else 1)
        decays = {group["name"]: group["weight_decay"] for group in saved["optimizer"]["param_groups"]}
        assert decays == {"plain": 5e-4, "structured": 5e-4 * expected}
        shutil.rmtree("checkpoints"), shutil.rmtree("runs")


MODULE = """
import torch
class Conv(torch.nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, bias=False):
        super().__init__()
        self.conv = torch.nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=bias)
        self.gain = torch.nn.Parameter(torch.full((1,), 0.5))
    def forward(self, x):
        return self.gain * self.conv(x)
    def structured_parameters(self):
        return [self.gain]
"""


def test_a_users_module_trains_and_teaches(workplace, capsys):
    (workplace / "mine.py").write_text(MODULE)
    assert main.main(["digits", "teacher", "-t", "own", *TINY, *SHORT, "--module", "mine.py"]) == 0
    assert "6 structured parameters" in capsys.readouterr().out
    state = torch.load("checkpoints/own.pt", weights_only=True)["model"]
    assert "groups.0.0.conv1.gain" in state and "groups.0.0.conv1.conv.weight" in state
    assert main.main(["digits", "student", "-t", "own", "-s", "s", *TINY, *SHORT]) == 0
    (workplace / "mine.py").write_text(MODULE.replace("0.5", "0.6"))
    capsys.readouterr()
    assert "the digest of --module's file was" in refused(
        ["digits", "teacher", "-t", "own", *TINY, *SHORT, "--module", "mine.py", "--resume"], capsys
    )
    assert "as it was when it was trained" in refused(["digits", "student", "-t", "own", "-s", "s2", *TINY], capsys)


USERS_BLOCK = """
from layers.base import ConvSpec
from layers.dense import Conv as Dense

class Conv(Dense):
    def __init__(self, **arguments):
        super().__init__(ConvSpec(**arguments))
"""


def test_a_users_block_is_initialised_and_counted(workplace, capsys):
    (workplace / "mine.py").write_text(USERS_BLOCK)
    assert main.main(["digits", "teacher", "-t", "own", *TINY, *SHORT, "--module", "mine.py", "--lr", "1e-6"]) == 0
    assert "not counted" not in capsys.readouterr().err
    state = torch.load("checkpoints/own.pt", weights_only=True)["model"]
    assert state["groups.2.0.conv2.kernel"].std().item() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.1)


def test_what_main_hands_on():
    """Flags reach the data: digits are never flipped, cutout and val_size are as given."""
    from input.places import find

    def data(text):
        request = options.training(text.split())
        return data_module.load_data(request, find(request.dataset, None), torch.device("cpu"))

    full = data("digits teacher -t x --cutout 5 --val_size 7 --batch_size 9")
    assert (full.augmentation.crop, full.augmentation.flip, full.augmentation.cutout) == (True, False, 5)
    assert (len(full.validation), full.batch_size) == (7, 9)
    none = data("digits teacher -t x --augment none")
    assert (none.augmentation.crop, none.augmentation.flip, none.augmentation.cutout) == (False, False, 0)
    crop = data("digits teacher -t x --augment crop")
    assert (crop.augmentation.crop, crop.augmentation.cutout) == (True, 0)


def test_clipping_reaches_the_run(workplace):
    weights = []
    for name, flags in (("a", []), ("b", ["--clip_grad", "1e-9"])):
        assert main.main(["digits", "teacher", "-t", name, *TINY, *SHORT, "--weight_decay", "0", *flags]) == 0
        weights.append(torch.load(f"checkpoints/{name}.pt", weights_only=True)["model"]["classifier.bias"])
    assert weights[0].abs().max() > 1e-3 and weights[1].abs().max() < 1e-6


@pytest.mark.parametrize(
    "flags", [["--precision", "bf16"], ["--precision", "tf32", "--augment", "none", "--clip_grad", "1"]]
)
def test_flags_that_change_how_a_run_runs(workplace, flags):
    assert main.main(["digits", "teacher", "-t", "x", *TINY, *SHORT, *flags]) == 0


def test_the_seed_decides(workplace):
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        flags = [*SHORT, "--seed", seed, "--conv", "SepHashed_0.5"]
        assert main.main(["digits", "teacher", "-t", name, *TINY, *flags]) == 0
    a, b, c = (torch.load(f"checkpoints/{name}.pt", weights_only=True)["model"]["classifier.weight"] for name in "abc")
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_a_student_starts_from_a_trained_network(teacher, workplace, capsys):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    student = [*STUDENT, "--conv", "Hashed_1", "--init_from", "t", "--epochs", "1", "--lr", "1e-12"]
    assert main.main(student) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("groups.")]
    assert len(table) == 6 and all("Hashed numbers=" in line and line.endswith("0.0000") for line in table)
    before, after = (
        json.loads((workplace / f"runs/{name}/metrics.jsonl").read_text().splitlines()[-1]) for name in "ts"
    )
    assert after["test_top1_error"] == pytest.approx(
        before["test_top1_error"], abs=10
    )  # batch-norms go on a little; 90 % is chance
    assert main.main([*student, "--resume"]) == 0  # is not fitted again
    assert "relative error" not in capsys.readouterr().out
    assert "init_from was t, is not given" in refused([*STUDENT, "--conv", "Hashed_1", "--epochs", "1"], capsys)


def test_a_budget_is_resolved_and_recorded(workplace, capsys):
    run = ["digits", "teacher", "-t", "b", *TINY, *SHORT, "--budget", "1600"]
    assert main.main([*run, "--conv", "SepHashed"]) == 0
    assert "budget: 1,600 parameters asked, 1,600 achieved by SepHashed_0." in capsys.readouterr().out
    config = json.loads((workplace / "runs/b/config.json").read_text())
    assert config["config"]["conv"].startswith("SepHashed_0.") and config["counts"]["params"] == 1600
    assert main.main([*run, "--conv", "SepHashed", "--resume"]) == 0
    assert main.main(["digits", "student", "-t", "b", "-s", "s", *TINY, *SHORT]) == 0
    assert "is out of reach for SepHashed" in refused([*run[:-1], "10", "--conv", "SepHashed"], capsys)


def test_recomputed_activations_are_the_same_run(workplace):
    states = []
    for name, flags in (("a", []), ("b", ["--checkpoint_activations"])):
        flags = ["--conv", "PermutedACDC_3", *SHORT, *flags]
        assert main.main(["digits", "teacher", "-t", name, *TINY, *flags]) == 0
        states.append(torch.load(f"checkpoints/{name}.pt", weights_only=True)["model"])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_darts_presets_and_callbacks():
    request = options.training(["cifar10", "teacher", "-t", "x", "--network", "DARTS"])
    assert (request.conv, request.epochs, request.batch_size, request.lr) == ("Sep", 600, 96, 0.025)
    assert (request.schedule, request.weight_decay, request.clip_grad) == ("cosine", 3e-4, 5.0)
    drop_path, clip = registry.callbacks(request)
    assert (drop_path.probability, clip.norm) == (0.2, 5.0)
    request = options.training(["cifar10", "teacher", "-t", "x", "--network", "DARTS", "--drop_path_prob", "0"])
    assert [type(each).__name__ for each in registry.callbacks(request)] == ["ClipGradient"]


def test_darts_normalises_as_published(tmp_path, monkeypatch):
    import numpy as np

    from input.arrays import Images
    from input.source import Source

    grey = np.full((6, 32, 32, 3), 128, np.uint8)
    source = Source("memory", lambda workers, keep: Images(grey, np.arange(6), grey, np.arange(6)))
    for network, deviations in (("DARTS", (0.2470, 0.2435, 0.2616)), ("WideResNet", (0.2023, 0.1994, 0.2010))):
        request = options.training(["cifar10", "teacher", "-t", "x", "--network", network])
        data = data_module.load_data(request, source, torch.device("cpu"))
        x, _ = next(data.batches(data.test))
        expected = [(128 / 255 - mean) / std for mean, std in zip((0.4914, 0.4822, 0.4465), deviations)]
        assert x[0, :, 0, 0].tolist() == pytest.approx(expected, rel=1e-4)


def test_a_teacher_that_is_damaged_inside(teacher, workplace, capsys):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    good = torch.load("checkpoints/t.pt", weights_only=True)
    for status, told, change in (
        (2, "the weights of the run 't' are not finite", lambda c: c["model"]["conv1.weight"].fill_(torch.nan)),
        (
            4,
            "the checkpoint of 't' does not fit its configuration: .*conv1.weight",
            lambda c: c["model"].pop("conv1.weight"),
        ),
        (
            4,
            "the checkpoint of 't' does not fit its configuration: 'wrn_depth'",
            lambda c: c["config"].pop("wrn_depth"),
        ),
    ):
        damaged = copy.deepcopy(good)
        change(damaged)
        checkpoint.save(Path("checkpoints/t.pt"), damaged)
        assert command.run(lambda: main.main(STUDENT)) == status
        assert re.search(told, capsys.readouterr().err)
        assert not Path("runs/s").exists()
