"""Each of the smaller networks is trained, resumed to the bit, and teaches a swapped one of its kind, on the smallest images."""

import pytest
from samples import write_own
from taught import taught_and_resumed

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
    run = ["folder:leaves", "--network", network, "--batch_size", "3", "--lr", "1e-3"]
    run += ["--width_mult", WIDTHS[network]] if network in WIDTHS else []
    taught_and_resumed(workplace, run, "Generic_0.5")


def test_every_network_has_runs_here_or_in_other_tests():
    assert set(NETWORKS) - set(SIDES) == {"WideResNet", "DARTS", "WRN_50_2", "MobileNetV2"}
