"""Presets, flags that win, combinations that make no sense, and answers without torch."""

import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import ROOT

from cli import options as cli_options
from input import cache
from system import files


def resolve(text):
    return cli_options.training(text.split())


def test_presets():
    wrn = resolve("cifar10 teacher -t x")
    assert (wrn.batch_size, wrn.epochs, wrn.lr, wrn.schedule, wrn.epoch_step) == (128, 200, 0.1, "step", [60, 120, 160])
    assert (wrn.weight_decay, wrn.lr_decay_ratio, wrn.momentum, wrn.cutout, wrn.conv) == (5e-4, 0.2, 0.9, 16, "Conv")
    assert (wrn.wrn_depth, wrn.wrn_width, wrn.AT_split) == (40, 2.0, 1)
    digits = resolve("digits teacher -t x")
    assert (digits.batch_size, digits.epochs, digits.lr, digits.schedule) == (64, 30, 0.1, "cosine")
    student = resolve("digits student -t x -s y")
    assert (student.alpha, student.beta, student.temperature) == (0.0, 1000.0, 4.0)


def test_presets_of_a_network_for_images_of_two_sides():
    small, large = (resolve(f"{dataset} teacher -t x --network MobileNetV1") for dataset in ("cifar10", "imagenet"))
    assert (small.schedule, small.epoch_step, small.epochs, small.weight_decay) == ("step", [60, 120], 180, 5e-4)
    assert (large.schedule, large.epoch_step, large.epochs, large.weight_decay) == ("cosine", None, 150, 4e-5)
    assert (small.image_size, small.cutout, large.image_size, large.cutout) == (None, 16, 224, 0)
    assert resolve("imagenet teacher -t x --network MobileNetV1 --schedule step").epoch_step == [50, 100]  # of 150
    assert resolve("imagenet teacher -t x --network MobileNetV1 --image_size 128").image_size == 128


def test_a_given_flag_wins():
    options = resolve(
        "digits student -t x -s y --batch_size 5 --epochs 7 --lr 1e-3 --schedule step --epoch_step [3] --weight_decay 0 "
        "--alpha 0. --beta 1e3 --momentum 0 --lr_decay_ratio .5 --cutout 0 --wrn_depth 16 --wrn_width 1.5 --conv Generic_0.10"
    )
    assert (options.batch_size, options.epochs, options.lr, options.weight_decay) == (5, 7, 1e-3, 0)
    assert (options.schedule, options.epoch_step, options.lr_decay_ratio) == ("step", [3], 0.5)
    assert (options.cutout, options.wrn_width, options.conv, options.momentum) == (0, 1.5, "Generic_0.1", 0)


def test_steps_follow_the_number_of_epochs():
    assert resolve("cifar10 teacher -t x --epochs 20").epoch_step == [6, 12, 16]
    assert resolve("cifar10 teacher -t x --epochs 20 --epoch_step [60]").epoch_step == [60]
    assert resolve("digits teacher -t x --schedule step").epoch_step == [9, 18, 24]  # of 30


def test_the_published_commands_parse():
    for command in (
        "cifar10 teacher --conv Generic_0.1 -t wrn_28_10.generic_0.1.Dec18 --wrn_width 10 --wrn_depth 28 --alpha 0. --beta 1e3",
        "cifar10 student --conv Shuffle_4 -t wrn_28_10.patch -s wrn_28_10.shuffle.student.Dec11 --wrn_depth 28 --wrn_width 10 --alpha 0. --beta 1e3",
        "cifar10 teacher --conv TensorTrain_0.1 -t wrn_28_10.tensortrain_0.1.Dec18 --wrn_width 10 --wrn_depth 28 --alpha 0. --beta 1e3",
        "cifar10 student --conv ACDC -t wrn_28_10.patch -s wrn_28_10.acdc.student.Dec11 --wrn_depth 28 --wrn_width 10 --alpha 0. --beta 1e3",
    ):
        assert resolve(command).wrn_depth == 28
    wide = resolve(
        "imagenet student --GPU 0,1,2,3,4 --conv SepHashedDecimate --teacher_checkpoint wrn_50_2.imagenet.modelzoo "
        "--student_checkpoint wrn_50_2.hashed_0.1.Jan7 --imagenet_loc /disk/scratch/datasets/imagenet --network WRN_50_2"
    )
    assert (wide.GPU, wide.batch_size, wide.image_size, wide.cutout) == ([0, 1, 2, 3, 4], 256, 224, 0)
    darts = resolve(
        "cifar10 student --conv Generic_0.12 -t darts.teacher -s darts.generic_0.12.student.Jan12 --network DARTS --alpha 0. --beta 1e3"
    )
    assert (darts.epochs, darts.drop_path_prob, darts.wrn_depth) == (600, 0.2, None)
    assert cli_options.counting("cifar10 --conv SepHashedDecimate --network DARTS".split()).conv == "SepHashedDecimate"


@pytest.mark.parametrize("program", ["main.py", "count.py"])
def test_help_and_wrong_requests_need_no_torch(program, tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    for arguments, status in ((["--help"], 0), (["cifar10", "--wrong"], 2)):
        done = subprocess.run(
            [sys.executable, ROOT / program, *arguments], env=environment, capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == status and "torch was imported" not in done.stderr
        assert len(done.stderr.splitlines()) == (status == 2)
        assert "--wrn_depth" in done.stdout or status == 2


def test_home_in_every_path(tmp_path, monkeypatch):
    """A shell leaves ~ as it is in --flag=~/x, and in the lines of most job scripts' settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA_DIR", "~/d")
    asked = resolve(
        "imagenet student -t ~/w.pth -s x --init_from=~/i.pth --module=~/m.py --imagenet_loc=~/i --data_dir=~/d --network WRN_50_2"
    )
    for path in (asked.teacher_checkpoint, asked.init_from, asked.module, asked.imagenet_loc, asked.data_dir):
        assert path.startswith(f"{tmp_path}/")
    assert files.variable("DATA_DIR") == asked.data_dir
    monkeypatch.setenv("XDG_CACHE_HOME", "~/c")
    assert cache.place(Path("/proc/self/status"), "index").parent == tmp_path / "c" / "swapconv"
    for variable in ("DATA_DIR", "NOT_SET"):
        monkeypatch.setenv("DATA_DIR", "")
        assert files.variable(variable) is None
