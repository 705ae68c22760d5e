"""Collect the results of runs, of this machine and others, in one table: STUDY.csv, and STUDY.json with every epoch.

    python -m schedules.collate -o study
    python -m schedules.collate here/runs there/runs -o study --schedule study.json more_seeds.json
    python -m schedules.collate runs study.csv -o study              # keeps the rows of runs that are gone

Each run is a row: its state, its errors in percent (of the last epoch and the best), means and standard deviations over
the finished runs that differ in their seed alone, its costs, its time, and its whole configuration; beside its teacher
(teachers.py) and beside what is published for its setting (published.py). Incomplete, failed
and diverged runs are rows too, with the reason; with --schedule, so are jobs that have not begun. Where several folders
hold a run of one name, the run with the most epochs is used, and contradictions between them are printed. Earlier tables
are sources like folders, and a table is not written over where it alone has a finished run (earlier.py).
"""

import sys
from pathlib import Path

if not __package__:  # started as a file: its imports lie in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from cli import command
from cli.command import Parser
from record.identity import differences
from record.paths import RUNS
from record.reader import STATES, Record, read
from schedules.comparable import mixture
from schedules.earlier import beside, check_nothing_is_lost, is_table
from schedules.grouping import add_groups, several_versions
from schedules.published import NOTE, add_published, shown_range
from schedules.rows import COMPARED, LEADING, planned, row
from schedules.schedule import read_several
from schedules.summary import table
from schedules.table import machines
from schedules.teachers import add_teachers
from system import arguments as system_arguments
from system import files as system_files
from system.configuration import Configuration
from system.errors import RequestError, SwapconvError
from system.files import write_atomically


def options(arguments: Sequence[str] | None = None) -> Configuration:
    """Return the request; its `output` is a path without .csv or .json."""
    parser = Parser(prog="python -m schedules.collate", description="Gather runs in STUDY.csv and STUDY.json.")
    parser.add_argument(
        "sources",
        nargs="*",
        type=system_arguments.filename,
        metavar="SOURCE",
        help="folders of runs, or that hold a runs/, and earlier STUDY.csv (default: runs)",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=system_arguments.filename,
        metavar="STUDY",
        help="what to write, without .csv",
    )
    parser.add_argument(
        "--schedule",
        nargs="+",
        action="extend",  # --schedule twice is as both at once
        type=system_arguments.filename,
        metavar="FILE",
        help="only the jobs of these schedules, those too that have not begun",
    )
    given = parser.parse_args(arguments)
    output = Path(given.output.removesuffix(".csv").removesuffix(".json"))
    return Configuration({**vars(given), "output": output})


def gather(folders: Sequence[str]) -> tuple[dict[str, Record], list[str]]:
    """Return the runs of all folders by name, and the contradictions between runs of one name.

    Raise RequestError where one is no folder, or holds no run.
    """
    records: dict[str, Record] = {}
    conflicts: list[str] = []
    for folder in folders:
        if not Path(folder).is_dir():
            earlier = f"{folder.removesuffix('.json')}.csv"
            tables = f"{earlier}, which is there" if Path(earlier).is_file() else "STUDY.csv"
            raise RequestError(
                f"{folder} is no folder: give one with runs, such as {RUNS}, or an earlier table, {tables}"
            )
        found = _records(Path(folder)) or _records(Path(folder) / RUNS)
        if not found:
            raise RequestError(f"{folder} holds no run")
        for record in found:
            if before := records.get(record.name):
                record, conflict = _merged(before, record)
                conflicts += [conflict] if conflict else []
            records[record.name] = record
    return records, conflicts


def _records(folder: Path) -> list[Record]:
    places = sorted(folder.iterdir()) if folder.is_dir() else []
    return [record for each in places if each.is_dir() and (record := read(each))]


def _merged(a: Record, b: Record) -> tuple[Record, str]:
    """Return the one of two records of one name that got further, and how they contradict each other, or ""."""
    best, other = (b, a) if (b.state == "finished", b.epochs_done) > (a.state == "finished", a.epochs_done) else (a, b)
    where = f"{best.name}: {best.folder} ({best.epochs_done} epochs) is used, not {other.folder} ({other.epochs_done})"
    if fault := a.fault or b.fault:
        return best, f"{where}: {fault}"
    if not (a.config and b.config):
        return best, ""
    if different := differences(other.config, best.config):
        return best, f"{where}, which is another run: {'; '.join(different)}"
    errors = [[row.get("test_top1_error") for row in record.rows] for record in (best, other)]
    if apart := [epoch for epoch, pair in enumerate(zip(*errors), 1) if pair[0] != pair[1]]:
        return best, f"{where}: the errors of {len(apart)} epochs differ, first of epoch {apart[0]}"
    return best, ""


class Collated(NamedTuple):
    """What collate returns.

    rows: a row for each run; conflicts: contradictions, a sentence each; teachers: a row for each teacher of these runs
    that the schedule does not contain; notes: what else a person should know.
    """

    rows: list[dict]
    conflicts: list[str]
    teachers: list[dict]
    notes: list[str]


def collate(sources: Sequence[str], schedule: str | Sequence[str] | None = None) -> Collated:
    """Collect the runs of folders and earlier tables.

    With the path of a schedule, or of several, the rows are those of their jobs alone.
    """
    schedules = [schedule] if isinstance(schedule, str) else list(schedule or ())
    jobs = read_several(schedules)
    tables = [source for source in sources if is_table(source)]
    folders = [source for source in sources if source not in tables]
    records, conflicts = gather(folders if sources else [] if jobs and not RUNS.is_dir() else [str(RUNS)])
    found = []
    for record in records.values():
        try:
            found.append(row(record))
        except SwapconvError as error:  # a conv that this version does not know
            found.append(row(Record(record.folder, {}, [], f"its record is damaged: {error}")))
    found, elsewhere, contradictions, notes = beside(found, tables)
    known = [*found, *elsewhere]
    rows = planned(jobs, {each["name"]: each for each in known}) if jobs else found
    conflicts += contradictions
    conflicts += [f"{name}: runs came from {count} versions of it" for name, count in several_versions(rows)]
    add_groups(rows, known)
    inside = {each["name"] for each in rows}
    needed = {each.get("teacher_checkpoint") for each in rows if each["taught"]} - inside
    teachers = [each for each in known if each["name"] in needed]
    add_groups(teachers, known)
    by_name = {each["name"]: each for each in (*teachers, *rows)}
    add_teachers(rows, by_name)
    add_published(rows, by_name)
    return Collated(rows, conflicts, teachers, notes + _notes(rows, teachers, schedules))


def _notes(rows: Sequence[dict], teachers: Sequence[dict], schedules: Sequence[str]) -> list[str]:
    """Say what a person should know of the whole table.

    Whether the rows are of several studies, which teachers have no row, whether several machines timed inference, and of
    which images published errors are.
    """
    several = machines(rows)
    apart = [f"inference was timed on several machines, whose times do not compare: {'; '.join(several)}"]
    published = [NOTE] if any(shown_range(each) for each in rows) else []
    return apart * (len(several) > 1) + _notes_of_study(rows, teachers, schedules) + published


def _notes_of_study(rows: Sequence[dict], teachers: Sequence[dict], schedules: Sequence[str]) -> list[str]:
    if not schedules:
        mixed = mixture(rows)
        way = "--schedule FILE takes those of one study"
        return [f"the runs are of {mixed}, so not of one study: {way}"] if mixed else []
    shown = [f"{each['name']} ({_described(each)})" for each in teachers[:3]] + ["…"] * (len(teachers) > 3)
    return (
        [f"no job of {', '.join(schedules)}, so without a row, but teaching some: {', '.join(shown)}"] if shown else []
    )


def _described(row: dict) -> str:
    error = row["test_top1_error"]
    return row["state"] + (f", {error:.2f} % test error" if error is not None else "")


def as_csv(rows: Sequence[dict]) -> str:
    """Return the rows as CSV: the columns of every study, then those of the configurations; lists as JSON.

    Columns that compare runs with their teachers and with what is published are left out where no run has them.
    """
    empty = {column for column in COMPARED if all(each.get(column) is None for each in rows)}
    leading = [column for column in LEADING if column not in empty]
    columns = [*leading, *dict.fromkeys(key for each in rows for key in each if key not in LEADING and key != "rows")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for each in rows:
        writer.writerow([_cell(each.get(column)) for column in columns])
    return text.getvalue()


def _cell(value: object) -> object:
    return json.dumps(value) if isinstance(value, (bool, list, dict)) else value


def _files(output: Path) -> tuple[Path, Path]:
    """Return the two files to write; raise RequestError where one exists that is no earlier collation."""
    table, document = (output.with_name(output.name + suffix) for suffix in (".csv", ".json"))
    ours = {table: f"{','.join(LEADING[:4])},".encode(), document: b'{"runs": '}
    for path, beginning in ours.items():
        system_files.keep("-o", str(path), "collation of runs", lambda contents, of=beginning: contents.startswith(of))
    return table, document


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    request = options(arguments)
    files = _files(request.output)
    rows, conflicts, teachers, notes = collate(request.sources, request.schedule)
    check_nothing_is_lost(files[0], [*rows, *teachers], request.sources)
    document = {"runs": rows, "conflicts": conflicts, "teachers": teachers}
    for path, text in zip(files, (as_csv(rows), json.dumps(document))):
        write_atomically(path, lambda file, text=text: file.write(text.encode()))
    print(table(rows))
    for what, texts in (("conflict", conflicts), ("note", notes)):
        for text in texts:
            print(f"{what}: {text}")
    states = Counter(each["state"] for each in rows)
    print(
        f"{request.output}.csv and .json: {len(rows)} run{'s' * (len(rows) != 1)}, "
        + ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
    )
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
