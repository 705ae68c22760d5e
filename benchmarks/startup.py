"""How soon a command answers, and what a job of a study costs, in CPU seconds: with baselines of the same run.

    OMP_NUM_THREADS=1 python benchmarks/startup.py --json startup.json
    OMP_NUM_THREADS=1 python benchmarks/startup.py --runs 3 --only answers counting

Every line is a process, or a study of `--jobs` tiny jobs; lines take turns, and each figure is the median over the runs.
CPU time holds where other processes are busy too. Baselines: an empty Python, `import numpy`, `import torch`, and jobs
that are processes of their own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from tabulate import tabulate

WRN = ["cifar10", "--wrn_depth", "28", "--wrn_width", "10"]
SIXTEEN = (
    "Conv,Sep,Generic_0.1,Generic_0.2,LR_0.1,Hashed_0.1,HashedDecimate,SepHashed_0.1,SepHashed_0.3,SepHashedDecimate,"
    "ACDC,ACDC_64,TensorTrain_0.5,Tucker_0.5,CP_0.5,Shuffle_4"
)
FIRST_STEP = """
import os, sys
import main
from training.step import TrainStep
TrainStep.__call__ = lambda *_, **__: (sys.stdout.flush(), os._exit(0))
main.main("digits teacher -t t --wrn_depth 16 --wrn_width 1".split())
"""
STUDY = """
import json, sys
from schedules import run
from schedules.launchers.forked import Template
if sys.argv[1] == "ordinary":
    Template._serves = lambda *_: False
jobs = [["python", "main.py", "digits", "teacher", "-t", f"j{each}", "--wrn_depth", "10", "--wrn_width", "0.25",
         "--epochs", "1", "--batch_size", "500", "--train_size", "500"] for each in range(int(sys.argv[2]))]
json.dump(jobs, open("study.json", "w"))
sys.exit(run.main(["study.json"]))
"""


def cpu_seconds(*arguments: str, status: int = 0) -> float:
    """Return the CPU time of a Python process, and of all that it has waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == status, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def commands(jobs: int) -> dict[str, dict[str, Callable[[], float]]]:
    """Return what is measured, in groups. The first of a group is its baseline."""
    main, count = str(ROOT / "main.py"), str(ROOT / "count.py")
    torch = {"import torch": lambda: cpu_seconds("-c", "import torch")}
    modules = ("run", "generate", "collate", "list", "plot", "costs")
    convs = ("Conv", "Sep", "SepHashed_0.1", "PermutedACDC_64", "TensorTrain_0.5")
    return {
        "answers": {
            "import numpy": lambda: cpu_seconds("-c", "import numpy"),
            "python -c pass": lambda: cpu_seconds("-c", "pass"),
            "main.py --help": lambda: cpu_seconds(main, "--help"),
            "main.py, unknown flag": lambda: cpu_seconds(main, "digits", "teacher", "--what", status=2),
            "count.py --help": lambda: cpu_seconds(count, "--help"),
            **{f"schedules.{each} --help": lambda each=each: cpu_seconds("-m", f"schedules.{each}", "--help") for each in modules},
        },
        "counting": torch
        | {f"WRN-28-10 {conv}": lambda conv=conv: cpu_seconds(count, *WRN, "--conv", conv) for conv in convs}
        | {
            "WRN-28-10, 16 convs": lambda: cpu_seconds(count, *WRN, "--compare", SIXTEEN),
            "DARTS, 16 convs": lambda: cpu_seconds(count, "cifar10", "--network", "DARTS", "--compare", SIXTEEN),
        },
        "training": {  # both leave at once: taking torch down costs too
            "import torch": lambda: cpu_seconds("-c", "import os, torch; os._exit(0)"),
            "first step on digits": lambda: cpu_seconds("-c", FIRST_STEP),
        },
        f"{jobs} jobs": {
            how: lambda how=how: cpu_seconds("-c", STUDY, how, str(jobs)) for how in ("ordinary", "forked")
        },
    }  # fmt: skip


def main() -> None:
    """Measure, print a table for each group, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--only", nargs="+", metavar="GROUP", help="answers counting training jobs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    found = {}
    for group, lines in commands(given.jobs).items():
        if given.only and group.split()[-1] not in given.only:
            continue
        runs = [{what: measure() for what, measure in lines.items()} for _ in range(given.runs)]
        seconds = {what: median(run[what] for run in runs) for what in lines}
        baseline = seconds[next(iter(lines))]
        found[group] = [
            {"what": what, "cpu_seconds": spent, "ratio": spent / baseline, "beyond": spent - baseline}
            for what, spent in seconds.items()
        ]
        print(tabulate(found[group], "keys", floatfmt=".3f", numalign="right"), end="\n\n", flush=True)
    if given.json:
        given.json.write_text(json.dumps({"runs": given.runs, "jobs": given.jobs, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
