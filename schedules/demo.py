"""Train four networks on digits: a WRN-16-1 teacher, its SepHashed_0.1 student, that one alone, and the teacher pruned.

    make demo                                      # or: python -m schedules.demo

It runs main.py four times, as a user would, and prints one table. A second call finds the runs finished. The table
shows a difference between the students only where it is larger than chance explains (schedules/difference.py).
"""

import sys
from pathlib import Path

if not __package__:  # started as a file: its imports lie in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import json
import subprocess

from tabulate import tabulate

from cli import command as cli_command
from schedules.comparable import images
from schedules.difference import NOT, Result, is_told_apart, reason
from schedules.schedule import ROOT
from system.errors import RequestError

NETWORK = "--wrn_depth 16 --wrn_width 1 --epochs 16"
RUNS = {
    "teacher": ("demo.teacher", f"digits teacher -t demo.teacher {NETWORK}"),
    "taught student": (
        "demo.student",
        f"digits student -t demo.teacher -s demo.student --conv SepHashed_0.1 {NETWORK}",
    ),
    "student alone": ("demo.alone", f"digits teacher -t demo.alone --conv SepHashed_0.1 {NETWORK}"),
    "pruned": (
        "demo.pruned",
        f"digits teacher -t demo.pruned --init_from demo.teacher --prune TopK_0.1 --prune_at 0 --lr 0.02 {NETWORK} --epochs 5",
    ),
}


def main() -> int:
    """Run the command and return its exit status."""
    if sys.argv[1:]:
        raise RequestError(f"unexpected argument {sys.argv[1]!r}: the demo takes none")
    records = {}
    for role, (name, command) in RUNS.items():
        print(f"\n$ python main.py {command} --resume", flush=True)
        script = str(ROOT / "main.py")
        if status := subprocess.run([sys.executable, script, *command.split(), "--resume"]).returncode:
            return status
        folder = Path("runs") / name
        epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        records[role] = json.loads((folder / "config.json").read_text()), epochs
    print("\n" + table(records))
    return 0


def table(records: dict[str, tuple[dict, list[dict]]]) -> str:
    """Return a column for each role, from its config.json and its epochs, and below the reason for the difference."""
    taught, alone = (_result(*records[role]) for role in ("taught student", "student alone"))
    columns = []
    for role, (record, epochs) in records.items():
        counts = record["counts"]
        columns.append({
            "": role, "conv": record["config"]["conv"], "error %": f"{epochs[-1]['test_top1_error']:.2f}",
            "difference": _difference(taught, alone) if role == "taught student" else "",
            "params": f"{counts['params']:,}", "params, not 0": f"{epochs[-1].get('active_parameters', counts['params']):,}",
            "mult-adds, published": f"{counts['mult_adds']:,.0f}",
            "mult-adds, exact": f"{counts['mult_adds_exact']:,.0f}", "stored bytes": f"{counts['stored_bytes']:,}",
            "seconds": f"{sum(each['seconds'] for each in epochs):,.0f}",
        })  # fmt: skip
    headers, *rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    shown = tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * len(columns)))
    return f"{shown}\ntaught − alone: {reason(taught, alone)}"


def _difference(taught: Result, alone: Result) -> str:
    apart = is_told_apart(taught, alone)
    return NOT if apart is False else f"{taught.error - alone.error:+.2f}"


def _result(record: dict, epochs: list[dict]) -> Result:
    return Result(epochs[-1]["test_top1_error"], images(record["config"])[1])


if __name__ == "__main__":
    sys.exit(cli_command.run(main))
