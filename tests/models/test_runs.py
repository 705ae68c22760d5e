"""Each of the smaller networks is trained, resumed to the bit, and teaches a swapped one of its kind, on the smallest images."""

import shutil

import pytest
from results import rows_of, same_run, saved
from samples import write_own

import main
from models.registry import NETWORKS

SIDES = {  # on which a map of the last tap has more than a pixel, where that is possible
    "ResNet9": 32,
    "CifarResNet18": 16,
    "CifarResNet50": 16,
    "VGG16": 32,
    "MobileNetV1": 32,
    "AllConv": 8,
    "MCifarNet": 8,
    "SqueezeNet": 33,
}
WIDTHS = {"CifarResNet50": "0.125", "MobileNetV1": "0.125"}
SLOW = ("ResNet9", "CifarResNet18", "CifarResNet50", "VGG16")


@pytest.mark.parametrize(
    "network", [pytest.param(each, marks=pytest.mark.long if each in SLOW else ()) for each in SIDES]
)
def test_it_is_taught_by_its_like_and_resumed_to_the_bit(network, workplace):
    write_own(workplace / "leaves", count=2, side=SIDES[network])
    run = ["folder:leaves", "--network", network, "--batch_size", "3", "--epochs", "2", "--lr", "1e-3"]
    run += ["--width_mult", WIDTHS[network]] if network in WIDTHS else []
    assert main.main([*run, "teacher", "-t", "t", "--epochs", "1"]) == 0
    student = [*run, "student", "-t", "t", "-s", "s", "--conv", "Generic_0.5", "--checkpoint_every", "1"]
    assert main.main(student) == 0
    first, second = rows_of(workplace, "s")
    assert first["train_loss_attention"] > 0 and second["train_loss"] != first["train_loss"]
    whole = workplace / "whole"
    for folder in ("checkpoints", "runs"):
        shutil.copytree(workplace / folder, whole / folder)
    (workplace / "checkpoints/s.pt.previous").replace(workplace / "checkpoints/s.pt")  # as a step earlier
    assert saved(workplace, "s")["epoch"] == 1
    assert main.main([*student, "--resume"]) == 0
    assert same_run(whole, workplace, "s")


def test_every_network_has_runs_here_or_in_other_tests():
    assert set(NETWORKS) - set(SIDES) == {"WideResNet", "DARTS", "WRN_50_2", "MobileNetV2"}
