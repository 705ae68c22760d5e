"""A trained network from its checkpoint.

network = restore("wrn.teacher", load_run("wrn.teacher", "teacher"))
"""

from collections.abc import Iterable

from torch import nn

from layers.init import materialise
from models.build import build
from system.errors import MachineFault, RequestError
from system.user_code import files_of, holds, located
from weights.sources import is_file


def with_files(config: dict, nearby: Iterable[str] = ()) -> dict:
    """Return a configuration with the places where the user's files lie now: as it says, in `nearby` or the current folder."""
    of_network = files_of({**config, "loss": None})
    return config | {flag: located(config[flag], config.get(f"{flag}_digest"), nearby) for flag in of_network}


def restore(name: str, saved: dict, **changes) -> nn.Module:
    """Return the trained network of a run from its checkpoint, on the CPU, with `changes` of its configuration.

    Raises RequestError where a user's file that it was built with has changed or its weights are not finite,
    MachineFault where the checkpoint is damaged inside.
    """
    config = with_files({**saved["config"], **changes})
    what = f"the {'file' if is_file(name) else 'run'} {name!r}"
    for flag, path in files_of({**config, "loss": None}).items():
        if not holds(path, config.get(f"{flag}_digest")):
            places = f"neither there nor, by its name, in the current folder, nor where --{flag} says"
            raise RequestError(f"{what} needs {path} as it was when it was trained, which is {places}")
    try:
        network = materialise(build(config), config["seed"])
        network.load_state_dict(saved["model"])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise MachineFault(f"the checkpoint of {name!r} does not fit its configuration: {' '.join(str(error).split())}")
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise RequestError(f"the weights of {what} are not finite")
    return network
