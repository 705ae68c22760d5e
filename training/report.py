"""What a person is told of a run: what is about to be trained, each epoch, and what is kept when something ends it.

report = Report(ranks)                       # prints on rank 0 alone
report.announce(prepared, step)
with advice(request, device, ranks, run): ...
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from counting.costs import gated, staying, warn_of_uncounted
from distributed import launch
from distributed.process_group import Ranks
from input import datasets, facts
from layers.mixed import brief
from models.registry import NETWORKS
from record.identity import shown
from record.run import Run, Unrecorded
from system.configuration import Configuration
from system.errors import Diverged, Interrupted, MachineFault, is_out_of_memory, of_system
from training import dry_run, rates, teacher_cache
from training.step import TrainStep
from weights.classes import print_data_difference
from weights.origin import Origin

if TYPE_CHECKING:
    from training.prepare import Prepared


def aside(config: Configuration) -> AbstractContextManager:
    """Return a context in which what is printed goes to stderr where --json leaves standard output to one object."""
    return redirect_stdout(sys.stderr) if config.json else nullcontext()


class Report:
    """Print what a person is told, on rank 0; do nothing on the others."""

    def __init__(self, ranks: Ranks):
        self.speaks = ranks.is_first

    def say(self, text: str | None) -> None:
        """Print a line or several; nothing where the text is empty."""
        if self.speaks and text:
            print(text, flush=True)

    def warn(self, text: str) -> None:
        """Print a warning on stderr."""
        if self.speaks:
            print(f"warning: {text}", file=sys.stderr)

    def announce(self, prepared: Prepared, step: TrainStep) -> None:
        """Print what is about to be trained, on what, what decays by how much, and what is odd about where it comes from.

        With --json all of it goes to stderr.
        """
        if not self.speaks:
            return
        with aside(prepared.config):
            self._announce_training(prepared, step)
            self._announce_origins(prepared)

    def _announce_training(self, prepared: Prepared, step: TrainStep) -> None:
        teacher, found = prepared.teacher, prepared.budget
        if teacher is not None and teacher.unfinished:
            until = "once the teacher is trained further, this run cannot be resumed"
            self.warn(f"the teacher has only finished {teacher.unfinished}: {until}")
        if found is not None:
            self.say(f"budget: {found.asked:,} {found.unit} asked, {found.achieved:,} achieved by {found.setting}")
        self.say(_of_network(prepared))
        if teacher is not None:
            self.say(_of_teacher(teacher))
        for line in filter(None, (staying(prepared.costs), gated(prepared.costs))):
            self.say(line)
        warn_of_uncounted(prepared.costs)
        if prepared.config.batch_size > (images := len(prepared.data.training)):
            self.warn(
                f"a batch of {prepared.config.batch_size:,} is more than the {images:,} training images: an epoch is one step"
            )
        if (cache := teacher_cache.cache_of(step)) is not None:
            self.say(cache.line())
        schedule = rates.describe(prepared.config)
        for line in (_of_data(prepared, step.ranks), *_of_decay(step), schedule, _of_options(prepared.config)):
            self.say(line)

    def _announce_origins(self, prepared: Prepared) -> None:
        config, teacher, start, found = prepared.config, prepared.teacher, prepared.start, prepared.found
        for origin in (teacher, start):
            if origin is not None and origin.mapping:
                self.say(origin.mapping)
        if teacher is not None and not teacher.mapping:
            print_data_difference(config.teacher_checkpoint, "teacher", teacher.config, config)
        if start is not None and start.config.get("data_names", "") not in ("", config["data_names"]):
            self.warn(f"{config.init_from!r} was trained on classes of other names, its classifier too")
        unknown = found.config is not None and found.config.get("data_digest") is None
        if unknown and prepared.done[0] < config.epochs:  # a finished run stays as it is
            name = prepared.name
            self.say(f"the record of the run {name!r} does not say on which data it was begun: from now on it does")

    def beginning(self, run: Run | Unrecorded, prepared: Prepared) -> None:
        """Print where a resumed run begins."""
        if prepared.resume and self.speaks:
            self.say(run.beginning(prepared.until))

    def epoch(self, row: dict | None, epochs: int) -> None:
        """Print an epoch's row of metrics in one line; nothing within an epoch."""
        if row is not None:
            self.say(epoch_line(row, epochs))

    def result(self, run: Run | Unrecorded) -> None:
        """Print the errors of the last epoch that was tested and the best, and what goes on with a run that is not finished."""
        if not self.speaks:
            return
        last = next((row for row in reversed(run.rows) if "test_top1_error" in row), None)
        if last is not None:
            top1, top5, best = (last[f"{name}_error"] for name in ("test_top1", "test_top5", "best_test_top1"))
            after = "" if last is run.rows[-1] else f" after epoch {last['epoch'] + 1}"
            self.say(f"Error@1 {top1:.2f} Error@5 {top5:.2f} (best Error@1 {best:.2f}){after}")
            if "test_reestimated_top1_error" in last:
                top1, top5 = (last[f"test_reestimated_{name}_error"] for name in ("top1", "top5"))
                self.say(f"Error@1 {top1:.2f} Error@5 {top5:.2f} with batch-norm's statistics taken anew")
        elif run.rows and "val_top1_error" in run.rows[-1]:  # --test_every 0
            self.say(f"Error@1 {run.rows[-1]['val_top1_error']:.2f} of the images held out, none was tested")
        if not run.is_finished():
            self.say(f"{run.progress()}: the same command with a later --until, or none, and --resume goes on")

    def estimate(self, prepared: Prepared, measured: dry_run.Measured) -> None:
        """Print what the run would take, as a table or as JSON."""
        if self.speaks:
            config, data = prepared.config, prepared.data
            epochs = (config.epochs, prepared.until)
            of = dry_run.estimate(measured, data, prepared.costs, epochs, prepared.done, prepared.disk)
            self.say(json.dumps(of) if config.json else dry_run.report(of))
            if config.latency:
                self.warn("--dry_run does not measure --latency: count.py does before a run, the run at its end")


def _of_network(prepared: Prepared) -> str:
    costs = prepared.costs
    own = f", {costs['gate_params']:,} of them the gates'" if "gate_params" in costs else ""
    without = ", without gates" if own else ""
    return (
        f"{prepared.name}: {conv_and_gate(prepared.config)} on {prepared.config.network}, {costs['params']:,} parameters{own} "
        f"({costs['crs_ratio']:.4f} of the reference{without}), {costs['mult_adds_exact']:.4E} mult-adds an image"
        f"{', of all channels' if own else ''}"
    )


def _of_teacher(teacher: Origin) -> str:
    config = teacher.config
    error = "" if teacher.test_error is None else f", test error {teacher.test_error:.2f}%"
    name = NETWORKS[config["network"]].short_name(config)
    return f"taught by {conv_and_gate(config)} on {name}{error}"


def conv_and_gate(config: Mapping, whole: bool = False) -> str:
    """Return what a network's convolutions are, and how their channels are chosen: `Conv, FBS_0.5`.

    A long mixed name is in brief unless it is asked for as a whole.
    """
    conv = config.get("conv") or ""
    conv = (conv if whole else brief(conv)) or str(config.get("module"))
    return ", ".join(filter(None, (conv, config.get("gate"))))


def _of_data(prepared: Prepared, ranks: Ranks) -> str:
    config, device = prepared.config, prepared.data.device
    where = str(device) if ranks.world_size == 1 else f"{ranks.world_size} processes, each on its {device.type}"
    dataset = datasets.of(config)
    images = facts.shown(config, dataset.title, (dataset.train_images, dataset.test_images))
    return f"{config.dataset} from {prepared.source.where}, on {where}: {images}, {facts.classes(config)}"


def _of_decay(step: TrainStep) -> Iterator[str]:
    for group in step.optimizer.param_groups:
        count = sum(parameter.numel() for parameter in group["params"] if parameter.requires_grad)
        slow = f", {group['lr_factor']:.3g} of the learning rate" if "lr_factor" in group else ""
        yield f"weight decay {group['weight_decay']:.3g} on {count:,} {group['name']} parameters{slow}"


def _of_options(config: Mapping) -> str:
    """All options that are on, but for those of the data, which have their line."""
    on = {name: value for name, value in config.items() if value not in (None, "") and value is not False}
    resolved = " ".join(f"{name}={shown(name, value)}" for name, value in on.items() if not name.startswith("data_"))
    return textwrap.fill(f"options: {resolved}", 110, subsequent_indent="    ", break_long_words=False)


def epoch_line(row: dict, epochs: int) -> str:
    """Return an epoch's row of metrics as a person reads it."""
    shown = [f"epoch {row['epoch'] + 1}/{epochs}", f"lr {row['lr']:.4g}", f"train loss {row['train_loss']:.4f}"]
    if (
        row.get("train_loss_gate", 0) >= 5e-5
    ):  # it is seen in the train loss, as that of Naive is while gates learn alone
        shown.append(f"of gates {row['train_loss_gate']:.4f}")
    for split in ("train", "val", "test"):
        if f"{split}_top1_error" in row:
            shown.append(f"{split} error {row[f'{split}_top1_error']:.2f}%")
    if "active_fraction" in row:
        shown.append(f"active {100 * row['active_fraction']:.4g}%")
    if "gate_density" in row:
        shown.append(f"open {100 * row['gate_density']:.4g}%, {row['mult_adds_gated']:.4E} mult-adds")
    shown += [f"{row[key]:,} {key.partition('_')[0]} images left out" for key in row if key.endswith("_left_out")]
    return "  ".join([*shown, f"{row['images_per_second']:,.0f} images/s"])


@contextmanager
def advice(
    request: Configuration, device: torch.device, ranks: Ranks, run: Run | Unrecorded | None = None
) -> Iterator[None]:
    """Add to whatever ends training what of it is kept and what would help. Rank 0 speaks for what ends all ranks at once."""

    def kept(way: str = "repeat the command with --resume to go on") -> str:
        if isinstance(run, Run):
            return f"; {run.progress()} are kept, {way}"
        return "; nothing was written" if ranks.is_first else ""

    try:
        yield
    except Interrupted as error:
        raise Interrupted(f"{error}{kept()}" if ranks.is_first else "", error.exit_status)
    except Diverged as error:
        with launch.printed_once():
            lower = "--lr or --beta" if request.mode == "student" and request.beta else "--lr"
            raise Diverged(f"{error}{kept(f'a lower {lower} under another name may hold')}")
    except MachineFault as error:
        raise MachineFault(f"{error}{kept()}")
    except OSError as error:
        raise MachineFault(f"{of_system(error)}{kept()}")
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        less = f"a --batch_size below {request.batch_size} needs less memory"
        if not (request.checkpoint_activations or request.compile):
            less += ", --checkpoint_activations too"
        raise MachineFault(f"out of memory on {device}: {less}{kept()}")


def versions() -> dict[str, str]:
    """Return the versions of Python, torch and this repository (empty where git does not know)."""
    command = ["git", "-C", str(Path(__file__).parents[1]), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True).stdout
    except OSError:
        commit = ""
    return {"python": platform.python_version(), "torch": torch.__version__, "git_commit": commit.strip()}


def machine(device: torch.device) -> dict[str, str | int]:
    """Return what decides the last bits of a run beside versions: vector instructions, such as AVX512, threads, the GPU's model."""
    cpu = {"instructions": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}
    return cpu | ({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {})
