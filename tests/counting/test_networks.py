"""Parameters, mult-adds, taps and every layer of the networks, against three files of figures in tests/.

networks.csv: a row for each network and width. network_layers.csv: a row for each layer (of ResNet-50 with an eighth of its
channels; the wider ones follow from it). resnet9.csv: settings of ResNet-9.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from cli import options
from counting import costs
from counting.measure import output_shapes
from models.build import plain, reference
from models.registry import NETWORKS

FOLDER = Path(__file__).parents[1]


def rows_of(name: str) -> list[dict]:
    return list(csv.DictReader((FOLDER / name).read_text().splitlines()))


ROWS, LAYERS, RESNET9 = map(rows_of, ("networks.csv", "network_layers.csv", "resnet9.csv"))
WIDTHS = [0.125, 0.25, 0.5, 1.0]  # of ResNet50_m1 to _m4
OF_FILE = {  # by the name in network_layers.csv
    "ResNet18": ("cifar10", "CifarResNet18"),
    "MobileNetV1_imagenet": ("imagenet", "MobileNetV1"),
    "SqueezeNet_v1.1": ("imagenet", "SqueezeNet"),
    **{name: ("cifar10", name) for name in ("VGG16", "MobileNetV1", "AllConv", "MCifarNet")},
    **{f"ResNet50 x{width}": ("cifar10", "CifarResNet50", "--width_mult", str(width)) for width in WIDTHS},
}


def asked(dataset: str, network: str, *flags: str):
    return options.counting([dataset, "--network", network, *flags])


def test_the_files_are_there():
    assert (len(ROWS), len(LAYERS), len(RESNET9)) == (11, 190, 198)
    assert {row["network"] for row in ROWS} | {"ResNet9"} == set(NETWORKS) - {
        row["network"] for row in rows_of("counts.csv")
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(list(row.values())[:3]))
def test_costs_and_taps(row):
    flags = ["--width_mult", row["width_mult"]] if row["width_mult"] else []
    config = asked(row["dataset"], row["network"], *flags)
    found = costs.summary(config)
    assert (found["params"], found["mult_adds_exact"]) == (int(row["params"]), int(row["mult_adds_exact"]))
    assert f"{found['mult_adds']:.5E}" == row["mult_adds"] and not found["uncounted"]
    taps = ["x".join(map(str, tap.shape[1:])) for tap in costs.output_of(config).taps]
    assert taps == [tap.split()[-1] for tap in row["taps"].split(";")]


def expected_layers(name: str) -> Iterator[tuple]:
    """Of each layer: i, o, k, stride, padding, groups, bias, sides, parameters, exact mult-adds, whether it is swappable."""
    kind, _, width = name.partition(" x")
    times = round(float(width or WIDTHS[0]) / WIDTHS[0])
    for row in LAYERS:
        if row["network"] != ("ResNet50_m1" if width else kind):
            continue
        i, o, k, *rest = (int(row[key]) for key in "i o k stride padding groups bias side_in side_out".split())
        i, o = i * (times if i > 3 else 1), o * (1 if row["kind"] == "linear" else times)
        groups, bias, side = rest[2], rest[3], rest[5]
        params = o * i * k * k // groups + bias * o
        adds = o * i * k * k // groups * side**2
        if times == 1:
            assert (params, adds) == (int(row["params"]), int(row["mult_adds"]))
        yield i, o, k, *rest, params, adds, row["swappable"] == "yes"


@pytest.mark.parametrize("name", OF_FILE)
def test_every_layer(name):
    config = asked(*OF_FILE[name])
    network, found = reference(config), []
    swappable = network.swappable()
    for layer in costs.costs_of(config, batch=1).layers:
        module = network.get_submodule(layer.name)
        if isinstance(module, nn.Linear):
            geometry = (module.in_features, module.out_features, 1, 1, 0, 1)
        elif isinstance(module, nn.Conv2d):
            square = (module.kernel_size[0], module.stride[0], module.padding[0], module.groups)
            geometry = (module.in_channels, module.out_channels, *square)
        else:
            continue
        sides = [(*shape, 1)[1] for shape in (layer.input, layer.output)]
        row = (*geometry, int(module.bias is not None), *sides, layer.parameters, layer.exact_of_batch)
        found.append((*row, layer.name in swappable))
    assert found == list(expected_layers(name))
    assert len(set(swappable)) == len(swappable) == sum(row[-1] for row in found)


def is_of_wider_tensors(row: dict) -> bool:
    """More than 6 dimensions, or 2 in which Tucker's first rank is bounded."""
    family, *numbers = row["conv"].split("_")
    return len(numbers) == 2 and (int(numbers[1]) > 6 or (family, numbers[1]) == ("Tucker", "2"))


@pytest.mark.parametrize("wider", [False, True])
def test_settings_of_resnet9(wider):
    wrong = []
    for row in RESNET9:
        if is_of_wider_tensors(row) is wider:
            found = costs.summary(asked("cifar10", "ResNet9", "--conv", row["conv"]))
            figures = str(found["params"]), f"{found['crs_ratio']:.6f}", f"{found['mult_adds']:.5E}"
            wrong += [row["conv"]] if figures != (row["params"], row["crs_ratio"], row["mult_adds"]) else []
    assert not wrong


def test_mobilenet_has_a_stem_of_its_own_for_each_side():
    of_small, of_large = (reference(asked(dataset, "MobileNetV1")) for dataset in ("cifar10", "imagenet"))
    assert (of_small.conv1.stride, of_large.conv1.stride) == ((1, 1), (2, 2))
    with torch.device("meta"):
        published = plain({"dataset": "imagenet", "network": "MobileNetV1", "width_mult": 1.0}, classes=1001)
    assert sum(each.numel() for each in published.parameters()) == 4_233_001
    assert output_shapes(published, 224).logits.shape == (1, 1001)


@pytest.mark.parametrize("side", [17, 18, 19, 20])
@pytest.mark.parametrize("arguments", [(3, 2), (2, 2), (3, 2, 1), (3, 3, 1), (2, 3, 0, 2)])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_sides_after_a_max_pool(side, arguments, ceil_mode):
    pool = nn.MaxPool2d(*arguments, ceil_mode=ceil_mode)
    assert output_shapes(pool, side).shape == pool(torch.zeros(1, 3, side, side)).shape
