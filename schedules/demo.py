"""Train seven networks on digits: a WRN-16-1 teacher, and two seeds of a SepHashed_0.1 student, of that one alone and of the teacher pruned.

    make demo                                      # or: python -m schedules.demo

It runs main.py seven times, as a user would, and prints one table. A second call finds the runs finished. Pruned, the
teacher has fewer parameters than the student. Below the table stands which differences are larger than chance explains
(schedules/difference.py).
"""

import sys
from pathlib import Path

if not __package__:  # started as a file: its imports lie in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import json
import subprocess
from collections.abc import Sequence
from statistics import fmean, stdev

from tabulate import tabulate

from cli import command as cli_command
from schedules.comparable import images
from schedules.difference import Result, reason, verdict
from schedules.schedule import ROOT
from system.errors import RequestError

NETWORK = "--wrn_depth 16 --wrn_width 1"
STUDENT = f"--conv SepHashed_0.1 {NETWORK} --epochs 12"
PRUNED = f"--init_from demo.teacher --prune TopK_0.038 --prune_at 0 --lr 0.02 {NETWORK} --epochs 5"


def _seeds(name: str) -> list[str]:
    return [f"demo.{name}.{seed}" for seed in (0, 1)]


# By role: the names of the runs, one for each seed, and main.py's words.
RUNS = {
    "teacher": (["demo.teacher"], f"digits teacher -t {{name}} {NETWORK} --epochs 16"),
    "student": (_seeds("student"), f"digits student -t demo.teacher -s {{name}} {STUDENT}"),
    "student alone": (_seeds("alone"), f"digits teacher -t {{name}} {STUDENT}"),
    "pruned": (_seeds("pruned"), f"digits teacher -t {{name}} {PRUNED}"),
}
COMPARED = (("student", "student alone"), ("pruned", "student"))
Run = tuple[dict, list[dict]]  # config.json and the rows of metrics.jsonl


def main() -> int:
    """Run the command and return its exit status."""
    if sys.argv[1:]:
        raise RequestError(f"unexpected argument {sys.argv[1]!r}: the demo takes none")
    runs: dict[str, list[Run]] = {}
    for role, name, seed in [(role, *each) for role, (names, _) in RUNS.items() for each in zip(names, range(2))]:
        words = f"{RUNS[role][1].format(name=name)} --seed {seed} --resume"
        print(f"\n$ python main.py {words}", flush=True)
        if status := subprocess.run([sys.executable, str(ROOT / "main.py"), *words.split()]).returncode:
            return status
        folder = Path("runs") / name
        epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        runs.setdefault(role, []).append((json.loads((folder / "config.json").read_text()), epochs))
    print("\n" + table(runs))
    return 0


def table(runs: dict[str, list[Run]]) -> str:
    """Return a column for each role, from the runs of its seeds, and below what can be said of the differences."""
    results = {role: _result(of) for role, of in runs.items()}
    columns = []
    for role, of in runs.items():
        (record, epochs), result = of[0], results[role]
        counts = record["counts"]
        columns.append({
            "": role, "conv": record["config"]["conv"],
            "error %": f"{result.error:.2f}" + (f" ± {result.std:.2f}" if result.std is not None else ""),
            "params": f"{counts['params']:,}", "params, not 0": f"{epochs[-1].get('active_parameters', counts['params']):,}",
            "mult-adds, published": f"{counts['mult_adds']:,.0f}",
            "mult-adds, exact": f"{counts['mult_adds_exact']:,.0f}", "stored bytes": f"{counts['stored_bytes']:,}",
            "seconds": f"{sum(each['seconds'] for _, epochs in of for each in epochs):,.0f}",
        })  # fmt: skip
    headers, *rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    shown = tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * len(columns)))
    said = [
        f"{one} − {other}, {verdict(results[one], results[other])}: {reason(results[one], results[other])}"
        for one, other in COMPARED
    ]
    return "\n".join([shown, *said])


def _result(runs: Sequence[Run]) -> Result:
    errors = [epochs[-1]["test_top1_error"] for _, epochs in runs]
    std = stdev(errors) if len(errors) > 1 else None
    return Result(fmean(errors), images(runs[0][0]["config"])[1], len(errors), std)


if __name__ == "__main__":
    sys.exit(cli_command.run(main))
