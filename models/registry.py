"""The networks by name: of each its class, flags, image side and presets. Imports no torch.

    NETWORKS["WideResNet"].size_flags            # ("wrn_depth", "wrn_width")
    register(Network("Mine", "models.mine:Mine", side=32, presets={"conv": "Conv", "epochs": 30, ...}))

A network is a plain nn.Module that returns `models.output.Output`. Its method `swappable()` lists by dotted name the
convolutions that may be swapped, `segments()` the parts whose activations may be recomputed in the backward pass. A
head that only training uses is its submodule `auxiliary`. To add one, write its file and register one entry.

A name such as torchvision:resnet18 or mine.py:Net has an entry too, made of FOREIGN (library.py builds it), but is not listed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from input import datasets
from models.libraries import FORMS, WithForeign
from system.arguments import Flag, number, pattern
from system.errors import RequestError


@dataclass(frozen=True)
class OtherSide:
    """How a network differs on images of another side: in further arguments of its class, and in presets."""

    arguments: Mapping[str, Any]
    presets: Mapping[str, Any]


@dataclass(frozen=True)
class Network:
    """One network. `presets` are values of training flags, `conv` among them, which apply where a flag is not given.

    target:  "module:Class"; the class is called with `classes` and the arguments of `size` and `taps`.
    side:    rows and columns of the images that it takes.
    others:  other sides of a dataset's images for which there is a form of it.
    size:    which flag gives which argument of the class; these flags determine the parameter count.
    taps:    the same for arguments that only choose which features are tapped.
    width:   the flag of `size` by which the network meets a budget, if one does.
    takes:   flags that are declared elsewhere and that only some networks take.
    title:   a format of a short name, such as "WRN-{wrn_depth:g}-{wrn_width:g}".
    read_size: "module:function", which reads the size off foreign weights: function(convolutions, classifier) is given
             shapes, (o, i, h, w) in the order of registration and (o, i), and yields values of the size flags, the
             likeliest first.
    """

    name: str
    target: str
    side: int
    presets: Mapping[str, Any]
    size: Mapping[str, Flag] = field(default_factory=dict)
    taps: Mapping[str, Flag] = field(default_factory=dict)
    width: str | None = None
    takes: tuple[str, ...] = ()
    read_size: str | None = None
    title: str | None = None
    others: Mapping[int, OtherSide] = field(default_factory=dict)

    @property
    def sides(self) -> tuple[int, ...]:
        """Return the sides of the datasets' images that it takes."""
        return (self.side, *self.others)

    @property
    def flags(self) -> tuple[Flag, ...]:
        """Return the flags that it declares, those of its size first."""
        return (*self.size.values(), *self.taps.values())

    @property
    def size_flags(self) -> tuple[str, ...]:
        """Return the keys of the flags that determine its parameter count."""
        return tuple(flag.dest for flag in self.size.values())

    @property
    def tap_flags(self) -> tuple[str, ...]:
        """Return the keys of the flags that choose its taps."""
        return tuple(flag.dest for flag in self.taps.values())

    @property
    def building_flags(self) -> tuple[str, ...]:
        """Return the keys of all flags that its class is given."""
        return (*self.size_flags, *self.tap_flags)

    def arguments(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments of its class for a configuration, but for `classes`."""
        own = {argument: config[flag.dest] for argument, flag in {**self.size, **self.taps}.items()}
        return {**own, **self.arguments_of_side(config)}

    def arguments_of_side(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return those that follow from the side of the dataset's images."""
        return other.arguments if (other := self._other(config)) else {}

    def key(self, config: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        """Return the entries of a configuration from which `models.build.plain` builds it."""
        keys = ("network", *(["dataset"] if self.others else []), *self.building_flags)
        return tuple((key, config[key]) for key in keys)

    def presets_for(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return its presets for the dataset of a configuration."""
        return {**self.presets, **other.presets} if (other := self._other(config)) else dict(self.presets)

    def _other(self, config: Mapping[str, Any]) -> OtherSide | None:
        """Return how it differs for the dataset of a configuration. A folder's images are small."""
        if not self.others or datasets.is_own(config["dataset"]):
            return None
        return self.others.get(datasets.DATASETS[config["dataset"]].side)

    def describe(self, config: Mapping[str, Any]) -> str:
        """Return `WideResNet (wrn_depth 16, wrn_width 2)`."""
        values = ((flag, config[flag]) for flag in self.size_flags)
        shown = ", ".join(
            f"{flag} {value:g}" if isinstance(value, int | float) else f"{flag} {value}" for flag, value in values
        )
        return self.name + (f" ({shown})" if shown else "")

    def short_name(self, config: Mapping[str, Any]) -> str:
        """Return `WRN-28-10`, or `MobileNetV2 ×0.5` where its width is not the preset; flags may be unknown."""
        known = {flag: config.get(flag) for flag in self.size_flags}
        if self.title is not None:
            complete = all(isinstance(value, int | float) for value in known.values())
            return self.title.format(**known) if complete else self.name
        width = known.get(self.width)
        unusual = isinstance(width, int | float) and width != self.presets[self.width]
        return f"{self.name} ×{width:g}" if unusual else self.name


class ForeignEntry(Network):
    """A network that is not written here, which is built by its name for images of any side."""

    def arguments(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments of its builder, but for `classes`."""
        return {"name": self.name, "side": datasets.side_of(config), "taps": config["taps"]}

    def short_name(self, config: Mapping[str, Any]) -> str:
        """Return its name without the folder of a user's file."""
        return self.name.rpartition("/")[2]

    def key(self, config: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        """Return its name, the side of its images and --taps."""
        return (("network", self.name), ("image_size", datasets.side_of(config)), ("taps", config["taps"]))


NETWORKS: dict[str, Network] = WithForeign(lambda name: replace(FOREIGN, name=name))


def register(network: Network) -> None:
    """Add a network, whose flags join the command line.

    Raise ValueError where its name or a flag of it is taken, or where a flag or `conv` has no preset.
    """
    if network.name in NETWORKS:
        raise ValueError(f"there is a network {network.name!r} already")
    if lacking := {"conv", *network.building_flags} - network.presets.keys():
        raise ValueError(f"the network {network.name!r} has no presets of {sorted(lacking)}")
    declared = {flag.dest: flag for flag in flags()}
    if taken := [flag.name for flag in network.flags if declared.get(flag.dest, flag) != flag]:
        raise ValueError(f"the network {network.name!r} declares flags that mean something else already: {taken}")
    NETWORKS[network.name] = network


def flags() -> tuple[Flag, ...]:
    """Return the flags that networks declare, each once, in the order of registration."""
    return tuple(dict.fromkeys(flag for network in (*NETWORKS.values(), FOREIGN) for flag in network.flags))


def size_flags() -> tuple[str, ...]:
    """Return the keys of all flags that determine a parameter count."""
    return _each(network.size_flags for network in NETWORKS.values())


def tap_flags() -> tuple[str, ...]:
    """Return the keys of all flags that choose taps."""
    return _each(network.tap_flags for network in (*NETWORKS.values(), FOREIGN))


def width_flags() -> tuple[str, ...]:
    """Return the keys of all flags by which networks meet a budget."""
    return _each([network.width] if network.width else [] for network in NETWORKS.values())


def _each(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in groups for name in group))


def owners() -> dict[str, list[str]]:
    """Return, for every flag that some networks take and others do not, the networks that take it, sorted by flag."""
    found: dict[str, list[str]] = {}
    for network in NETWORKS.values():
        for flag in (*network.building_flags, *network.takes):
            found.setdefault(flag, []).append(network.name)
    for flag in FOREIGN.building_flags:
        found.setdefault(flag, []).extend(FORMS)
    return dict(sorted(found.items()))


def width_flag(network: str | None) -> str | None:
    """Return the flag by which a network's width varies. Return None where it has none or its name is not known."""
    return NETWORKS[network].width if network in NETWORKS else None


def flag_for_budget(network: str, conv: str) -> str:
    """Return the flag by which a network meets a budget if its conv has no number. Raise RequestError without one."""
    if flag := width_flag(network):
        return flag
    raise RequestError(f"--conv {conv} has no number to find, and --network {network} no width that could vary instead")


def reference_conv(network: str | None) -> str:
    """Return the conv of a network with nothing swapped; `Conv` for one whose name is not known."""
    return NETWORKS[network].presets["conv"] if network in NETWORKS else "Conv"


def describe(config: Mapping[str, Any]) -> str:
    """Return the network of a configuration with its size: `WideResNet (wrn_depth 16, wrn_width 2)`."""
    return NETWORKS[config["network"]].describe(config)


# Networks that share a flag share its object.
WRN_DEPTH = Flag("--wrn_depth", number(int, 1, 10_000), "6n + 4 (preset: 40)")
WRN_WIDTH = Flag("--wrn_width", number(float, 0, 1000, above=True), "times 16, 32, 64 channels (preset: 2)")
AT_SPLIT = Flag("--AT_split", number(int, 1, 10_000), "parts of a group that each give an attention map (preset: 1)")
WIDTH_MULT = Flag(
    "--width_mult", number(float, 0, 100, above=True),
    "times the channels of CifarResNet50, MobileNetV1 and MobileNetV2 (preset: 1)",
)  # fmt: skip
TAPS = Flag(
    "--taps", pattern, metavar="REGEX",
    help="tap the modules whose dotted name this is found in (preset: the last feature of each resolution)",
)  # fmt: skip
# The recipe of "reliable-train" for 32×32 images.
SMALL_IMAGES = dict(
    conv="Conv", batch_size=128, epochs=180, lr=0.1, schedule="step", epoch_step=[60, 120], lr_decay_ratio=0.1,
    weight_decay=5e-4,
)  # fmt: skip
LARGE_IMAGES = dict(
    batch_size=256, epochs=90, lr=0.1, schedule="step", epoch_step=[30, 60], lr_decay_ratio=0.1, weight_decay=1e-4
)
FOREIGN = ForeignEntry(
    FORMS[0], "models.library:build", side=32, presets=dict(SMALL_IMAGES, taps=None), taps={"taps": TAPS},
    others={224: OtherSide({}, LARGE_IMAGES)},
)  # fmt: skip

register(
    Network(
        "WideResNet", "models.wideresnet:WideResNet", side=32,
        presets=dict(
            conv="Conv", wrn_depth=40, wrn_width=2.0, AT_split=1, batch_size=128, epochs=200, lr=0.1, schedule="step",
            epoch_step=[60, 120, 160], lr_decay_ratio=0.2, weight_decay=5e-4,
        ),
        size={"depth": WRN_DEPTH, "width": WRN_WIDTH},
        taps={"splits": AT_SPLIT},
        width="wrn_width", read_size="models.wideresnet:read_size", title="WRN-{wrn_depth:g}-{wrn_width:g}",
    )
)  # fmt: skip
register(
    Network(
        "DARTS", "models.darts:DARTS", side=32, takes=("drop_path_prob",),
        presets=dict(
            conv="Sep", batch_size=96, epochs=600, lr=0.025, schedule="cosine", weight_decay=3e-4, clip_grad=5.0,
            drop_path_prob=0.2,
        ),
    )
)  # fmt: skip
register(
    Network(
        "WRN_50_2", "models.resnet:WRN_50_2", side=224, presets=dict(conv="Conv", **LARGE_IMAGES),
    )
)  # fmt: skip
register(
    Network(
        "MobileNetV2", "models.mobilenetv2:MobileNetV2", side=224,
        presets=dict(
            conv="Conv", width_mult=1.0, batch_size=256, epochs=150, lr=0.05, schedule="cosine", weight_decay=4e-5,
        ),
        size={"multiplier": WIDTH_MULT},
        width="width_mult", read_size="models.mobilenetv2:read_size",
    )
)  # fmt: skip
register(
    Network(
        "ResNet9", "models.resnet9:ResNet9", side=32,
        # The 24-epoch recipe. lr is that of other schedules than its own: the 128-epoch study has a cosine from it.
        presets=dict(
            conv="Conv", batch_size=512, epochs=24, lr=0.2, schedule="linear", lr_points=[[0, 0], [5, 0.4], [24, 0]],
            nesterov=True, weight_decay=5e-4, cutout=8, cutout_inside=True, pad="reflect",
        ),
    )
)  # fmt: skip
register(Network("CifarResNet18", "models.cifarresnet:CifarResNet18", side=32, presets=SMALL_IMAGES))
register(
    Network(
        "CifarResNet50", "models.cifarresnet:CifarResNet50", side=32,
        presets=dict(SMALL_IMAGES, width_mult=1.0),
        size={"multiplier": WIDTH_MULT},
        width="width_mult", read_size="models.cifarresnet:read_size",
    )
)  # fmt: skip
register(Network("VGG16", "models.vgg:VGG16", side=32, presets=SMALL_IMAGES))
register(
    Network(
        "MobileNetV1", "models.mobilenetv1:MobileNetV1", side=32,
        presets=dict(SMALL_IMAGES, width_mult=1.0),
        size={"multiplier": WIDTH_MULT},
        width="width_mult", read_size="models.mobilenetv1:read_size",
        others={
            224: OtherSide({"stem_stride": 2}, dict(batch_size=256, epochs=150, lr=0.05, schedule="cosine", weight_decay=4e-5)),
        },
    )
)  # fmt: skip
register(Network("AllConv", "models.allconv:AllConv", side=32, presets=SMALL_IMAGES))
register(Network("MCifarNet", "models.mcifarnet:MCifarNet", side=32, presets=SMALL_IMAGES))
register(
    Network(
        "SqueezeNet", "models.squeezenet:SqueezeNet", side=224,
        # Without batch-norm it diverges at 0.04, the rate of its authors for a batch of 512.
        presets=dict(conv="Conv", batch_size=256, epochs=90, lr=0.01, schedule="cosine", weight_decay=2e-4),
    )
)  # fmt: skip
