"""Search the values of flags by Hyperband: many runs for a few epochs, the best of them for more.

    python -m schedules.hyperband space.yaml --dry_run
    python -m schedules.hyperband space.yaml --slots 2
    python -m schedules.hyperband space.yaml --brackets 0          # random search
    python -m schedules.hyperband space.yaml --launcher slurm --time_limit 240

SPACE.yaml says a base command, R, eta, a seed, and flags with where their values come from (search/space.py). Runs are those
of main.py, NAME.b3.017 of bracket 3, so after any interruption the same command goes on. Which of them go on is decided by
their errors on the images of --val_size; the winner alone is tested, as the last job. Written are NAME.brackets.csv, .png and .svg.
Exit status: 0 there is a winner, 2 wrong request, 3 no run came to R epochs and all that failed diverged, 4 none did, 130 and
143 stopped by a signal.

Li et al. 2018, "Hyperband: a novel bandit-based approach to hyperparameter optimization" (1603.06560).
"""

import sys
from pathlib import Path

if not __package__:  # started as a file: its imports lie in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import os
from argparse import ArgumentTypeError
from collections.abc import Sequence

from cli import command
from cli.command import Parser
from record.lock import only_process
from record.paths import RUNS
from schedules import run
from schedules.job_queue import DIVERGED, FAILED, FINISHED
from schedules.search.brackets import brackets, counted
from schedules.search.rounds import Rounds, Search, planned
from schedules.search.space import Space, read
from schedules.search.tested import known
from system import arguments as system_arguments
from system import files as system_files
from system.configuration import Configuration
from system.errors import Diverged, MachineFault, RequestError

FORMATS = ("png", "svg")


def bracket_numbers(text: str) -> tuple[int, ...]:
    """Take the numbers of brackets: `0` or `2,1`."""
    found = text.split(",")
    if not all(each.isascii() and each.isdigit() and len(each) < 4 for each in found):
        raise ArgumentTypeError(f"{text!r} is not the number of a bracket, or several such as 2,1")
    return tuple(map(int, found))


def options(arguments: Sequence[str] | None = None) -> Configuration:
    """Return the request; its `output` is a path without .csv, None where the space's name is to give it."""
    parser = Parser(prog="python -m schedules.hyperband", description="Search the values of flags by Hyperband.")
    parser.add_argument(
        "space", type=system_arguments.filename, metavar="SPACE.yaml", help="base, R, eta, seed, name, brackets, space"
    )
    parser.add_argument(
        "--brackets", type=bracket_numbers, metavar="N,N…", help="only these; 0 is random search (default: all)"
    )
    parser.add_argument(
        "-o", "--output", type=system_arguments.filename, metavar="TABLE", help="what to write, without .csv (default: NAME.brackets, and which ones where not all are chosen)"
    )  # fmt: skip
    run.add_dry_run(parser, "measure a run of each kind, say what the search takes, write nothing")
    run.add_launching(parser)
    return run.launching(vars(parser.parse_args(arguments)))


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    request = options(arguments)
    space = read(request.space, request.brackets)
    output = _output(request.output or _name(space))
    search = planned(space)
    if request.dry_run:
        from schedules.search.report import plan
        from schedules.search.resources import resources

        print(plan(search), flush=True)
        print(resources(search, request))
        return 0
    busy = f"the search {space.name!r} is being run at this moment"
    with only_process(RUNS / f".{space.name}.search.lock", busy):
        queue = Rounds(search, request.retries)
        if not queue.is_over():
            jobs = search.every()
            what = f"{space.path}: {counted(len(jobs), 'run')} in {counted(len(space.chosen), 'bracket')}"
            run.carry_out(queue, request, jobs, what)
        for place in queue.places.values():
            if place.state in (FAILED, DIVERGED):
                run.explain(place)
        return _report(search, queue, output)


def _name(space: Space) -> str:
    """Return what the table is called where -o does not say it: a part of a search does not replace the whole."""
    if len(space.chosen) == len(brackets(space.R, space.eta)):
        return f"{space.name}.brackets"
    return f"{space.name}.brackets-{'-'.join(map(str, space.chosen))}"


def _output(name: str) -> Path:
    """Return the table to write.

    Raise RequestError where it or a picture beside it is there and none of ours, or its folder is missing or closed.
    """
    from schedules.search.report import LEADING

    path = Path(name.removesuffix(".csv") + ".csv")
    beginning = f"{','.join(LEADING)},".encode()
    system_files.keep("-o", str(path), "table of brackets", lambda contents: contents.startswith(beginning))
    for picture in (path.with_suffix(f".{format}") for format in FORMATS):
        if os.path.lexists(picture) and not (path.exists() and picture.is_file()):
            lacks = f"there is no table of brackets {path} beside it" if picture.is_file() else "it is no file"
            raise RequestError(f"{picture} exists, but {lacks}, so it is left as it is: choose another -o")
    if not path.parent.is_dir():
        raise RequestError(f"-o: there is no folder {str(path.parent)!r}: make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise RequestError(f"-o: nothing can be written into the folder {str(path.parent)!r}: choose another")
    return path


def _report(search: Search, queue: Rounds, output: Path) -> int:
    """Print and write what came of a search, and return 0.

    Raise Diverged or MachineFault where it has no winner, and MachineFault where the winner was not tested: nothing is
    written then.
    """
    from schedules.figures.brackets import brackets_figure
    from schedules.figures.output import rendered, write
    from schedules.search import report

    best, results = queue.best, queue.results
    tested = known(best.name) if best is not None else None
    print(f"\n{report.brackets_table(results, search.space)}\n")
    if best is not None:
        print(report.winner_lines(best, search, tested))
        if tested is None:
            reason = queue.places[best.name].reason
            raise MachineFault(f"the winner {best.name} could not be tested, so no table is written: {reason}")
    write(output, report.as_csv(results, search, best, tested).encode())
    figure = brackets_figure(search, results, best)
    for format in FORMATS:
        write(output.with_suffix(f".{format}"), rendered(figure, format))
    if best is None:
        kind = Diverged if all(each.status in (FINISHED, DIVERGED) for each in results) else MachineFault
        epochs = counted(search.space.R, "epoch")
        raise kind(f"no run came to {epochs} with an error: the search has no winner")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
