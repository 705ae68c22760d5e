"""`make demo`: on digits, a WRN-16-1 teacher, a SepHashed_0.1 student that it teaches, and the same student alone.

Runs main.py three times, as a user would, and prints one table. A second call finds the runs finished.
"""

import json
import subprocess
import sys
from pathlib import Path

from tabulate import tabulate

import cli
from errors import RequestError

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
    rows = []
    for role, (name, command) in RUNS.items():
        print(f"\n$ python main.py {command} --resume", flush=True)
        if status := subprocess.run([sys.executable, "main.py", *command.split(), "--resume"]).returncode:
            return status
        folder = Path("runs") / name
        record = json.loads((folder / "config.json").read_text())
        epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        counts = record["counts"]
        rows.append([
            role, record["config"]["conv"], f"{epochs[-1]['test_top1_error']:.2f}", counts["params"],
            counts["mult_adds"], counts["mult_adds_exact"], counts["stored_bytes"], sum(e["seconds"] for e in epochs),
        ])  # fmt: skip
    headers = ["run", "conv", "error %", "params", "mult-adds", "exact", "stored bytes", "seconds"]
    print(
        "\n"
        + tabulate(
            rows, headers, intfmt=",", floatfmt=",.0f", disable_numparse=[2], colalign=("left", "left", *["right"] * 6)
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
