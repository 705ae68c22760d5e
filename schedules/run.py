"""Run the jobs of a schedule on this machine or on a cluster, until all of them are finished.

    python -m schedules.run study.json
    python -m schedules.run study.json --slots 4 --retries 0
    python -m schedules.run study.json --launcher slurm --time_limit 240 --partition gpu
    python -m schedules.run study.json --dry_run --price 2.5

Finished runs are skipped, interrupted ones go on, a student waits for its teacher. After any interruption, the same
command goes on. Exit status: 0 all are finished, 2 wrong request, 3 some diverged and none failed, 4 some failed, 130
and 143 stopped by a signal.
"""

import sys
from pathlib import Path

if not __package__:  # started as a file: its imports lie in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import math
import time
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cli import command
from cli.command import Parser
from record import outcome
from schedules import launchers
from schedules.job_queue import BLOCKED, DIVERGED, ELSEWHERE, FAILED, FINISHED, RUNNING, WAITING, Place, Queue, tail
from schedules.launchers import LAUNCHERS, Launcher, Task
from schedules.schedule import Job
from system import arguments as system_arguments
from system import signals
from system.arguments import choice, number
from system.configuration import Configuration
from system.errors import Diverged, MachineFault, RequestError

if TYPE_CHECKING:
    from schedules.view import View

PULSE = 0.02  # seconds between two looks at the running jobs
OF_LAUNCHER = {"address": "ray", "time_limit": "slurm", "partition": "slurm", "account": "slurm", "sbatch": "slurm"}


def _parser() -> Parser:
    parser = Parser(
        prog="python -m schedules.run", description="Run the jobs of a schedule until all of them are finished."
    )
    parser.add_argument("schedule", type=system_arguments.filename, metavar="FILE", help="a JSON list of argv lists")
    add_dry_run(parser, "measure each distinct job, say what the study takes")
    add_launching(parser)
    return parser


def add_dry_run(parser: Parser, what: str) -> None:
    """Add the flags of the estimate. Args: what: the help of --dry_run."""
    dry = parser.add_argument_group("before it is run")
    dry.add_argument("--dry_run", action="store_true", help=what)
    dry.add_argument("--price", type=number(float, 0, 1e9), help="of an hour of a slot, for --dry_run")


def add_launching(parser: Parser) -> None:
    """Add the flags that say where jobs run, how many at once, and how often one is tried."""
    parser.add_argument(
        "--launcher", type=choice("launcher", list(LAUNCHERS)), default="local", help=" | ".join(LAUNCHERS)
    )
    parser.add_argument(
        "--slots", type=number(int, 1, 100_000), metavar="N", help="jobs at once (default: one for each GPU, or 1)"
    )
    parser.add_argument("--retries", type=number(int, 0, 1000), default=2, metavar="N", help="of a job that fails")
    cluster = parser.add_argument_group("ray and slurm")
    cluster.add_argument("--job_cpus", type=number(int, 1, 10_000), default=1, metavar="N", help="CPUs for each job")
    cluster.add_argument(
        "--job_gpus", type=number(int, 0, 1), metavar="N", help="0: none (default: what a job asks for)"
    )
    cluster.add_argument("--address", help="of a Ray cluster (default: one that runs here, else a new one)")
    cluster.add_argument(
        "--time_limit", type=number(int, 1, 10**7), metavar="MINUTES", help="of a SLURM job; it goes on after"
    )
    cluster.add_argument("--partition", help="of SLURM")
    cluster.add_argument("--account", help="of SLURM")
    cluster.add_argument(
        "--sbatch", type=setting, action="append", default=[], metavar="KEY=VALUE", help="any other option of sbatch"
    )


def options(arguments: Sequence[str] | None = None) -> Configuration:
    """Return the request; `sbatch` is a dictionary. Raise RequestError where flags do not go together."""
    given = _parser().parse_args(arguments)
    if given.price is not None and not given.dry_run:
        raise RequestError(f"--price {given.price:g} goes with --dry_run")
    return launching(vars(given))


def launching(given: Mapping) -> Configuration:
    """Return a request with the flags of `add_launching`. Raise RequestError where one is of another launcher."""
    for flag, owner in OF_LAUNCHER.items():
        if given[flag] and given["launcher"] != owner:
            raise RequestError(f"--{flag} goes with --launcher {owner}, not {given['launcher']}")
    return Configuration({**given, "sbatch": dict(given["sbatch"])})


def setting(text: str) -> tuple[str, str]:
    """Return the two parts of KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    request = options(arguments)
    from schedules.check import checked

    jobs = checked(request.schedule)
    if request.dry_run:
        from schedules.estimate import estimate

        print(estimate(jobs, request))
        return 0
    queue = Queue(jobs, request.retries)
    if queue.count(FINISHED) == len(jobs):
        print(f"all {len(jobs)} runs are finished{_early(queue)}, nothing is left to do")
        return 0
    carry_out(queue, request, jobs, f"{request.schedule}: {len(jobs)} jobs")
    return report(queue)


def carry_out(queue: Queue, request: Configuration, jobs: Sequence[Job], what: str) -> None:
    """Run a queue on the launcher of a request until all of it is over.

    Args: jobs: those whose sizes have to fit; what: names them. Raises Interrupted after a signal, when all jobs have stopped.
    """
    from schedules.view import View

    launcher = launchers.build(request.launcher, request)
    _check_size(jobs, launcher)
    with View(queue, launcher.about()) as view, signals.Deferred(notice="") as stop:
        skipped = f", {queue.skipped} finished already" if queue.skipped else ""
        view.say(f"{what}{skipped}; {launcher.about()}")
        try:
            work(queue, launcher, view, stop)
        except BaseException:
            launcher.stop()
            raise
        if stop():
            view.close()
            running = queue.count(RUNNING)
            view.say(f"stopping {running} job{'s' * (running > 1)} after the step; Ctrl-C again stops at once")
            launcher.stop()
            note_ended(queue, launcher, view, stopping=True)
            queue.give_up()
            view.say(f"{view.summary()}; the same command goes on")
            stop.interrupt()


def _check_size(jobs: Sequence[Job], launcher: Launcher) -> None:
    """Raise RequestError where a job asks for more GPUs than the launcher can give it."""
    if not launcher.has_gpus and (asks := next((job for job in jobs if job.options.GPU), None)):
        raise RequestError(f"job {asks.number} asks for --GPU, but there is none on {launcher.about()}")
    largest, most = max(jobs, key=lambda job: job.gpus), min(launcher.most_gpus, launcher.room())
    if launcher.has_gpus and largest.gpus > most:
        raise RequestError(f"job {largest.number} asks for {largest.gpus} GPUs, a job may have {most:g} here")


def work(queue: Queue, launcher: Launcher, view: "View", stop: signals.Deferred) -> None:
    """Start jobs and note their ends, until every job is over or a signal has come."""
    while not (queue.is_over() or stop()):
        note_ended(queue, launcher, view)
        room = launcher.room()
        begun = list(queue.ready(room, launcher.has_gpus))
        launcher.start([_task(place, launcher) for place in begun])
        for place in begun:
            what = "handed to the cluster" if math.isinf(room) else "resumed" if place.epochs else "started"
            after = f", after {place.epochs} of {place.job.options.epochs} epochs" if place.epochs else ""
            view.event(place.job.name, place.begins or what + after)
        view.refresh()
        time.sleep(PULSE)


def _task(place: Place, launcher: Launcher) -> Task:
    return Task(place.job.name, place.job.command(), place.log.absolute(), place.job.gpus if launcher.has_gpus else 0)


def note_ended(queue: Queue, launcher: Launcher, view: "View", stopping: bool = False) -> None:
    """Give the jobs that have ended back to the queue, and show an event for each."""
    for name, status in launcher.ended():
        place = queue.ended(name, status, stopping)
        if place.state == FINISHED:
            view.finished(place)
        elif stopping and place.state == WAITING:
            view.event(name, _kept(place), "yellow")
        elif place.state == WAITING:
            view.event(name, f"to be tried again ({place.tries} of {queue.retries}): {place.reason}", "yellow")
        elif place.state == ELSEWHERE:
            view.event(name, f"left to another process: {place.reason}", "yellow")
        else:
            view.event(name, f"{place.state}: {place.reason}", "red")


def _kept(place: Place) -> str:
    """Say what is kept of a stopped job, as `stopped: 1 of 2 epochs and 10 steps are kept`, or what else ended it."""
    if place.end["cause"] != "stopped":
        return place.reason
    if place.end["epochs"] is None:
        return "stopped before its first step"
    return f"stopped: {outcome.progress(place.end['epochs'], place.end['steps'], place.job.options.epochs)} are kept"


def _early(queue: Queue) -> str:
    """Say how many of the finished jobs have epochs left behind their --until; "" where none has."""
    done = [place.record() for place in queue.places.values() if place.state == FINISHED]
    early = sum(record is not None and record.state != "finished" for record in done)
    return f", {early} of them as far as --until" if early else ""


def report(queue: Queue) -> int:
    """Print why jobs failed or were not started, with the ends of their logs; return 0 where all are finished.

    Raise MachineFault where some failed, else Diverged where some diverged.
    """
    for place in queue.places.values():
        if place.state in (FAILED, DIVERGED):
            explain(place)
    for place in queue.places.values():
        if place.state == BLOCKED:
            print(f"{place.job.name} was not started: {place.reason}")
    failed, diverged, blocked = queue.count(FAILED), queue.count(DIVERGED), queue.count(BLOCKED)
    rest = f", {blocked} could not be started" if blocked else ""
    finished = f"{queue.count(FINISHED)} of {len(queue.places)} runs are finished{_early(queue)}"
    if failed:
        raise MachineFault(f"{finished}, {failed} failed, {diverged} diverged{rest}")
    if diverged:
        raise Diverged(f"{finished}, {diverged} diverged{rest}")
    print(f"{finished}; python -m schedules.collate gathers their results")
    return 0


def explain(place: Place) -> None:
    """Print why a job failed, with the end of its log."""
    print(f"\n{place.job.name} {place.state}: {place.reason}\n  its log is {place.log}")
    said = [line for line in tail(place.log, 9) if line.strip(" ^~") and place.reason not in line]
    print(*(f"    {line}" for line in said[-5:]), sep="\n", end="\n" if said else "")


if __name__ == "__main__":
    sys.exit(command.run(main))
