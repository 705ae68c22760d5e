"""List all runs: how far each has got, its error, and the command that goes on with it or repeats it.

python -m schedules.list
python -m schedules.list study.json --state failed
python -m schedules.list --watch                               # a live table, until Ctrl-C
"""

import sys
from pathlib import Path

if not __package__:  # started as a file: its imports lie in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import shlex
from collections import Counter
from collections.abc import Sequence

from cli import command
from cli.command import Parser
from cli.counting import counting_parser
from cli.flags import training_parser
from cli.layers import layered
from record.paths import RUNS
from record.reader import INCOMPLETE, Record, read
from schedules.schedule import Job
from schedules.schedule import read as read_schedule
from system import arguments as system_arguments
from system.arguments import choice, number
from system.configuration import Configuration
from system.errors import RequestError

WORDS = ("finished", "running", *INCOMPLETE, "incomplete", "diverged", "failed", "planned")


def options(arguments: Sequence[str] | None = None) -> Configuration:
    """Return the request."""
    parser = Parser(prog="python -m schedules.list", description="All runs here: state, epoch, error, command.")
    parser.add_argument(
        "schedule",
        nargs="?",
        type=system_arguments.filename,
        metavar="FILE",
        help="only its jobs, those too that have not begun",
    )
    parser.add_argument(
        "--state",
        type=choice("state", WORDS),
        metavar="STATE",
        help=f"only those: {' | '.join(WORDS)}; incomplete are the {', '.join(INCOMPLETE)} ones",
    )
    parser.add_argument(
        "--watch", action="store_true", help="a live table (no terminal: a line a change), until Ctrl-C"
    )
    parser.add_argument(
        "--every", type=number(float, 0.1, 3600), metavar="SECONDS", help="between two looks of --watch (default: 2)"
    )
    given = parser.parse_args(arguments)
    if given.every is not None and not given.watch:
        raise RequestError(f"--every {given.every:g} goes with --watch")
    return Configuration({**vars(given), "every": given.every or 2.0})


def repeat(record: Record | None, job: Job | None = None) -> str:
    """Return the command that goes on with a run, or begins it; "" where nobody recorded it.

    It is the last that went on with it; of a shrunk run that which made it. An --until that the run has reached is left out, or taken
    back where a file of --config says it.
    """
    last = record.document if record is not None else {}
    for resumed in last.get("resumed", []):
        last = resumed
    arguments = list(job.arguments) if job else last.get("argv", [])[1:]
    arguments = [each for each in arguments if each not in ("-r", "--resume", "--dry_run")]
    if record is not None:
        arguments = _without_until_of_files(_without_until(arguments, record.epochs_done), record.epochs_done)
        if record.config.get("shrunk_from"):
            return f"python shrink.py {shlex.join(arguments)}"
    return f"python main.py {shlex.join(arguments)} --resume" if arguments else ""


def _without_until(arguments: list[str], done: int) -> list[str]:
    """Return arguments without the --until, or until=, that are at most so many epochs."""
    kept, rest = [], iter(arguments)
    for each in rest:
        flag, equals, value = each.partition("=")
        if flag == "until" and equals and value.isdigit() and int(value) <= done:
            continue
        if flag != "--until":
            kept.append(each)
            continue
        value = value if equals else next(rest, "")
        if not value.isdigit() or int(value) > done:
            kept += [flag, value]
    return kept


def _without_until_of_files(arguments: list[str], done: int) -> list[str]:
    """Return arguments that take back an `until:` of at most so many epochs of a file of --config, if it can be read."""
    if not any(each.partition("=")[0] == "--config" for each in arguments):
        return arguments
    try:
        until = layered(training_parser(), arguments, [counting_parser()]).get("until")
    except RequestError:
        return arguments
    return [*arguments, "until=null"] if until is not None and until.value <= done else arguments


def describe(name: str, record: Record | None, job: Job | None) -> tuple[list[str], list[str]]:
    """Return a run's row (name, state, epochs, error), and the lines below: why it ended, and its command."""
    if record is None:
        return [name, "planned", f"0/{job.options.epochs}", ""], [repeat(record, job)]
    planned = job.options.epochs if job else record.epochs_planned
    below = [record.reason, repeat(record, job)]
    return [name, record.condition, f"{record.epochs_done}/{planned}", record.shown_error()], [
        each for each in below if each
    ]


def _watch(request: Configuration) -> int:
    names = [job.name for job in read_schedule(request.schedule)] if request.schedule else None
    if names is None and not RUNS.is_dir():
        raise RequestError(f"there is no run in {RUNS}/")
    from schedules.watch import watch  # after the request is checked

    def folders() -> list[Path]:
        if names is not None:
            return [RUNS / name for name in names]
        try:
            return sorted(RUNS.iterdir())
        except FileNotFoundError:  # removed as a whole
            return []

    return watch(folders, request.every, request.state)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    request = options(arguments)
    if request.watch:
        return _watch(request)
    if request.schedule:
        jobs = {job.name: job for job in read_schedule(request.schedule)}
        lines = [describe(name, read(RUNS / name), job) for name, job in jobs.items()]
    else:
        folders = sorted(RUNS.iterdir()) if RUNS.is_dir() else []
        lines = [describe(folder.name, record, None) for folder in folders if (record := read(folder))]
        if not lines:
            raise RequestError(f"there is no run in {RUNS}/")
    states = Counter(row[1] for row, _ in lines)
    asked = INCOMPLETE if request.state == "incomplete" else (request.state,)
    shown = [each for each in lines if request.state is None or each[0][1] in asked]
    from tabulate import tabulate  # after the request is checked

    headers = ["run", "state", "epoch", "error %"]
    table = tabulate(
        [row for row, _ in shown], headers, disable_numparse=True, colalign=("left", "left", "right", "right")
    )
    above, *rows = table.splitlines()[1:] if shown else [""]
    print("\n".join([*table.splitlines()[:1], above]) if shown else "no run of this state")
    for row, (_, below) in zip(rows, shown):
        print(row, *(f"    {each}" for each in below), sep="\n")
    print(f"{len(lines)} runs: " + ", ".join(f"{states[state]} {state}" for state in WORDS if states[state]))
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main, reader_may_leave=True))
