"""What leaves closed channels out says what the masked network says, and computes as little as is counted."""

import copy
import re
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.overrides import TorchFunctionMode

import main
from cli import options
from gates.attach import attach
from gates.by_class import opened
from gates.gate import largest
from gates.skip import skip
from input.datasets import side_of
from layers.init import materialise
from models.build import build
from models.output import Output
from schedules import plot
from schedules.figures.gates import heat_map, order
from schedules.heat_maps import heat_maps
from system.errors import RequestError
from training.device import to_device

NETWORKS = {  # of which each shows another way for channels to go
    "cifar10 --network MCifarNet": "FBS_0.5",
    "cifar10 --wrn_depth 10 --wrn_width 0.5": "Naive_0.4",
    "cifar10 --network MobileNetV1 --width_mult 0.25": "FBS_0.3",
    "cifar10 --network MobileNetV1 --width_mult 0.25 --gate_where conv2": "Naive_0.5",
    "imagenet --image_size 64 --network SqueezeNet": "FBS_0.5",
    "cifar10 --network CifarResNet50 --width_mult 0.125": "Naive_0.5",
    "cifar10 --network torchvision:shufflenet_v2_x0_5": "FBS_0.5",
    "cifar10 --network timm:mobilenetv3_small_050": "Naive_0.5",
    "cifar10 --network MCifarNet --conv SepHashed_0.1": "Naive_0.5",
    "cifar10 --network MCifarNet --conv conv1.0=Hashed_0.3,conv[23].0=Shuffle_2,.*=Monarch_4": "FBS_0.6",
    "cifar10 --network MCifarNet --gate_where conv[0246]": "FBS_1",
}


def drawn(network: nn.Module) -> nn.Module:
    """Draw what a training would have changed: statistics, shifts, and gates that tell images apart."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.normal_(0, 0.1, generator=generator)
            if module.running_mean is not None:
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
    for gate in network.gates.values():
        gate.weight.data.normal_(0, 0.3 * gate.weight.shape[1] ** -0.5, generator=generator)
        gate.bias.data.uniform_(0.5, 1.5, generator=generator)
    return to_device(network.eval(), torch.device("cpu"))


def images(side: int, count: int = 3) -> list[torch.Tensor]:
    """Images one by one, as the loop has them."""
    generator = torch.Generator().manual_seed(2)
    return [
        torch.randn(1, 3, side, side, generator=generator).to(memory_format=torch.channels_last) for _ in range(count)
    ]


@torch.no_grad()
def check_alike(network: nn.Module, side: int) -> nn.Module:
    """Hold a skipping copy against the network itself. Return the copy."""
    skipping = skip(copy.deepcopy(network), side)
    for x in images(side):
        torch.testing.assert_close(skipping(x).logits, network(x).logits, rtol=1e-4, atol=1e-5)
    assert skipping(x).logits.std() > 0
    return skipping


@pytest.mark.parametrize("command", NETWORKS)
def test_skipping_is_masking(command: str):
    if "timm:" in command:
        pytest.importorskip("timm")
    config = options.counting([*command.split(), "--gate", NETWORKS[command]])
    network = drawn(materialise(build(config), 0))
    check_alike(network, side_of(config))


class Odd(nn.Module):
    """Ways that no network above has: statistics of the batch alone, one batch-norm twice, carriers of sums, groups, a product."""

    def __init__(self):
        super().__init__()
        self.first, self.bn1 = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8)
        self.second, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, track_running_stats=False)
        self.groups, self.bn3 = nn.Conv2d(8, 8, 1, groups=2, bias=False), nn.BatchNorm2d(8)
        self.one, self.other, self.shared = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.carrier, self.last = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8)
        self.reflected = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.wide, self.linear = nn.Conv2d(8, 80, 1), nn.Linear(80, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.first(x)))
        x = x + torch.relu(self.bn2(self.second(x)))
        x = torch.relu(self.bn3(self.groups(self.carrier(x))))
        x = torch.relu(self.shared(self.one(x))) + torch.relu(self.shared(self.other(x)))
        x = torch.relu(self.reflected(self.last(x)))
        x = self.wide(x * torch.sigmoid(x.mean((2, 3), keepdim=True)))
        return Output(self.linear(torch.relu(x).mean((2, 3))), [x])


@pytest.mark.parametrize("gate", ["FBS_0.5", "Naive_0.5"])
def test_networks_of_any_form(gate):
    config = options.counting(["cifar10", "--gate", gate])
    torch.manual_seed(0)
    network = Odd()
    attach(network, config)
    for each in network.gates.values():
        each.reset_parameters()
    check_alike(drawn(network), 32)


class Convolutions(TorchFunctionMode):
    """Counts the multiply-adds of convolutions that run."""

    def __init__(self):
        super().__init__()
        self.mult_adds = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        if function is torch.conv2d:
            self.mult_adds += result[0, 0].numel() * args[1].numel() * len(result)
        return result


@torch.no_grad()
def test_what_runs_is_what_is_counted():
    """Each convolution of M-CifarNet computes its open channels of open ones; the classifier, of one pixel, all."""
    config = options.counting("cifar10 --network MCifarNet --gate FBS_0.5".split())
    network = drawn(materialise(build(config), 0))
    (x,) = images(32, 1)
    with Convolutions() as masked:
        network(x)
    counted = network.gates.mult_adds().item() - network.gates.own_mult_adds + 96 * 10  # of 192 inputs half are open
    with Convolutions() as left:
        skip(network, 32)(x)
    assert left.mult_adds == counted < 0.3 * masked.mult_adds


def test_the_largest_are_chosen_by_number_where_they_are_equal():
    scores = torch.relu(torch.randn(40, 9, generator=torch.Generator().manual_seed(0)).mul(2).round())
    for count in (1, 4, torch.tensor(9)):
        order = scores.argsort(dim=1, descending=True, stable=True)
        assert largest(scores, count).equal(order.argsort(1) < count)


def test_refusals(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="no gates"):
        skip(nn.Linear(2, 2), 32)
    with pytest.raises(RequestError, match="--gate_skip goes with --evaluate"):
        options.training("digits teacher -t a --gate_skip".split())


def test_evaluation_of_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    tiny = "--wrn_depth 10 --wrn_width 0.25 --train_size 64 --batch_size 32 --epochs 1 --device cpu".split()
    for name, gate in (("gated", ["--gate", "FBS_0.5"]), ("plain", [])):
        assert main.main(["digits", "teacher", "-t", name, *tiny, *gate]) == 0
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RequestError, match="'plain' has no gates"):
        main.main("digits teacher -t plain --evaluate --gate_skip".split())
    capsys.readouterr()
    assert main.main("digits teacher -t gated --evaluate --gate_skip".split()) == 0
    said = capsys.readouterr().out
    errors = re.findall(r"Error@1 (\S+) Error@5 (\S+)", said)
    assert len(errors) == 2 and errors[0] == errors[1]
    assert re.search(r"open .*% of the gated channels, [\d,]+ mult-adds", said)
    assert re.search(r"ms an image, .* masked instead: .* \(median of 200 images, by turns, \d+ thread", said)
    assert sorted(tmp_path.rglob("*")) == before
    check_heat_maps(tmp_path, capsys)


def check_heat_maps(folder, capsys):
    """Draw the run's gates; refuse what has none, before anything is written."""
    assert plot.main(["--gates", "gated", "--out", "figures", "--html", "page.html"]) == 0
    with Image.open(folder / "figures/gated.gates.png") as image:
        assert image.width == 1920 and len(image.convert("RGB").getcolors(1 << 20)) > 20
    ((_, figure),) = heat_maps(["gated"])
    caption = r".* on digits, \d+ epochs?, seed 0, [\d,]+ training and 297 test images"
    assert any(re.fullmatch(caption, each.get_text()) for each in figure.texts)
    page = (folder / "page.html").read_text()
    assert page.count('src="data:image/png;base64,') == 1 and "gated" in page
    for names, why in ((["gated", "plain"], "'plain' has no gates"), (["gate"], "no run 'gate'.*did you mean 'gated'")):
        with pytest.raises(RequestError, match=why):
            plot.main(["--gates", *names, "--out", "none"])
    with pytest.raises(RequestError, match="nothing to draw"):
        plot.options([])
    assert not (folder / "none").exists()


def test_shares_of_classes_and_the_order_of_channels():
    """The shares are means of what is open: of each class k channels. Channels that the same classes open stand together."""
    config = options.counting("cifar10 --wrn_depth 10 --wrn_width 0.5 --gate FBS_0.5".split())
    network = drawn(materialise(build(config), 0))
    x, y = torch.cat(images(32, 6)), torch.tensor([0, 2, 2, 0, 2, 2])
    data = SimpleNamespace(device="cpu", test=None, batches=lambda split: zip(x.split(4), y.split(4)))
    for name, shares in opened(network, data, nullcontext, 3).items():
        gate = network.gates.by_name()[name]
        assert shares[1].isnan().all() and shares[[0, 2]].sum(1).tolist() == pytest.approx(2 * [int(gate.open)])
    network(x)  # the last gate has seen all then
    assert shares[2].equal(gate.mask[y == 2].double().mean(0))
    share = np.array([[0, 1, 0.9, 0.5, 0, 1, 0], [0, 1, 0, 0.6, 0.8, 1, 0], [0, 1, 0, 0.5, 0.9, 0.99, 0.01]])
    assert order(share).tolist() in (
        [1, 5, 2, 4, 3, 0, 6],
        [1, 5, 4, 2, 3, 0, 6],
        [1, 5, 2, 4, 3, 6, 0],
        [1, 5, 4, 2, 3, 6, 0],
    )
    assert order(np.full((2, 3), np.nan)).tolist() == [0, 1, 2]
    figure = heat_map("run", "FBS_0.5", {f"conv{place}": share for place in range(5)}, ["ant", "bee", "cat"])
    for axes in figure.axes[:5]:  # those on the right too
        assert axes.get_ylabel() == "class" and [each.get_text() for each in axes.get_yticklabels()] == [
            "ant",
            "bee",
            "cat",
        ]
    assert "always open first, then by the classes" in figure.texts[-1].get_text()
