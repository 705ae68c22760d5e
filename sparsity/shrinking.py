"""What shrink.py does with a run: shrink its network, test what is left, write that as a run, and say what was won.

shrink_run(request, testing)                 # the exit status; RequestError where there is nothing to shrink
"""

from __future__ import annotations

import copy
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping

import torch
from tabulate import tabulate
from torch import nn

from counting.costs import summary
from counting.latency import timings
from counting.measure import scientific
from distributed.process_group import ALONE
from input.datasets import side_of
from record import lock
from record.checkpoint import digest, disk_room, load_run
from record.found import Found, find, progress, refuse_other
from record.paths import RUNS, checkpoint_path
from record.run import Run
from sparsity.density import counted
from sparsity.shrunk import Shrunk, shrink
from sparsity.skipped import of_trained
from system.configuration import Configuration
from system.errors import Busy, RequestError
from training.device import choose_device, to_device
from training.evaluation import tested
from training.report import machine, versions
from weights.origin import Origin
from weights.restore import restore

BATCH = 32  # images of the second timing
SMALL_SIDE = 64  # of images of which such a batch is timed


def shrink_run(request: Configuration, testing: Callable[[Configuration, Mapping], Configuration]) -> int:
    """Shrink the network of a finished run. Return the exit status.

    Args: testing: makes the request that tests a run of a configuration on this machine. Raise RequestError where the run is not
    finished, the new name is taken, or no filter can go; nothing is written then.
    """
    saved = load_run(request.name, "run")
    _check_free(request.small)
    _check(request.name, saved)
    device, to_test = choose_device(request), testing(request, saved["config"])
    network = restore(request.name, saved)
    shrunk = shrink(network, saved["config"], request.dead)
    if not shrunk.removed:
        raise RequestError(f"no filter of {request.name!r} can go{_hint(shrunk, request.dead)}: nothing is written")
    config = _config(request, saved, shrunk)
    costs = [summary(each) for each in (saved["config"], config)]
    disk_room(request.small, shrunk.network, 0, is_only=True)
    metrics, about = tested(
        to_test, Origin(copy.deepcopy(shrunk.network), "", "", config), request.small, device, ALONE
    )
    times = _times([network, shrunk.network], side_of(config))
    row = _row(saved, config, shrunk.network, metrics)
    said = {"counts": {name: value for name, value in costs[1].items() if name != "layers"}}
    said |= {"argv": sys.argv, "versions": versions(), "machine": machine(device), "processes": 1}
    said["shrunk"] = {"removed": shrunk.removed, "stay": dict(shrunk.stay), "milliseconds": times}
    _write(request.small, config, said, [*saved["rows"][:-1], row], shrunk.network)
    print(report(request, saved, shrunk, costs, times))
    print(about)
    print(f"Error@1 {metrics['top1_error']:.2f} Error@5 {metrics['top5_error']:.2f}", _before(saved))
    return 0


def _check_free(name: str) -> Found:
    """Return what is found of a run that does not exist. Raise RequestError where the name is taken."""
    if process := lock.holder(RUNS / name):
        raise _busy(name, process)
    found = find(name)
    if found.config is not None:
        raise RequestError(f"the run {name!r} exists: choose another name")
    refuse_other(name, {}, found, resume=False)
    return found


def _busy(name: str, process: str) -> Busy:
    return Busy(f"another process writes the run {name!r} at this moment, {process}: choose another name")


def _check(name: str, saved: dict) -> None:
    """Raise RequestError where the run is not finished, has convolutions of the user's own, or gates."""
    config = saved["config"]
    if saved["epoch"] < config["epochs"]:
        raise RequestError(f"the run {name!r} has only finished {progress(saved, config)}: --resume finishes it")
    if config.get("module"):
        raise RequestError(f"the run {name!r} has convolutions of {config['module']} (--module), which cannot be cut")
    if config.get("gate"):
        why = "which choose channels of the whole network; a shrunk run can be gated instead (--init_from NEW --gate)"
        raise RequestError(f"the run {name!r} has gates ({config['gate']}), {why}")


def _hint(shrunk: Shrunk, dead: float | None) -> str:
    if shrunk.stay:
        return " without a change of its outputs: " + "; ".join(_reasons(shrunk.stay))
    return ": none is of zeros" + (" (--dead EPS takes small ones as 0)" if dead is None else f" or below {dead:g}")


def _config(request: Configuration, saved: dict, shrunk: Shrunk) -> dict:
    """Return the configuration of the small run: that of the run it comes from, with its own name, widths and origin."""
    name = "student_checkpoint" if shrunk.config.get("mode") == "student" else "teacher_checkpoint"
    return {
        **shrunk.config,
        name: request.small,
        "shrunk_from": request.name,
        "shrunk_digest": digest(saved["model"]),
        "shrunk_dead": request.dead,
    }


def _row(saved: dict, config: Mapping, small: nn.Module, metrics: dict[str, float]) -> dict[str, float]:
    """Return the last epoch's row, with what the small network is tested to be in place of what the trained one was."""
    own = ("val_", "test_", "best_", "active_")
    row = {name: value for name, value in saved["rows"][-1].items() if not name.startswith(own)}
    row |= {f"test_{name}": value for name, value in metrics.items()}
    if "active_fraction" in saved["rows"][-1]:
        left = counted(small, config.get("prune_where") or "")
        row = {name: value for name, value in row.items() if not name.startswith("active_fraction/")}
        row |= left.metrics | {f"active_fraction/{name}": share for name, share in left.layers.items()}
        if (active := of_trained(small, config)) is not None:
            row["active_mult_adds"] = active
    return row


def _write(name: str, config: dict, about: dict, rows: list[dict], network: nn.Module) -> None:
    """Write the run: its record, with the epochs of the training that its weights come from, then its checkpoint and the last row.

    A record without a checkpoint is one of a process that was killed, and blocks no name (record/found.py).
    """
    *before, row = rows
    nothing = {"optimizer": {}, "callbacks": [], "meter": {}, "rng": {}}
    folder, is_new = RUNS / name, not (RUNS / name).exists()
    state = {"epoch": len(before), "step": 0, "rows": before}
    begun = _check_free(name)._replace(state=state)  # another process may have been here since
    try:
        with Run(name, config, about, begun, resume=False) as run:
            if run.rows != before:
                raise Busy("the run was found otherwise than a moment before")
            run.save(row, {"epoch": len(rows), "step": 0, "model": network.state_dict(), **nothing})
    except Busy:
        raise _busy(name, lock.holder(folder) or "one that has just ended")
    except BaseException:
        if is_new and not checkpoint_path(name).exists():  # a record without a network would only block its name
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _times(networks: list[nn.Module], side: int) -> dict[str, list[float]]:
    """Return the median milliseconds before and after on the CPU, of one image and, where they are small, of a batch."""
    batches, cpu = [1, BATCH] if side <= SMALL_SIDE else [1], torch.device("cpu")
    ready, threads = [to_device(copy.deepcopy(network), cpu).eval() for network in networks], torch.get_num_threads()
    torch.set_num_threads(1)  # what several take depends on what else runs
    try:
        return {str(images): [each.median for each in timings(ready, side, images)] for images in batches}
    finally:
        torch.set_num_threads(threads)


def report(request: Configuration, saved: dict, shrunk: Shrunk, costs: list[dict], times: dict) -> str:
    """Return what was removed, what stays and why, and a table of what it costs, before and after."""
    filters = sum(shrunk.removed.values())
    lines = [
        f"{request.small}: {request.name} without {_some(filters, 'filter')} of {_some(len(shrunk.removed), 'layer')}"
    ]
    lines += [f"outputs differ by at most {shrunk.difference:.1e} from those of {request.name} on random images"]
    lines += [f"dead filters that stay: {reason}" for reason in _reasons(shrunk.stay)]
    rows = [
        ["parameters", *(f"{cost['params']:,}" for cost in costs)],
        ["mult-adds, published", *(scientific(cost["mult_adds"]) for cost in costs)],
        ["mult-adds, exact", *(scientific(cost["mult_adds_exact"]) for cost in costs)],
        ["stored bytes", *(f"{cost['stored_bytes']:,}" for cost in costs)],
    ]
    for images, both in times.items():
        what = f"ms, {images} image{'s' * (images != '1')}, a CPU thread"
        rows.append([what, *(f"{value:.3g}" for value in both)])
    return "\n".join(
        [
            *lines,
            tabulate(
                rows, ["", request.name, request.small], colalign=("left", "right", "right"), disable_numparse=True
            ),
        ]
    )


def _some(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _reasons(stay: Counter) -> list[str]:
    return [f"{number:,}, {why}" for why, number in stay.most_common()]


def _before(saved: dict) -> str:
    error = saved["rows"][-1].get("test_top1_error")
    return "" if error is None else f"({error:.2f} and {saved['rows'][-1]['test_top5_error']:.2f} before)"
