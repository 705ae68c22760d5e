"""Presets, flags that win, combinations that make no sense, and answers without torch."""

import subprocess
import sys

import pytest
from conftest import ROOT

import options
from errors import RequestError


def resolve(text):
    return options.training(text.split())


def test_presets():
    wrn = resolve("cifar10 teacher -t x")
    assert (wrn.batch_size, wrn.epochs, wrn.lr, wrn.schedule, wrn.epoch_step) == (128, 200, 0.1, "step", [60, 120, 160])
    assert (wrn.weight_decay, wrn.lr_decay_ratio, wrn.momentum, wrn.cutout, wrn.conv) == (5e-4, 0.2, 0.9, 16, "Conv")
    assert (wrn.wrn_depth, wrn.wrn_width, wrn.AT_split) == (40, 2.0, 1)
    digits = resolve("digits teacher -t x")
    assert (digits.batch_size, digits.epochs, digits.lr, digits.schedule) == (64, 30, 0.1, "cosine")
    student = resolve("digits student -t x -s y")
    assert (student.alpha, student.beta, student.temperature) == (0.0, 1000.0, 4.0)


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
    darts = resolve(
        "cifar10 student --conv Generic_0.12 -t darts.teacher -s darts.generic_0.12.student.Jan12 --network DARTS --alpha 0. --beta 1e3"
    )
    assert (darts.epochs, darts.drop_path_prob, darts.wrn_depth) == (600, 0.2, None)
    assert options.counting("cifar10 --conv SepHashedDecimate --network DARTS".split()).conv == "SepHashedDecimate"


REFUSED = [
    ("", "required"),
    ("cifar11 teacher -t x", "unknown dataset 'cifar11'; did you mean 'cifar10'?"),
    ("digits techer -t x", "unknown mode 'techer'; did you mean 'teacher'?"),
    ("digits teacher", "-t/--teacher_checkpoint"),
    ("digits student -t x", "-s/--student_checkpoint"),
    ("digits student -s x", "-t/--teacher_checkpoint"),
    ("digits student -t x -s X", "a student needs a name of its own"),
    ("digits teacher -t x -s y", "-s 'y' is for student mode"),
    ("digits teacher -t ../x", "'../x'"),
    ("digits teacher -t x --wrn_dept 16", "unknown flag '--wrn_dept'; did you mean '--wrn_depth'?"),
    ("digits teacher -t x --epoch 3", "unknown flag '--epoch'; did you mean '--epochs'?"),
    ("digits teacher -t x extra", "unexpected argument 'extra'"),
    ("digits teacher -t x --conv SepHash_0.1", "did you mean SepHashed_s (0 < s <= 1)?"),
    ("digits teacher -t x --network WRN", "unknown network 'WRN'"),
    ("digits teacher -t x --lr 0", "'0' is not a number above 0"),
    ("digits teacher -t x --lr nan", "'nan' is not a number"),
    ("digits teacher -t x --lr inf", "'inf' is not a number"),
    ("digits teacher -t x --epochs 0", "'0' is not a whole number of at least 1"),
    ("digits teacher -t x --epochs 2.5", "'2.5' is not a whole number"),
    ("digits teacher -t x --batch_size -1", "'-1' is not a whole number of at least 1"),
    ("digits teacher -t x --momentum 2", "'2' is not a number of at least 0 and at most 1"),
    ("digits teacher -t x --alpha 1.1", "at most 1"),
    ("digits teacher -t x --schedule steps", "did you mean 'step'?"),
    ("digits teacher -t x --schedule step --epoch_step 60,120", "'60,120' is not a JSON list"),
    ("digits teacher -t x --schedule step --epoch_step [120,60]", "rising epochs"),
    ("digits teacher -t x --schedule step --epoch_step [true]", "'[true]'"),
    ("cifar10 teacher -t x --network DARTS --schedule step", "--schedule step on DARTS needs --epoch_step"),
    ("cifar10 teacher -t x --network DARTS --wrn_width 2", "--wrn_width is not a flag of --network DARTS"),
    ("cifar10 teacher -t x --drop_path_prob 0.2", "--drop_path_prob is not a flag of --network WideResNet"),
    ("cifar10 teacher -t x --network MobileNetV2", "--network MobileNetV2 takes imagenet, not cifar10"),
    ("cifar10 teacher -t x --checkpoint_activations --compile", "does not go with --compile"),
    ("digits teacher -t x --epoch_step [3]", "--epoch_step goes with --schedule step, not cosine"),
    ("digits teacher -t x --augment crop --cutout 8", "--cutout 8 goes with --augment full"),
    ("digits teacher -t x --where [", "'[' is not a regular expression"),
    ("digits teacher -t x --device cpu --GPU 0", "--GPU 0 contradicts --device cpu"),
    ("digits teacher -t x --device tpu", "unknown device 'tpu'"),
    ("digits teacher -t x --conv Sep --module f.py", "give one of them"),
    ("digits teacher -t x --lr_decay_ratio 0.5", "--lr_decay_ratio goes with --schedule step, not cosine"),
    ("digits teacher -t x --nocrswd --crs_factor 2", "--crs_factor 2 contradicts --nocrswd"),
    ("digits teacher -t x --val_size 1500", "--val_size 1500: digits has 1500 images to train on, at most 1499"),
    ("digits teacher -t x --wrn_width 1e12", "at most 1000"),
    ("digits teacher -t x --batch_size 99999999999999999999", "at most 1e+06"),
    ("digits teacher -t x --epochs " + "9" * 400, "is not a whole number"),
    ("digits teacher -t x --epochs 1_0", "'1_0' is not a whole number"),
    ("digits teacher -t x --seed -1", "'-1'"),
]


@pytest.mark.parametrize("text, told", REFUSED)
def test_refused(text, told):
    with pytest.raises(RequestError) as error:
        resolve(text)
    assert told in str(error.value) and "\n" not in str(error.value)


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
