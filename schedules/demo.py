"""`make demo`: on digits, a WRN-16-1 teacher, a SepHashed_0.1 student that it teaches, and the same student alone.

Runs main.py three times, as a user would, and prints one table. A second call finds the runs finished. Whether the teacher has
helped, the table says only where the difference is larger than chance explains (schedules/difference.py).
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
from schedules.difference import NOT, Result, reason, verdict
from schedules.schedule import ROOT
from system.errors import RequestError

NETWORK = "--wrn_depth 16 --wrn_width 1"
RUNS = {
    "teacher": ("demo.teacher", f"digits teacher -t demo.teacher {NETWORK}"),
    "student, taught": (
        "demo.student",
        f"digits student -t demo.teacher -s demo.student --conv SepHashed_0.1 {NETWORK}",
    ),
    "student, alone": ("demo.alone", f"digits teacher -t demo.alone --conv SepHashed_0.1 {NETWORK}"),
}


def main() -> int:
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
    """A line for each role with its config.json and its epochs; below, what the difference of the students stands on."""
    taught, alone = (_result(*records[role]) for role in ("student, taught", "student, alone"))
    apart = verdict(taught, alone)
    difference, rows = apart if apart == NOT else f"{taught.error - alone.error:+.2f}", []
    for role, (record, epochs) in records.items():
        counts = record["counts"]
        rows.append([
            role, record["config"]["conv"], f"{epochs[-1]['test_top1_error']:.2f}",
            difference if role == "student, taught" else "", counts["params"], counts["mult_adds"],
            counts["mult_adds_exact"], counts["stored_bytes"], sum(each["seconds"] for each in epochs),
        ])  # fmt: skip
    headers = ["run", "conv", "error %", "difference", "params", "mult-adds", "exact", "stored bytes", "seconds"]
    align = ("left", "left", "right", "left", *["right"] * 5)
    shown = tabulate(rows, headers, intfmt=",", floatfmt=",.0f", disable_numparse=[2, 3], colalign=align)
    return f"{shown}\ntaught − alone: {reason(taught, alone)}"


def _result(record: dict, epochs: list[dict]) -> Result:
    return Result(epochs[-1]["test_top1_error"], images(record["config"])[1])


if __name__ == "__main__":
    sys.exit(cli_command.run(main))
