"""What the launcher adds to a job, and how long 2,000 planned jobs take to generate, check and list.

    python benchmarks/launching.py

Jobs are stood in for by `cp`, which puts the record of a finished run in place. Baseline: the same processes one after the
other. One slot, 200 jobs, median of 3; then the three commands as processes of their own, median of 3, with torch's import.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from schedules import run
from schedules.job_queue import Queue
from schedules.launchers.local import Local
from schedules.schedule import Job, parse
from schedules.view import View
from system.signals import Deferred

JOBS, REPEATS = 200, 3


def finished(folder: Path) -> None:
    """Write the record of a run of one epoch."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"config": {"epochs": 1}}))
    (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 0, "test_top1_error": 9.0, "seconds": 1.0}) + "\n")


def seconds_of_launcher(template: Path) -> float:
    flags = ["--wrn_depth", "10", "--wrn_width", "1", "--epochs", "1"]
    jobs, _ = parse([["python", "main.py", "digits", "teacher", "-t", f"r{each}", *flags] for each in range(JOBS)])
    Job.command = lambda job: ["cp", "-r", f"{template}/.", f"runs/{job.name}"]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        queue, launcher = Queue(jobs, 0), Local(Namespace(slots=1))
        with View(queue, "") as view, Deferred() as stop:
            view.event = lambda *arguments: None
            began = time.perf_counter()
            run.work(queue, launcher, view, stop)
            took = time.perf_counter() - began
        assert queue.count("finished") == JOBS
        os.chdir(ROOT)
    return took


def seconds_alone(template: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        for each in range(JOBS):
            Path(f"{folder}/runs/r{each}").mkdir(parents=True)
            subprocess.run(["cp", "-r", f"{template}/.", f"{folder}/runs/r{each}"], check=True, start_new_session=True)
        return time.perf_counter() - began


def seconds_of_command(*arguments: str, cwd: str) -> float:
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", *arguments], cwd=cwd, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        finished(template := Path(place) / "finished")
        pairs = [(seconds_of_launcher(template), seconds_alone(template)) for _ in range(REPEATS)]
    launched, alone = (median(each) / JOBS * 1e3 for each in zip(*pairs))
    print(
        f"a job by the launcher {launched:.1f} ms, alone {alone:.1f} ms: {launched - alone:.1f} ms are the launcher's"
    )
    study = ["wrn_28_10", "--budgets", "4e5:3e6:5", "--seeds", "19", "-o"]
    times = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as place:
            generated = seconds_of_command("schedules.generate", *study, "study.json", cwd=place)
            jobs = len(json.loads(Path(place, "study.json").read_text()))
            times.append((generated, seconds_of_command("schedules.list", "study.json", cwd=place)))
    generated, listed = (median(each) for each in zip(*times))
    print(f"{jobs:,} jobs: generated and checked in {generated:.1f} s, listed in {listed:.1f} s")
