"""What a search would take, and what came of it: tables for a person, and a CSV for programs.

print(plan(search))                                        # before: brackets, runs, epochs
print(brackets_table(results, search.space))               # after: the best of each round
as_csv(results, search, tested)                            # a row for each run and round
"""

import csv
import io
import shlex
from collections.abc import Sequence

from tabulate import tabulate

from record import reader
from record.paths import RUNS
from schedules.search.brackets import counted, epochs_of
from schedules.search.rounds import Result, Search, command, described
from schedules.search.space import Space

LEADING = ("bracket", "round", "index", "name", "epochs")
TRAILING = ("val_top1_error", "kept", "status", "test_top1_error", "reason")
RIGHT = ("right",)


def plan(search: Search) -> str:
    """Return the table of what a search takes where no run fails, with how much of it is done."""
    rows, space = [], search.space
    for s, rounds in search.rounds.items():
        for number, each in enumerate(rounds):
            before = rounds[number - 1].epochs if number else 0
            kept = "" if each.kept is None else each.kept
            rows.append([s, number, each.runs, each.epochs, kept, each.runs * (each.epochs - before)])
    headers = ["bracket", "round", "runs", "to epoch", "kept", "epochs to train"]
    table = tabulate(rows, headers, disable_numparse=True, colalign=RIGHT * 6)
    runs = len(search.every())
    total = sum(map(epochs_of, search.rounds.values()))
    done = sum(record.epochs_done for job in search.every() if (record := reader.read(RUNS / job.name)) is not None)
    there = f", {done:,} of them {'is' if done == 1 else 'are'} done" if done else ""
    whole = f"as {counted(round(total / space.R, 2), 'run')} of {counted(space.R, 'epoch')}"
    return f"{table}\n{space.path}: {counted(runs, 'run')} and {counted(total, 'epoch')}, {whole}{there}"


def brackets_table(results: Sequence[Result], space: Space) -> str:
    """Return the table of the rounds: how many runs each had, how many of them failed, and the best with its flags."""
    rounds: dict[tuple[int, int], list[Result]] = {}
    for each in results:
        rounds.setdefault((each.bracket, each.round), []).append(each)
    rows = []
    for (s, number), members in sorted(rounds.items(), key=lambda item: (-item[0][0], item[0][1])):
        best = min(members, key=lambda each: each.rank)
        failed = sum(each.error is None for each in members)
        kept = sum(each.kept is True for each in members) if best.kept is not None else ""
        shown = ["", "", ""]
        if best.error is not None:
            shown = [f"{best.error:.2f}", best.name, described(space.flags(s, best.index))]
        rows.append([s, number, len(members), best.epochs, kept, failed or "", *shown])
    headers = ["bracket", "round", "runs", "to epoch", "kept", "failed", "best error %", "of run", "flags"]
    return tabulate(rows, headers, disable_numparse=True, colalign=(*RIGHT * 7, "left", "left"))


def winner_lines(best: Result, search: Search, tested: float | None) -> str:
    """Return the lines about the winner. Args: tested: its test error in %, None where it is not known."""
    space = search.space
    own = shlex.join(["python", "main.py", *command(space, best.bracket, best.index, f"{space.name}.winner")])
    lines = [
        f"winner: {best.name}, {described(space.flags(best.bracket, best.index))}",
        f"{best.error:.2f} % error of images held out after {counted(best.epochs, 'epoch')}, the least of runs with all of them",
        *([f"{tested:.2f} % test error: no other run was tested"] if tested is not None else []),
        f"as a run of its own: {own}",
    ]
    return "\n".join(lines)


def as_csv(results: Sequence[Result], search: Search, best: Result | None, tested: float | None) -> str:
    """Return a row for each run and round, by bracket, round and index. The winner's last row has its test error.

    `kept` is true or false, and empty in the last round. A flag that is not given is empty.
    """
    flags = tuple(search.space.drawn)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*LEADING, *flags, *TRAILING])
    for each in sorted(results, key=lambda each: (-each.bracket, each.round, each.index)):
        values = search.space.flags(each.bracket, each.index)
        kept = "" if each.kept is None else str(each.kept).lower()
        last = [each.error, kept, each.status, tested if each == best else None, each.reason]
        writer.writerow([*(getattr(each, key) for key in LEADING), *(values[flag] for flag in flags), *last])
    return text.getvalue()
