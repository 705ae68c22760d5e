"""What a person is told of a run: what is about to be trained, each epoch, and what is kept when something ends it."""

import platform
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from counting import budget
from counting.costs import warn_of_uncounted
from distributed import launch, process_group
from input import datasets, facts
from input.batches import Feed
from record import run as record_run
from system.configuration import Configuration
from system.errors import Diverged, Interrupted, MachineFault, is_out_of_memory, of_system


def announce(
    name: str, config: dict, request: Configuration, source: datasets.Source, data: Feed, costs: dict, optimizer, budgeted: budget.Found | None,
    team: process_group.Team,
) -> None:  # fmt: skip
    """What is about to be trained, on what, and what decays by how much."""
    conv, ratio = config["conv"] or request.module, costs["crs_ratio"]
    if budgeted is not None:
        print(f"budget: {budgeted.asked:,} {budgeted.unit} asked, {budgeted.achieved:,} achieved by {budgeted.setting}")
    print(
        f"{name}: {conv} on {request.network}, {costs['params']:,} parameters ({ratio:.4f} of the reference), "
        f"{costs['mult_adds_exact']:.4E} mult-adds an image"
    )
    warn_of_uncounted(costs)
    where = str(data.device) if team.count == 1 else f"{team.count} processes, each on its {data.device.type}"
    dataset = datasets.of(config)
    images = facts.shown(config, dataset.title, (dataset.train_images, dataset.test_images))
    print(
        f"{request.dataset} from {source.where}: {len(data.training):,} training and {len(data.test):,} test images, on {where}"
    )
    print(f"data: {images}, {facts.classes(config)}")
    for group in optimizer.param_groups:
        numbers = sum(parameter.numel() for parameter in group["params"])
        print(f"weight decay {group['weight_decay']:.3g} on {numbers:,} {group['name']} numbers")
    resolved = " ".join(
        f"{key}={value}"
        for key, value in config.items()
        if value is not None
        and value is not False
        and value != ""
        and not key.startswith("data_")  # which has its line
    )
    print(textwrap.fill(f"options: {resolved}", 110, subsequent_indent="    ", break_long_words=False), flush=True)


def line(row: dict, epochs: int) -> str:
    """An epoch as a person reads it."""
    shown = [f"epoch {row['epoch'] + 1}/{epochs}", f"lr {row['lr']:.4g}", f"train loss {row['train_loss']:.4f}"]
    for split in ("train", "val", "test"):
        if f"{split}_top1_error" in row:
            shown.append(f"{split} error {row[f'{split}_top1_error']:.2f}%")
    shown += [f"{row[key]:,} {key.partition('_')[0]} images left out" for key in row if key.endswith("_left_out")]
    return "  ".join([*shown, f"{row['images_per_second']:,.0f} images/s"])


@contextmanager
def told(
    request: Configuration, device: torch.device, run: record_run.Run | None, team: process_group.Team
) -> Iterator[None]:
    """Whatever ends training says what of it is kept, and what would help. What ends all processes at once, the first one
    tells."""

    def kept(on: str = "repeat the command with --resume to go on") -> str:
        if run is not None:
            return f"; {run.progress()} are kept, {on}"
        return "; nothing was written" if team.is_first else ""

    try:
        yield
    except Interrupted as error:
        raise Interrupted(f"{error}{kept()}" if team.is_first else "", error.exit_status)
    except Diverged as error:
        with launch.told_once():
            raise Diverged(f"{error}{kept('a lower --lr under another name may hold')}")
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
    """Of Python, torch and this repository (empty where git cannot tell)."""
    command = ["git", "-C", str(Path(__file__).parents[1]), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True).stdout
    except OSError:
        commit = ""
    return {"python": platform.python_version(), "torch": torch.__version__, "git_commit": commit.strip()}
