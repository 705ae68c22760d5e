"""Studies made for tests: what `python -m schedules.collate` would have written of runs that nobody trained.

write(folder / "study.csv", [run("SepHashed_0.1", 5.2, params=500_000, seeds=3)])
"""

import csv
import json
import math
import random
import statistics
from collections.abc import Iterable
from pathlib import Path

from cli.recipes import structured_lr_of
from layers.registry import FAMILIES, OpenName, parse_conv
from schedules.outcomes import MEASURES

_PUBLISHED = """
SepHashedFull_0.1 3911898 627386624 3.84 5.95
ACDC 555498 560000000 4.99 6.8
SepHashedDecimate 710327 640000000 5.04 7.1
Shuffle_4 823674 115000000 4.76 7.2
Shuffle_8 563594 74900000 5.98 8.4
Shuffle_16 437354 58700000 7.7 10.1
Shuffle_32 378314 49200000 10.02 12.9
TensorTrain_0.26 664226 628000000 8.05 10.18
TensorTrain_0.8_4 671050 628100000 5.22 10.96
Tucker_0.25 681248 628200000 5.06 16.58
Tucker_0.4_4 685723 628300000 9.29 16.13
"""


def run(conv: str, error: float, seed: int = 0, taught: bool = True, state: str = "finished", **fields) -> dict:
    """One run's row, 200 epochs of WRN-28-10 on cifar10 unless `fields` say otherwise."""
    mode = "student" if taught else "teacher"
    name = fields.pop(
        "name", f"{conv}.{mode}.{seed}.{fields.get('wrn_width', 10)}{'.nocrs' if fields.get('nocrswd') else ''}"
    )
    row = dict(
        name=name, state=state, reason="" if state == "finished" else f"why it is {state}", family=family_of(conv),
        taught=taught, test_top1_error=error, test_top5_error=error / 8, best_test_top1_error=error * 0.98,
        best_test_top5_error=error / 9, val_top1_error=None, val_top5_error=None, epochs_done=200, epochs_planned=200,
        params=500_000, crs_ratio=0.02, mult_adds=2 * 10**8, mult_adds_exact=10**8, stored_bytes=2 * 10**6,
        seconds=5000.0, images_per_second=1234.5, folder=f"runs/{name}", git_commit="abc", dataset="cifar10",
        network="WideResNet", mode=mode, wrn_depth=28, wrn_width=10.0, conv=conv, module=None, where="",
        teacher_checkpoint="the.teacher" if taught else name, student_checkpoint=name if taught else None, init_from=None,
        seed=seed, epochs=200, batch_size=128, lr=0.1, structured_lr=structured_lr_of(conv, None), momentum=0.9, weight_decay=5e-4, nocrswd=False, crs_factor=1.0,
        temperature=4.0 if taught else None, alpha=0.0 if taught else None, beta=1000.0 if taught else None, surprise="new",
    )  # fmt: skip
    if state != "finished":
        row |= dict(test_top1_error=None, test_top5_error=None, best_test_top1_error=None, best_test_top5_error=None)
    row |= fields
    row.setdefault(
        "group", f"{row['conv']}-{taught}-{row['wrn_width']}-{row['nocrswd']}-{row['crs_factor']}-{row['network']}"
    )
    return row


def family_of(conv: str) -> str:
    """`TensorTrain_x_4` of `TensorTrain_0.8_4`, `Conv` of `Conv`."""
    name = parse_conv(conv)
    return str(OpenName(name.family, next(iter(FAMILIES[name.family].numbers), None), name.numbers[1:]))


def several(conv: str, error: float, seeds: int = 3, spread: float = 0.15, **fields) -> list[dict]:
    draw = random.Random(f"{conv}{error}")
    return [run(conv, error + draw.gauss(0, spread) * (seeds > 1), seed, **fields) for seed in range(seeds)]


def published(seeds: int = 1) -> list[dict]:
    """The figures of the published study, with a teacher, a control and some runs that came to nothing."""
    rows = several("Conv", 3.8, seeds, taught=False, name="the.teacher", params=36479194, mult_adds_exact=5243330000)
    for number, row in enumerate(rows):
        row["name"] = row["teacher_checkpoint"] = "the.teacher" + f".{number}" * bool(number)
    for line in _PUBLISHED.split("\n")[1:-1]:
        conv, params, exact, with_teacher, alone = line.split()
        costs = dict(params=int(params), mult_adds=int(exact) * 1.1, mult_adds_exact=int(exact))
        rows += several(conv, float(with_teacher), seeds, **costs)
        rows += several(conv, float(alone), seeds, taught=False, **costs)
    for width, params, exact, error in ((1, 367000, 53e6, 8.9), (1.3, 616000, 89e6, 7.6), (3, 3.29e6, 4.8e8, 5.1)):
        rows += several(
            "Conv", error, seeds, taught=False, wrn_width=width, params=int(params), mult_adds_exact=int(exact)
        )
    for conv, without in (("Shuffle_4", 5.9), ("ACDC", 5.5), ("SepHashedFull_0.1", 3.6), ("Tucker_0.25", 5.5)):
        of = next(row for row in rows if row["conv"] == conv)
        costs = {key: of[key] for key in ("params", "mult_adds", "mult_adds_exact")}
        rows += several(conv, without, seeds, nocrswd=True, **costs)
    for state in ("failed", "diverged", "incomplete", "planned"):
        rows.append(run("CP_0.1", 0, seed=hash_of(state), state=state, name=f"cp.{state}", epochs_done=17))
    return rows


def hash_of(text: str) -> int:
    return sum(map(ord, text)) % 100


def large(count: int = 80) -> list[dict]:
    """Many settings of many families, taught and alone."""
    draw = random.Random(0)
    rows = several("Conv", 3.8, 1, taught=False, name="the.teacher", params=36479194, mult_adds_exact=5243330000)
    families = [
        ("SepHashed", 1.0),
        ("Hashed", 2.6),
        ("Generic", 1.15),
        ("LR", 1.3),
        ("TensorTrain", 1.1),
        ("Tucker", 1.2),
        ("CP", 2.0),
    ]
    for number in range(count // 2):
        family, badness = families[number % len(families)]
        share = 0.02 * 1.6 ** (number // len(families) + draw.random())
        params = int(36e6 * (0.004 + 0.12 * share))
        error = 3.9 + 2.2 * badness * (share * 3) ** -0.4 * draw.uniform(0.9, 1.1)
        costs = dict(params=params, mult_adds_exact=params * 300 + int(1e7 * draw.random()), mult_adds=params * 400)
        rows += [
            run(f"{family}_{share:.3g}", error, **costs),
            run(f"{family}_{share:.3g}", error * 1.3, taught=False, **costs),
        ]
    return rows


def epochs(row: dict, count: int | None = None) -> list[dict]:
    """Metrics that end at the row's error."""
    draw, count = random.Random(row["name"]), row["epochs_done"] if count is None else count
    end = row["test_top1_error"] if row["test_top1_error"] is not None else 30.0
    found = []
    for epoch in range(count):
        progress = (epoch + 1) / count
        step = 1 - 0.25 * sum(progress > drop for drop in (0.3, 0.6, 0.8)) / 3 * 4
        noise = 1 + 0.1 * step * draw.gauss(0, 1)
        error = end * (1 + 9 * math.exp(-6 * progress) + 1.2 * step) * noise if epoch + 1 < count else end
        found.append(dict(epoch=epoch, lr=0.1, train_loss=1.0, train_top1_error=error * (1.1 - progress), test_loss=1.0,
                          test_top1_error=min(error, 90.0), test_top5_error=error / 8, seconds=25.0,
                          images_per_second=1234.5))  # fmt: skip
        if "active_fraction" in row:
            found[-1]["active_fraction"] = row["active_fraction"] if epoch else 1.0
    return found


def write(
    path: Path, rows: Iterable[dict], count: int | None = None, conflicts: Iterable[str] = (), curves=True
) -> Path:
    """STUDY.csv with the groups' means and, if `curves`, STUDY.json with `count` epochs of every run."""
    rows = [dict(row) for row in rows]
    for row in rows:
        twins = [each for each in rows if each["group"] == row["group"] and each["state"] == "finished"]
        row["seeds"] = len(twins)
        for measure in MEASURES:
            values = [each[measure] for each in twins if each[measure] is not None]
            row[f"mean_{measure}"] = statistics.fmean(values) if values else None
            row[f"std_{measure}"] = statistics.stdev(values) if len(values) > 1 else None
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {key: json.dumps(value) if isinstance(value, bool) else value for key, value in row.items()}
            )
    if curves:
        study = {"runs": [row | {"rows": epochs(row, count)} for row in rows], "conflicts": list(conflicts)}
        path.with_suffix(".json").write_text(json.dumps(study))
    return path
