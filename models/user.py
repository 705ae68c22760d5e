"""A network of a user's own, from a Python file (`--network FILE.py:CLASS`).

    network = made("mine.py:Net", classes=10)    # the class, called with `classes` or `num_classes`

It is built and looked at as the networks of libraries are (library.py): it maps images (B, 3, H, W) to logits, and what
may be swapped and where its features are tapped is found by running it once. One that returns `models.output.Output` has
taps of its own, and one with a method `swappable()` says itself what may be swapped.
"""

from torch import nn

from system.errors import RequestError
from system.user_code import called


def made(name: str, classes: int) -> nn.Module:
    """Return the network with the weights that its class gives it. Raise RequestError where it cannot be made."""
    network = called("--network", name, {"classes": classes}, classes=("classes", "num_classes"))
    if not isinstance(network, nn.Module) or not any(True for _ in network.parameters()):
        raise RequestError(f"--network {name}: the class is no torch.nn.Module with parameters")
    return network
