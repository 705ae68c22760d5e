"""Remove runs: checkpoint, record, lock. A run that others need stays, unless they are removed with it.

    python -m schedules.remove digits.trial
    python -m schedules.remove runs/digits.* --yes

On a terminal it shows what would go, and asks; anywhere else it needs --yes. After a kill the same command goes on.
"""

import sys
from pathlib import Path

if not __package__:  # started as a file: its imports lie in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import os
import shutil
from collections.abc import Sequence

from cli import command
from cli.command import Parser
from record import reader, unfinished
from record.identity import ORIGINS
from record.paths import RUNS, checkpoint_path
from schedules import lineage
from system.configuration import Configuration
from system.errors import RequestError

LAST = ("config.json", "lock")  # of a run's folder: as long as it is there, the record says what the run needs


def options(arguments: Sequence[str] | None = None) -> Configuration:
    """Return the request."""
    parser = Parser(prog="python -m schedules.remove", description="Remove runs that no other run needs.")
    parser.add_argument("names", nargs="+", metavar="NAME", help="a run, or runs/NAME as a shell's * gives it")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    given = parser.parse_args(arguments)
    return Configuration({"names": lineage.named(given.names, is_there=True), "yes": given.yes})


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    request = options(arguments)
    begun = unfinished.read()
    stands = renamed_to(begun, request.names)
    if stands is None:
        unfinished.check_finished(but="remove")
    noted = begun.names if begun is not None and begun.what == "remove" else []
    names = [name for name in request.names if _is_left(name, noted)]

    def check() -> None:
        """Raise RequestError where another run needs them, or may."""
        check_unneeded(names, stands)
        lineage.check_none_begins(names)

    check()
    if not request.yes and not _agreed(names):
        print("nothing was removed")
        return 0

    with (
        lineage.locked([name for name in names if (RUNS / name).is_dir()]),
        unfinished.noted("remove", list(dict.fromkeys([*noted, *request.names])), check),
    ):
        for name in in_order(names):
            remove(name)
            print(f"{name} is removed")
    return 0


def renamed_to(begun: unfinished.Unfinished | None, names: Sequence[str]) -> str | None:
    """Return the run that a killed rename was to give the one name that is to be removed now; None where that is not so.

    The run that has the name is another one then: the rename moves a checkpoint first, and it has moved none. Raise RequestError
    where such a removal was killed itself, and another one is asked for.
    """
    if begun is None:
        return None
    if begun.below is not None and begun.names != list(names):
        unfinished.check_finished()
    renaming = begun.below or begun
    if renaming.what != "rename" or [*names] != renaming.names[1:]:
        return None
    return renaming.names[0] if os.path.lexists(checkpoint_path(renaming.names[0])) else None


def _is_left(name: str, begun: Sequence[str]) -> bool:
    """Return whether anything of a run is left to remove. Raise RequestError where there was none."""
    if name in begun:
        return bool(lineage.files_of(name)) or (RUNS / name).is_dir()
    lineage.check_exists(name)
    return True


def check_unneeded(names: Sequence[str], stands: str | None = None) -> None:
    """Raise RequestError where a run that stays, or a job that has not begun, needs one of these.

    Args: stands: the run to which the others that name them belong, if they have its weights: a killed rename has changed those.
    """
    found = lineage.needed_by(names)
    kept = {name: [each for each in needs if each.name not in names] for name, needs in found.items()}
    if stands is not None and any(kept.values()):
        kept = {name: _of_other_weights(needs, stands) for name, needs in kept.items()}
    if needed := [name for name in names if kept[name]]:
        more = f"; so do others need {lineage.listed([repr(each) for each in needed[1:]])}" if len(needed) > 1 else ""
        users = list(dict.fromkeys(each.name for name in needed for each in kept[name]))
        raise RequestError(
            f"the run {needed[0]!r} is needed by {lineage.listed(kept[needed[0]])}{more}: nothing was removed; name "
            f"{'it' if len(users) == 1 else 'them'} too to remove all of it: {lineage.listed(users, 20)}"
        )
    if jobs := lineage.jobs_that_need(names):
        raise RequestError(
            f"still needed by {lineage.listed(jobs)}: nothing was removed; run or delete the schedule first"
        )


def _of_other_weights(needs: Sequence[lineage.Needs], name: str) -> list[lineage.Needs]:
    """Return those of some needs that are not met by the weights of a run."""
    from record.checkpoint import digest, load_file

    own = digest(load_file(checkpoint_path(name), f"run {name!r}")["model"])
    digests = {**ORIGINS, "shrunk_from": "shrunk_digest"}
    return [each for each in needs if lineage.config_of(each.name).get(digests[each.key]) != own]


def _agreed(names: Sequence[str]) -> bool:
    """Return whether the person at the terminal agrees. Raise RequestError where there is none."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
        raise RequestError(
            f"to remove {lineage.listed([repr(each) for each in names])} without being asked, give --yes too"
        )
    print(*map(_described, names), sep="\n")
    try:
        return input(
            f"Remove {'it' if len(names) == 1 else f'these {len(names)} runs'} for good? [y/N] "
        ).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _described(name: str) -> str:
    """Return a run in a line: its state, its epochs, and the bytes on disk."""
    record = reader.read(RUNS / name)
    paths = [*lineage.files_of(name), *(path for path in (RUNS / name).rglob("*") if path.is_file())]
    size = sum(path.stat().st_size for path in paths) / 1e6
    of = f"{record.state}, {record.epochs_done} of {record.epochs_planned} epochs" if record else "without a record"
    return f"  {name}: {of}, {size:,.1f} MB"


def in_order(names: Sequence[str]) -> list[str]:
    """Return the runs in the order in which none is needed by a later one."""
    needs = {name: {each.name for each in found} & {*names} for name, found in lineage.needed_by(names).items()}
    ordered: list[str] = []
    while left := [name for name in names if name not in ordered]:
        free = [name for name in left if not needs[name] - {*ordered}]
        ordered += free or left[:1]
    return ordered


def remove(name: str) -> None:
    """Remove what there is of a run: first what makes it a run, last what says what it needs."""
    folder = RUNS / name
    for path in reversed(lineage.files_of(name)):
        os.unlink(path)
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir()):
        if entry.name not in LAST:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else os.unlink(entry)
    for last in LAST:
        if os.path.lexists(folder / last):
            os.unlink(folder / last)
    os.rmdir(folder)


if __name__ == "__main__":
    sys.exit(command.run(main))
