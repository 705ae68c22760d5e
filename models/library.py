"""Any classifier of torchvision and of timm, built by the library itself, and a user's own, as a network of ours.

    network = build(10, "torchvision:resnet18", side=32)         # ResNet, with 10 classes
    logits, taps, auxiliary_logits = network(torch.randn(2, 3, 32, 32))
    network.swappable()                                          # the library's own names: "layer1.0.conv1", …

The network stays of its class, with its names, its parameters and its initial weights. Its classifier is built for the
classes of the dataset, and the image's side is given where the library takes it (a ViT). What is what in it is found by
running it once on the meta device (anatomy.py). Torchvision's GoogLeNet and Inception rescale the image as the weights
that are published for them expect, and have their auxiliary heads.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib import import_module

import torch
from torch import Tensor, nn

from blocks import BlockAsLinear
from layers.init import initialise
from models.anatomy import Anatomy, Tap, anatomy
from models.features import as_map
from models.output import Output
from models.user import made
from system.errors import RequestError, did_you_mean, first_line
from system.hashing import key
from system.user_code import class_of, digest, is_of_file, parts

SIDES = (
    32,
    48,
    64,
    75,
    80,
    96,
    112,
    128,
    160,
    192,
    224,
    240,
    256,
    288,
    299,
    320,
    384,
    512,
)  # tried, to say which is possible
WITH_AUXILIARY = ("torchvision:googlenet", "torchvision:inception_v3")


class UnfitSide(RequestError):
    """The network takes no images of that side; `why` is what it says itself."""

    def __init__(self, name: str, side: int, why: str, possible: int | None):
        way = f"; the next side that it takes is {possible}" if possible else ""
        super().__init__(f"--network {name} does not take images of {side}×{side} ({why}){way}")
        self.why = why


class _Recorder:
    """A forward hook that keeps what a module returns, as a map, in `features`, where its name waits for it.

    Outside the network's own pass (as when a segment is computed again) no name waits.
    """

    def __init__(self, tap: Tap, features: dict[str, Tensor | None]):
        self.tap, self.features = tap, features

    def __call__(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if self.tap.name in self.features:
            self.features[self.tap.name] = as_map(output, self.tap.layout)


class LibraryNetwork(nn.Module):
    """What is added to the class of a foreign network: it returns `Output`, and says what may be swapped."""

    foreign = True  # its costs are those of its operations (counting/operations.py)

    def forward(self, x: Tensor) -> Output:
        """Map images (B, 3, H, W) to `Output`, with auxiliary logits in training where it has such heads."""
        self.tapped_features.update(dict.fromkeys(tap.name for tap in self.anatomy.taps))
        output = super().forward(x)
        taps = [self.tapped_features[tap.name] for tap in self.anatomy.taps]
        self.tapped_features.clear()
        if isinstance(output, Output):  # of a user's class, which taps its features itself
            return output
        logits, *others = output if isinstance(output, tuple) else (output,)
        heads = [each for each in others if each is not None]
        auxiliary = None if not heads else heads[0] if len(heads) == 1 else torch.stack(heads)
        return Output(logits, taps, auxiliary)

    def swappable(self) -> list[str]:
        """Return the dotted names of every Conv2d and Linear that can be swapped, but for stem and heads."""
        return list(self.anatomy.swappable)

    def classifiers(self) -> list[str]:
        """Return the dotted names of the heads that are Linear layers."""
        kinds = (nn.Linear, BlockAsLinear)
        return [name for name in self.anatomy.heads if type(self.get_submodule(name)) in kinds]

    def segments(self) -> list[str]:
        """Return the dotted names of the parts that can be computed again. Raise RequestError where it has none."""
        if not self.anatomy.segments:
            raise RequestError(f"--checkpoint_activations: {self.made[1]} has no parts that could be computed again")
        return list(self.anatomy.segments)

    def auxiliary_heads(self) -> tuple[str, ...]:
        """Return the dotted names of the heads that only training uses."""
        return self.anatomy.auxiliary

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Draw all parameters, as the library does; what was swapped draws itself, from the seed and its name."""
        whole = _seeded(*self.made, seed)
        theirs = {**dict(whole.named_parameters()), **dict(whole.named_buffers())}
        swapped = [
            name for name in self.anatomy.swappable if type(self.get_submodule(name)) not in (nn.Conv2d, nn.Linear)
        ]
        swapped += [name for name in self.anatomy.heads if isinstance(self.get_submodule(name), BlockAsLinear)]
        swapped += [
            name for name, each in self.named_modules() if getattr(each, "draws_itself", False)
        ]  # such as gates
        prefixes = tuple(f"{name}." for name in swapped)
        for name, tensor in (*self.named_parameters(), *self.named_buffers()):
            if not name.startswith(prefixes) and name in theirs:
                tensor.copy_(theirs[name][tuple(map(slice, tensor.shape))])  # a shrunk network has fewer channels
            elif not name.startswith(prefixes):
                tensor.zero_()  # a bias that the library's own layer has not (models/dense.py)
        for module in self.modules():
            if (
                isinstance(module, nn.BatchNorm2d) and "weight" in module._buffers
            ):  # a scale that is not trained would stay 0
                module.weight.fill_(1.0)
        for name in swapped:
            initialise(self.get_submodule(name), seed, name)
        parts = dict(whole.named_modules())
        for name, module in self.named_modules():  # tensors that are neither parameters nor buffers
            for attribute, value in list(vars(module).items()):
                if isinstance(value, Tensor) and value.is_meta and name in parts:
                    setattr(module, attribute, getattr(parts[name], attribute))

    def __reduce__(self):
        return _bare, (type(self).library_class,), self.__dict__


@cache
def _class_of(kind: type[nn.Module]) -> type[nn.Module]:
    """Return a library's class with what LibraryNetwork adds."""
    return type(kind.__name__, (LibraryNetwork, kind), {"library_class": kind, "__module__": kind.__module__})


def _bare(kind: type[nn.Module]) -> nn.Module:
    """Return an object without any state, to copy or unpickle into."""
    made = _class_of(kind)
    return made.__new__(made)


def build(classes: int, name: str, side: int, taps: str | None = None) -> nn.Module:
    """Return the network library:NAME for images of a side, on torch's current default device.

    Args: taps: a regular expression that chooses the modules whose features are tapped, instead of the last of each
    resolution. Raises RequestError where there is no such library or network, or where it does not take the side.
    """
    options, device, found = _known(name, side, digest("network", parts(name)[0]) if is_of_file(name) else None)
    found = found.tapped_at(taps, name)
    here = torch.get_default_device()
    with torch.device(here if device == "meta" else device):
        network = _made(name, classes, options).to(here)
    network.__class__ = _class_of(type(network))
    network.made, network.anatomy, network.tapped_features = (classes, name, options), found, {}
    for tap in found.taps:
        network.get_submodule(tap.name).register_forward_hook(_Recorder(tap, network.tapped_features))
    return network


@cache
def _known(name: str, side: int, digest: str | None) -> tuple[tuple[tuple[str, object], ...], str, Anatomy]:
    """Return the builder's options with which a network takes images of a side, the device where it can be built, and its anatomy.

    That is the meta device; the CPU where building it needs numbers. Args: digest: of the user's file, as it is now.
    """
    check_is_there(name)
    found, why = _first_that_fits(name, side, digest)
    if found is None:
        larger = (each for each in SIDES if each > side)
        fits = (each for each in larger if _first_that_fits(name, each, digest)[0])
        raise UnfitSide(name, side, why, next(fits, None))
    return found


@cache  # of what does not fit too: some networks take seconds to refuse every side
def _first_that_fits(name: str, side: int, digest: str | None) -> tuple[tuple | None, str]:
    """Return what `_known` does, or None and what the network says of the side, which may be anything."""
    why = ""
    for options in _options(name, side):
        for device in ("meta", "cpu"):  # what cannot be built or run without numbers is run with them
            try:
                with torch.device(device), _random_state_kept(), _quiet():
                    network = _made(name, 2, options)
                    return (options, device, _anatomy(network, side)), ""
            except TypeError as error:
                if "unexpected keyword argument" not in str(error):
                    why = first_line(error)
                break
            except Exception as error:  # of the library's own code, or a user's
                if isinstance(error, RequestError) and is_of_file(name) and "meta" not in str(error):
                    raise
                why = why or first_line(error) if options else first_line(error)
                if "meta" not in str(error) and not isinstance(error, NotImplementedError):
                    break
    return None, why


def _anatomy(network: nn.Module, side: int) -> Anatomy:
    """Return what is what in a network; its own method `swappable`, if it has one, says what may be swapped."""
    found = anatomy(network, side, _classifiers(network))
    return replace(found, swappable=tuple(network.swappable())) if hasattr(network, "swappable") else found


def _options(name: str, side: int) -> Iterator[tuple[tuple[str, object], ...]]:
    """Yield options of a builder: its own defaults, then the image's side by the names that builders have for it."""
    yield ()
    if is_of_file(name):
        return
    if name in WITH_AUXILIARY:  # the auxiliary head needs larger images than the network
        yield (("aux_logits", False),)
    if name.startswith("timm:"):
        yield (("img_size", side),)
    else:
        yield (("image_size", side),)  # of ViT
        yield (("input_size", (side, side)),)  # of MaxViT


def _classifiers(network: nn.Module) -> Iterable[str]:
    """Return the names of the classifiers as timm notes them."""
    noted = getattr(network, "default_cfg", {}).get("classifier", ())
    return (noted,) if isinstance(noted, str) else tuple(noted or ())


def check_is_there(name: str, asked: str = "") -> None:
    """Raise RequestError where there is no such classifier or the library is not installed; `asked` is what wants it."""
    if is_of_file(name):
        class_of("--network", name)
        return
    library, _, network = name.partition(":")
    asked = asked or f"--network {name}"
    try:
        there = _listed(library)
    except ImportError:
        raise RequestError(f"{asked} needs {library}: pip install {library}")
    if network not in there:
        hint = did_you_mean(network, there, lambda right: repr(f"{library}:{right}"))
        raise RequestError(f"{asked}: {library} has no {network!r}{hint}")


@cache
def _listed(library: str) -> frozenset[str]:
    with _quiet():
        models = import_module("torchvision.models" if library == "torchvision" else "timm")
    return frozenset(models.list_models(models) if library == "torchvision" else models.list_models())


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it no warning of a library's is shown: they speak to those who call it."""
    with warnings.catch_warnings(action="ignore"):
        yield


@contextmanager
def _random_state_kept() -> Iterator[None]:
    state = torch.default_generator.get_state()
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


def _made(name: str, classes: int, options: Iterable[tuple[str, object]]) -> nn.Module:
    """Return the library's own network, or the user's, with random weights, on the current default device."""
    if is_of_file(name):
        return made(name, classes)
    library, _, network = name.partition(":")
    given = dict(options)
    with _quiet():
        if library == "timm":
            return import_module("timm").create_model(network, pretrained=False, num_classes=classes, **given)
        if name in WITH_AUXILIARY:
            given = {"aux_logits": True, "transform_input": True, "init_weights": True} | given
        return import_module("torchvision.models").get_model(network, weights=None, num_classes=classes, **given)


def _seeded(classes: int, name: str, options: Iterable[tuple[str, object]], seed: int) -> nn.Module:
    """Return the same on the CPU with weights that depend on the seed and the name alone."""
    with _random_state_kept(), torch.device("cpu"):
        of_file = parts(name)[1] if is_of_file(name) else name  # wherever the file lies
        torch.default_generator.manual_seed(key("initialise", seed, of_file))
        return _made(name, classes, options)
