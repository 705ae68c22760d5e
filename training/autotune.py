"""Which memory layout, and on a GPU whether TF32, makes a training step fastest here, measured: `--autotune`.

    print(settle(step, data, found.state))       # autotune: channels-last, 0.0871 s a step (contiguous 0.1214)
    step.autotuned                               # {"layout": "channels_last", "tf32": False}, kept in the checkpoint

A run is measured once, when it begins: layouts round in other ways, so a resumed run goes on with what it began with.
"""

import time
from statistics import median

import torch
from torch import nn

from input.batches import Batch, Feed
from system.errors import MachineFault
from training import teacher_cache
from training.optim import sgd
from training.step import TrainStep

LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
STEPS = 2  # timed in a turn
MARGIN = 0.05  # what another choice has to gain: times of one step scatter by as much
ROUNDS, PATIENCE = 5, 20.0  # rounds over all choices, the first to warm up; no further one after so many seconds
Choice = tuple[str, bool]  # the layout, and whether products and convolutions of a GPU are rounded to TF32


def settle(step: TrainStep, data: Feed, resumed: dict | None) -> str:
    """Compute the networks of a step as was chosen for its run, or as is fastest here. Return a line about it.

    Args: resumed: the state that the run goes on from, on rank 0. All ranks call this, before the first step.
    """
    arrange, begun = Arrangement(step), step.ranks.broadcast((resumed or {}).get("autotuned"))
    if begun is not None:
        arrange(_kept(begun))
        return f"autotune: {_words(arrange.choice)}, as when the run began"
    spent = _measure(step, data, arrange)
    arrange(step.ranks.broadcast(_best(spent)))
    others = ", ".join(f"{_words(each)} {spent[each]:.4g}" for each in spent if each != arrange.choice)
    return f"autotune: {_words(arrange.choice)}, {spent[arrange.choice]:.4g} s a step ({others})"


def _best(spent: dict[Choice, float]) -> Choice:
    """Return the fastest choice, but the first, which a run without --autotune has, unless another is faster by MARGIN."""
    first, fastest = next(iter(spent)), min(spent, key=spent.get)
    return fastest if spent[fastest] < (1 - MARGIN) * spent[first] else first


def _kept(begun: dict) -> Choice:
    """Return the choice that a run began with. Raise MachineFault where it is none."""
    layout, tf32 = begun.get("layout"), begun.get("tf32")
    if layout not in LAYOUTS or type(tf32) is not bool:
        raise MachineFault(f"the checkpoint does not fit this run: autotuned is {begun}")
    return layout, tf32


def _words(choice: Choice) -> str:
    return choice[0].replace("_", "-") + " with TF32" * choice[1]


class Arrangement:
    """The layout of a step's networks and of the images that come to them, and TF32; `choices` are those that are possible."""

    def __init__(self, step: TrainStep):
        self.step, self.hooks = step, []
        self.networks = [step.model, *step.criterion.networks()]
        on_gpu = next(step.model.parameters()).is_cuda
        asked = torch.backends.cuda.matmul.allow_tf32
        rounds = [True] if asked else [False, True] if on_gpu and not _is_autocast(step) else [False]
        self.choices = [(layout, tf32) for tf32 in rounds for layout in LAYOUTS]

    def __call__(self, choice: Choice) -> None:
        """Arrange everything so from now on."""
        layout, tf32 = self.choice = choice
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        for hook in self.hooks:
            hook.remove()
        for network in self.networks:
            network.to(memory_format=LAYOUTS[layout])
        inward = self.networks if layout == "contiguous" else ()  # batches are channels-last
        self.hooks = [network.register_forward_pre_hook(_contiguous) for network in inward]
        self.step.autotuned = {"layout": layout, "tf32": tf32}


def _contiguous(network: nn.Module, arguments: tuple) -> tuple:
    return (arguments[0].contiguous(), *arguments[1:])


def _is_autocast(step: TrainStep) -> bool:
    with step.precision():
        return torch.is_autocast_enabled(next(step.model.parameters()).device.type)


def _measure(step: TrainStep, data: Feed, arrange: Arrangement) -> dict[Choice, float]:
    """Return the median seconds of a training step by each choice, in turns, after which weights and generators are as before."""
    weights = {name: tensor.clone() for name, tensor in step.model.state_dict().items()}
    teacher_cache.fill(step, data, 1)  # what is kept of the batch is asked again before the first epoch
    trial = TrainStep(
        step.model, step.criterion, sgd(step.model, [], 0.0, 0.9, 0.0, 1.0), (), step.precision, step.parts
    )
    batch, began, turns = next(data.full_batches()), time.perf_counter(), []
    with torch.random.fork_rng([data.device] if data.device.type == "cuda" else []):
        while step.ranks.broadcast(len(turns) < 2 or len(turns) < ROUNDS and time.perf_counter() - began < PATIENCE):
            turns.append({choice: _seconds(trial, batch, arrange, choice) for choice in arrange.choices})
    trial.optimizer.zero_grad()
    step.model.load_state_dict(weights)
    return {choice: median(turn[choice] for turn in turns[1:]) for choice in arrange.choices}


def _seconds(trial: TrainStep, batch: Batch, arrange: Arrangement, choice: Choice) -> float:
    """Return the seconds of a step: the mean of STEPS, after one that pays for the change of layout."""
    wait = torch.cuda.synchronize if batch.x.is_cuda else lambda: None
    arrange(choice)
    trial.optimizer.state.clear()  # of another layout
    trial.model.train()
    trial(batch)
    wait()
    began = time.perf_counter()
    for _ in range(STEPS):
        trial(batch)
    wait()
    return (time.perf_counter() - began) / STEPS
