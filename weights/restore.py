"""A trained network from its checkpoint.

network = restore("wrn.teacher", load_run("wrn.teacher", "teacher"))
"""

from torch import nn

from layers.init import materialise
from models.build import build
from system.errors import MachineFault, RequestError
from system.user_code import digest, files_of


def restore(name: str, saved: dict, **changes) -> nn.Module:
    """Return the trained network of a run from its checkpoint, on the CPU, with `changes` of its configuration.

    Raises RequestError where a user's file that it was built with has changed or its weights are not finite,
    MachineFault where the checkpoint is damaged inside.
    """
    config = {**saved["config"], **changes}
    for flag, path in files_of({**config, "loss": None}).items():
        try:
            changed = digest(flag, path) != config.get(f"{flag}_digest")
        except RequestError as error:
            raise RequestError(f"the run {name!r} was built with {error}")
        if changed:
            raise RequestError(f"the run {name!r} needs {path} as it was when it was trained")
    try:
        network = materialise(build(config), config["seed"])
        network.load_state_dict(saved["model"])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise MachineFault(f"the checkpoint of {name!r} does not fit its configuration: {' '.join(str(error).split())}")
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise RequestError(f"the weights of the run {name!r} are not finite")
    return network
