"""The rows of a collation: all that is known of one run, from its folder or from the command that plans it.

    row(read(Path("runs/digits.teacher")))["test_top1_error"]              # 2.36
    planned(read_schedule("study.json"), {})[0]["state"]                   # "planned"

A row holds the columns of LEADING, then the run's whole configuration, and as `rows` the metrics of its epochs.
"""

from collections.abc import Sequence
from contextlib import suppress

from gates import registry as gates
from layers.mixed import opened, parse_name, parse_open
from record.identity import open_conv
from record.reader import Record, latency
from schedules.schedule import Job
from sparsity import registry as sparsity
from system.errors import RequestError
from system.user_code import without_folders

METRICS = (
    "test_top1_error", "test_top5_error", "best_test_top1_error", "best_test_top5_error", "val_top1_error", "val_top5_error",
    "test_reestimated_top1_error", "test_reestimated_top5_error",
)  # fmt: skip
COSTS = ("params", "crs_ratio", "mult_adds", "mult_adds_exact", "stored_bytes")
LEFT = (
    "active_fraction",
    "active_parameters",
    "active_mult_adds",
    "sparse_bytes",
)  # of a network whose weights are pruned
OPEN = ("gate_density", "mult_adds_gated")  # means over the test images, of a network with gates
COMPARED = (
    "percent_of_teacher_params", "gap_to_teacher", "gap_to_teacher_verdict",
    "published_min_test_top1_error", "published_max_test_top1_error", "published_source",
)  # fmt: skip  # what teachers.py and published.py add
LEADING = (
    "name", "state", "reason", "family", "taught", "group", "seeds", *METRICS,
    *(f"{of}_{metric}" for metric in METRICS for of in ("mean", "std")),
    "epochs_done", "epochs_planned", *COSTS, *LEFT, *OPEN, *COMPARED, "seconds", "images_per_second", "folder", "git_commit",
)  # fmt: skip


def family(config: dict) -> str | None:
    """Return the family of a run's blocks, the curve that the run is a point of; None where nothing says it.

    Tensors of other than three dimensions have a family for each number of dimensions, such as `TensorTrain_x_4`. That
    of a mixed name is the name without its numbers; where --allocate finds them, it is what was asked for. It is
    followed by how weights become 0 and how channels are chosen: `Conv, TopK`, `Conv, FBS`.
    """
    name = _family_of_blocks(config)
    return ", ".join([name, *sparsity.ways(config), *gates.ways(config)]) if name else name


def _family_of_blocks(config: dict) -> str | None:
    if config.get("module"):
        return f"module {config['module']}"
    if not config.get("conv"):
        return None
    if config.get("allocate"):
        return f"{open_conv(config)} allocated"
    if config.get("budget") or config.get("budget_mult_adds"):  # before the run begins, the conv has no number yet
        with suppress(RequestError):
            return str(parse_open(config["conv"]))
    return str(opened(parse_name(config["conv"])))


def row(record: Record) -> dict:
    """Return the row of one run, without what grouping.add_groups, teachers.py and published.py add."""
    config, counts, last = without_folders(record.config), dict(record.document.get("counts", {})), record.last
    if counts.get("uncounted"):  # a user's module counts nothing, and the rest alone would look like a gain
        counts["mult_adds"] = counts["mult_adds_exact"] = None
    evaluated = record.tested or last  # of a run that is never tested, the images held out
    best5 = [each["test_top5_error"] for each in record.rows if "test_top5_error" in each]
    return {
        "name": record.name,
        "state": record.state,
        "reason": record.reason,
        "family": family(config),
        "taught": config["mode"] == "student" if "mode" in config else None,
        **{metric: evaluated.get(metric) for metric in METRICS},
        "best_test_top5_error": min(best5, default=None),
        "epochs_done": record.epochs_done,
        "epochs_planned": record.epochs_planned,
        **{cost: counts.get(cost) for cost in COSTS},
        **{left: last.get(left) for left in LEFT},
        **{measured: record.tested.get(measured) for measured in OPEN},
        "seconds": sum(each.get("seconds", 0.0) for each in record.rows) if record.rows else None,
        "images_per_second": last.get("images_per_second"),
        "folder": str(record.folder),
        "git_commit": record.document.get("versions", {}).get("git_commit"),
        **latency(record.folder),
        **config,
        "rows": record.rows,
    }


def planned(jobs: Sequence[Job], rows: dict[str, dict]) -> list[dict]:
    """Return a row for each job of a schedule: its run's, from `rows` by name, or what its command says."""
    found = []
    for job in jobs:
        row = rows.get(job.name, {})
        if "dataset" not in row:  # the run has no configuration, so the command knows more
            row = _of_command(job) | {key: row[key] for key in ("state", "reason", "folder") if key in row}
        for need, what in job.needs.items():
            state = rows.get(need, {}).get("state")
            if row["state"] == "planned" and state in ("failed", "diverged"):
                row["reason"] = f"its {what} {need} {state}"
        found.append(row)
    return found


def _of_command(job: Job) -> dict:
    config = job.options
    return {
        "name": job.name, "state": "planned", "reason": "", "family": family(config),
        "taught": config.mode == "student", "epochs_done": 0, "epochs_planned": config.epochs,
        **dict.fromkeys(METRICS), **config, "rows": [],
    }  # fmt: skip
