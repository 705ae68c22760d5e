"""All that decides how training goes on, as plain types and tensors: what a checkpoint keeps and a resumed run needs.

state = save_state(3, step, meter)           # after 3 epochs and the steps that the meter has seen
load_state(state, step, meter)               # 3
"""

import random

import numpy as np
import torch

from layers import cosine_costs
from system.errors import Diverged, MachineFault
from training.metrics import Meter
from training.step import TrainStep


def save_state(epoch: int, step: TrainStep, meter: Meter) -> dict:
    """Return what decides how training goes on after `epoch` epochs and the steps that `meter` has seen of the next.

    That is weights, optimizer, callbacks, loss, generators. Raise Diverged where a weight is not finite: nothing could go on from there.
    """
    weights = step.model.state_dict()
    floats = {name: tensor for name, tensor in weights.items() if tensor.is_floating_point()}
    finite = torch.stack([tensor.isfinite().all() for tensor in floats.values()])
    infinite = [name for name, is_finite in zip(floats, finite.tolist()) if not is_finite]
    if bad := sum(step.ranks.all_gather(infinite), []):
        raise Diverged(f"the weights are not finite in {meter.when}, first {bad[0]}")
    own, *others = step.ranks.all_gather(_generators())
    return {
        "epoch": epoch,
        "step": meter.steps,
        "model": weights,
        "optimizer": step.optimizer.state_dict(),
        "callbacks": [callback.state_dict() for callback in step.callbacks],
        **({"criterion": kept} if (kept := step.criterion.state_dict()) else {}),
        "meter": meter.state_dict(),
        "rng": own | ({"others": others} if others else {}),
        "speeds": cosine_costs.current(),
        **({"autotuned": step.autotuned} if step.autotuned else {}),
    }


def load_state(state: dict, step: TrainStep, meter: Meter) -> int:
    """Put everything back as `save_state` found it, and return the number of finished epochs.

    Generators of ranks that there were not then stay as they are. Raise MachineFault where `save_state` cannot have made the
    state of such a step.
    """
    try:
        step.model.load_state_dict(state["model"])
        step.optimizer.load_state_dict(state["optimizer"])
        for callback, saved in zip(step.callbacks, state["callbacks"], strict=True):
            callback.load_state_dict(saved)
        if "criterion" in state:
            step.criterion.load_state_dict(state["criterion"])
        meter.load_state_dict(state["meter"])
        generators = [state["rng"], *state["rng"].get("others", [])]
        if step.ranks.rank < len(generators):
            _set_generators(generators[step.ranks.rank])
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
