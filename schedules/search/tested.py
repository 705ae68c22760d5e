"""The test of a search's winner: the last job of its queue, a process on the launcher of the runs.

    python schedules/search/tested.py wrn.b2.007               # tests the run, writes runs/wrn.b2.007/test.json
    known("wrn.b2.007")                                        # 4.25, in %; None where it has not been tested

test.json holds the error and the digest of the checkpoint that was tested. As long as the checkpoint is the same, or is
away, the error is known and nothing is tested again. Imports no torch until it tests.
"""

import sys
from pathlib import Path

if not __package__:  # started as a file: its imports lie in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import json
import math
from collections.abc import Sequence
from dataclasses import fields

from cli import command
from cli.command import Parser
from record.paths import RUNS, checkpoint_path
from record.reader import Record
from schedules.job_queue import Place
from schedules.schedule import Job
from system import memory, threads
from system.errors import SwapconvError
from system.files import file_digest, write_atomically
from weights.sources import check_run_name


def known(name: str) -> float | None:
    """Return the test error of a run in %, as test.json says it; None where there is none for this checkpoint."""
    try:
        found = json.loads((RUNS / name / "test.json").read_bytes())
        error, digest = found["test_top1_error"], found["checkpoint_digest"]
        if checkpoint_path(name).exists() and file_digest(str(checkpoint_path(name))) != digest:
            return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SwapconvError):
        return None
    return error if isinstance(error, float) and math.isfinite(error) else None


class TestJob(Job):
    """The test of the run that a job has trained."""

    __test__ = False  # no test of pytest's

    @classmethod
    def of(cls, job: Job) -> "TestJob":
        """Return the test of a job's run."""
        return cls(**{each.name: getattr(job, each.name) for each in fields(Job)})

    def command(self) -> list[str]:
        """Return the argv of its process."""
        return [sys.executable, str(Path(__file__).resolve()), self.name]


class TestPlace(Place):
    """The place of the test in a queue. It is over where the test error is known."""

    __test__ = False
    begins = "its test begins"

    def is_done(self, record: Record | None) -> bool:
        """Return whether the test error is known."""
        return known(self.job.name) is not None

    def result(self) -> str:
        """Return the test error in words."""
        return f"tested: error {known(self.job.name):.2f} % of the test images"


def test_run(name: str) -> None:
    """Test a run as `main.py … --evaluate` does, and write its test.json.

    Raise RequestError or MachineFault where the run cannot be tested here.
    """
    from distributed.process_group import ALONE
    from record.checkpoint import load_run
    from schedules.trained import stored
    from training.evaluation import tested

    config = load_run(name, "run")["config"]
    digest = file_digest(str(checkpoint_path(name)))
    request, device, trained = stored(name, config)
    metrics, about = tested(request, trained, name, device, ALONE)
    found = {"checkpoint_digest": digest, "test_top1_error": float(metrics["top1_error"])}
    write_atomically(RUNS / name / "test.json", lambda file: file.write(json.dumps(found).encode() + b"\n"))
    print(f"{about}\nError@1 {metrics['top1_error']:.2f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = Parser(prog="python schedules/search/tested.py", description="Test the winner of a search.")
    parser.add_argument("name", metavar="NAME", help="a run")
    name = parser.parse_args(arguments).name
    check_run_name(name, "NAME")
    threads.configure()
    memory.keep_freed()
    test_run(name)
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
