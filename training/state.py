"""All that decides how training goes on, as plain types and tensors: what a checkpoint keeps and a resumed run needs.

state = save_state(3, model, optimizer, companions, meter)         # after 3 epochs and what the meter has seen
load_state(state, model, optimizer, companions, meter)             # 3
"""

import random

import numpy as np
import torch
from torch import nn

from distributed.process_group import ALONE, Team
from system.errors import Diverged, MachineFault
from training.callbacks import Companion
from training.metrics import Meter


def save_state(
    epoch: int, model: nn.Module, optimizer, companions: list[Companion], meter: Meter, team: Team = ALONE
) -> dict:  # fmt: skip
    """All that decides how training goes on after `epoch` epochs and the steps that `meter` has seen of the next:
    weights, optimizer, companions, generators. Diverged where a weight is not finite: nothing could go on from there."""
    numbers = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    finite = torch.stack([tensor.isfinite().all() for tensor in numbers.values()])
    if bad := sum(team.gather([name for name, each in zip(numbers, finite.tolist()) if not each]), []):
        raise Diverged(f"the weights are not finite in {meter.when}, first {bad[0]}")
    own, *others = team.gather(_generators())
    return {
        "epoch": epoch,
        "step": meter.steps,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "companions": [companion.state_dict() for companion in companions],
        "meter": meter.state_dict(),
        "rng": own | ({"others": others} if others else {}),
    }


def load_state(
    state: dict, model: nn.Module, optimizer, companions: list[Companion], meter: Meter, team: Team = ALONE
) -> int:  # fmt: skip
    """Puts everything back as `save_state` found it, but for the generators of processes that there were not then.
    Returns the number of finished epochs. MachineFault where what is in it is not what `save_state` made of such a
    network."""
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        for companion, saved in zip(companions, state["companions"], strict=True):
            companion.load_state_dict(saved)
        meter.load_state_dict(state["meter"])
        generators = [state["rng"], *state["rng"].get("others", [])]
        if team.rank < len(generators):
            _set_generators(generators[team.rank])
        return state["epoch"]
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        raise MachineFault(f"the checkpoint does not fit this run: {' '.join(str(error).split())}")


def _generators() -> dict:
    """Where this process's random generators stand."""
    version, internal, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    position = {"key": numpy_state["state"]["key"].tolist(), "pos": numpy_state["state"]["pos"]}
    return {
        "python": [version, list(internal), gauss],
        "numpy": {**numpy_state, "state": position},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def _set_generators(saved: dict) -> None:
    version, internal, gauss = saved["python"]
    random.setstate((version, tuple(internal), gauss))
    position = {**saved["numpy"]["state"], "key": np.array(saved["numpy"]["state"]["key"], np.uint32)}
    np.random.set_state({**saved["numpy"], "state": position})
    torch.set_rng_state(saved["torch"])
    if torch.cuda.is_initialized() and len(saved["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(saved["cuda"])
