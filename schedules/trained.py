"""A finished run on this machine, ready to be tested: its request, its device, its network.

request, device, trained = stored("wrn.teacher", load_run("wrn.teacher", "run")["config"])
"""

from typing import Any

import torch

from cli.shrinking import MACHINE, testing
from system.configuration import Configuration
from training.device import choose_device
from weights.origin import Origin, origin


def stored(name: str, config: dict[str, Any]) -> tuple[Configuration, torch.device, Origin]:
    """Return the request of main.py that tests a run, the device for it, and the run's network.

    Args: config: the configuration in the run's checkpoint. Raise RequestError or MachineFault where the run cannot be
    tested here.
    """
    request = testing(Configuration({"name": name, **dict.fromkeys(MACHINE)}), config)
    return request, choose_device(request), origin(name, request, "run", teaches=True)
