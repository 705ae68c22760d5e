"""Gathers what runs have come to, of this machine and others, in one table: STUDY.csv, and STUDY.json with every epoch.

    python -m schedules.collate -o study
    python -m schedules.collate here/runs there/runs -o study --schedule study.json

A row a run: its state, errors in percent (of the last epoch and the best), means and standard deviations over the finished
runs that differ in their seed alone, costs, time, and its whole configuration. What is incomplete, failed or diverged is a
row too, with the reason; so is, with --schedule, what has not begun. Where several folders hold a run of one name, the
furthest wins, and what contradicts is told.
"""

import sys
from pathlib import Path

if not __package__:  # started as a file: its imports lie in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import csv
import io
import json
from argparse import Namespace
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from statistics import mean, stdev
from typing import NamedTuple

from cli import arguments as cli_arguments
from cli import command
from cli.command import Parser
from input.folders import is_own
from layers.registry import FAMILIES, OpenName, parse_conv, parse_family
from record.identity import NOT_IDENTITY, differences
from record.paths import RUNS
from record.reader import STATES, Record, read
from schedules.comparable import mixture
from schedules.schedule import Job
from schedules.schedule import read as read_schedule
from schedules.summary import table
from system import files as system_files
from system.errors import RequestError, SwapconvError
from system.files import write_atomically

METRICS = (
    "test_top1_error", "test_top5_error", "best_test_top1_error", "best_test_top5_error", "val_top1_error", "val_top5_error",
)  # fmt: skip
COSTS = ("params", "crs_ratio", "mult_adds", "mult_adds_exact", "stored_bytes")
LEADING = (
    "name", "state", "reason", "family", "taught", "group", "seeds", *METRICS,
    *(f"{of}_{metric}" for metric in METRICS for of in ("mean", "std")),
    "epochs_done", "epochs_planned", *COSTS, "seconds", "images_per_second", "folder", "git_commit",
)  # fmt: skip
# What two runs of one group may differ in.
NOT_OF_GROUP = {
    *NOT_IDENTITY,
    "seed",
    "teacher_checkpoint",
    "student_checkpoint",
    "teacher_digest",
    "init_digest",
    "init_from",
}


def options(arguments: Sequence[str] | None = None) -> Namespace:
    parser = Parser(prog="python -m schedules.collate", description="Gather runs in STUDY.csv and STUDY.json.")
    parser.add_argument(
        "folders",
        nargs="*",
        type=cli_arguments.filename,
        metavar="FOLDER",
        help="folders of runs, or that hold a runs/ (default: runs)",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=cli_arguments.filename,
        metavar="STUDY",
        help="what to write, without .csv",
    )
    parser.add_argument(
        "--schedule", type=cli_arguments.filename, metavar="FILE", help="only its jobs, those too that have not begun"
    )
    return parser.parse_args(arguments)


def gather(folders: Sequence[str]) -> tuple[dict[str, Record], list[str]]:
    """The runs of all folders by name, and what contradicts. RequestError where a folder is none or holds no run."""
    records: dict[str, Record] = {}
    conflicts: list[str] = []
    for folder in folders:
        if not Path(folder).is_dir():
            raise RequestError(f"{folder} is no folder: give one with runs, such as {RUNS}")
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
    """Of two records of one name that which got further, and what contradicts."""
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


def family(config: dict) -> str | None:
    """The curve that a run is a point of: a family, for tensors of other than three dimensions with those."""
    if config.get("module"):
        return f"module {config['module']}"
    if not config.get("conv"):
        return None
    if config.get("budget") or config.get("budget_mult_adds"):  # of a job that has not begun: its number is to be found
        with suppress(RequestError):
            return str(parse_family(config["conv"]))
    name = parse_conv(config["conv"])
    numbers = FAMILIES[name.family].numbers
    return str(OpenName(name.family, numbers[0] if numbers else None, name.numbers[1:]))


def row(record: Record) -> dict:
    """All of one run, but for what it shares with others of its group."""
    config, counts, last = record.config, dict(record.document.get("counts", {})), record.last
    if counts.get("uncounted"):  # by a user's module: a part of the mult-adds would look like a gain
        counts["mult_adds"] = counts["mult_adds_exact"] = None
    best5 = [each["test_top5_error"] for each in record.rows if "test_top5_error" in each]
    return {
        "name": record.name,
        "state": record.state,
        "reason": record.reason,
        "family": family(config),
        "taught": config["mode"] == "student" if "mode" in config else None,
        **{metric: record.tested.get(metric) for metric in METRICS},
        "best_test_top5_error": min(best5, default=None),
        "epochs_done": record.epochs_done,
        "epochs_planned": record.epochs_planned,
        **{cost: counts.get(cost) for cost in COSTS},
        "seconds": sum(each.get("seconds", 0.0) for each in record.rows) if record.rows else None,
        "images_per_second": last.get("images_per_second"),
        "folder": str(record.folder),
        "git_commit": record.document.get("versions", {}).get("git_commit"),
        **config,
        "rows": record.rows,
    }


def add_groups(rows: Sequence[dict], others: Iterable[dict] = ()) -> None:
    """Puts the runs that differ in their seed alone, their teachers' too, into one group, with its means. `others` are runs
    of other studies, of which teachers may be."""
    by_name = {each["name"]: each for each in (*others, *rows)}
    apart = dict(of_other_weights(rows))
    groups: dict[str, list[dict]] = {}
    for each in rows:
        groups.setdefault(_group_key(each, by_name, apart), []).append(each)
    for members in groups.values():
        finished = _replicates(each for each in members if each["state"] == "finished")
        shared = {"group": members[0]["name"], "seeds": len(finished)}
        for metric in METRICS:
            values = [each[metric] for each in finished if each[metric] is not None]
            shared[f"mean_{metric}"] = mean(values) if values else None
            shared[f"std_{metric}"] = stdev(values) if len(values) > 1 else None
        for each in members:
            each.update(shared)


def _replicates(runs: Iterable[dict]) -> list[dict]:
    """One run of each seed, the teachers' too: another of the same seed tells nothing of what chance does."""
    kept: dict[tuple, dict] = {}
    for each in runs:
        kept.setdefault((each.get("seed"), each.get("teacher_digest"), each.get("init_digest")), each)
    return list(kept.values())


def of_other_weights(rows: Sequence[dict]) -> Iterator[tuple[str, int]]:
    """Names of runs that others came from in several versions, and how many: on two machines, or trained anew."""
    for name, digest in (("teacher_checkpoint", "teacher_digest"), ("init_from", "init_digest")):
        versions: dict[str, set[str]] = {}
        for each in rows:
            if each.get(digest) and each.get(name):
                versions.setdefault(each[name], set()).add(each[digest])
        yield from ((origin, len(of)) for origin, of in versions.items() if len(of) > 1)


def _group_key(each: dict, by_name: dict[str, dict], apart: Collection[str], depth: int = 0) -> str:
    if "dataset" not in each:  # of which nothing is known but its name
        return each["name"]
    own = {key: value for key, value in each.items() if value and key not in NOT_OF_GROUP | {*LEADING, "rows"}}
    if is_own(own["dataset"]) and own.get("data_digest"):
        own["dataset"] = ""  # the same folder by another name
    origins = [each.get("init_from"), each.get("teacher_checkpoint") if each["taught"] else None]
    known = [
        _group_key(by_name[name], by_name, apart, depth + 1) if name in by_name and depth < 9 else name
        for name in origins
    ]
    digests = [each.get(digest) for name, digest in zip(origins, ("init_digest", "teacher_digest")) if name in apart]
    return json.dumps([own, known, digests], sort_keys=True, default=str)


def planned(jobs: Sequence[Job], rows: dict[str, dict]) -> list[dict]:
    """A row for each job of a schedule: what is known of its run, and else what its command says."""
    found = []
    for job in jobs:
        config = job.options
        said = {
            "name": job.name, "state": "planned", "reason": "", "family": family(config),
            "taught": job.options.mode == "student", "epochs_done": 0, "epochs_planned": job.options.epochs,
            **dict.fromkeys(METRICS), **config, "rows": [],
        }  # fmt: skip
        row = rows.get(job.name, {})
        if "dataset" not in row:  # it never began: the command knows more
            said |= {key: row[key] for key in ("state", "reason", "folder") if key in row}
            row = said
        for need, what in job.needs.items():
            state = rows.get(need, {}).get("state")
            if row["state"] == "planned" and state in ("failed", "diverged"):
                row["reason"] = f"its {what} {need} {state}"
        found.append(row)
    return found


class Collated(NamedTuple):
    """A row for each run; what contradicts; a row for each teacher of theirs that a schedule does not contain; and what else
    is to be said."""

    rows: list[dict]
    conflicts: list[str]
    teachers: list[dict]
    notes: list[str]


def collate(folders: Sequence[str], schedule: str | None = None) -> Collated:
    """What the folders hold or, of that, what a schedule asks for."""
    jobs = read_schedule(schedule) if schedule else []
    records, conflicts = gather(folders or ([] if jobs and not RUNS.is_dir() else [str(RUNS)]))
    found = []
    for record in records.values():
        try:
            found.append(row(record))
        except SwapconvError as error:  # a conv that no version knows
            found.append(row(Record(record.folder, {}, [], f"its record is damaged: {error}")))
    rows = planned(jobs, {each["name"]: each for each in found}) if jobs else found
    conflicts += [f"{name}: runs came from {count} versions of it" for name, count in of_other_weights(rows)]
    add_groups(rows, found)
    inside = {each["name"] for each in rows}
    needed = {each.get("teacher_checkpoint") for each in rows if each["taught"]} - inside
    teachers = [each for each in found if each["name"] in needed]
    add_groups(teachers, found)
    return Collated(rows, conflicts, teachers, _notes(rows, teachers, schedule))


def _notes(rows: Sequence[dict], teachers: Sequence[dict], schedule: str | None) -> list[str]:
    """What a person should know who takes the table for one study."""
    if schedule is None:
        mixed = mixture(rows)
        way = "--schedule FILE takes those of one study"
        return [f"the runs are of {mixed}, so not of one study: {way}"] if mixed else []
    shown = [f"{each['name']} ({_told(each)})" for each in teachers[:3]] + ["…"] * (len(teachers) > 3)
    return [f"no job of {schedule}, so without a row, but teaching some: {', '.join(shown)}"] if shown else []


def _told(row: dict) -> str:
    error = row["test_top1_error"]
    return row["state"] + (f", {error:.2f} % test error" if error is not None else "")


def as_csv(rows: Sequence[dict]) -> str:
    """With the columns that every study has first, then the configuration's; lists as JSON."""
    columns = [*LEADING, *dict.fromkeys(key for each in rows for key in each if key not in LEADING and key != "rows")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for each in rows:
        writer.writerow([_cell(each.get(column)) for column in columns])
    return text.getvalue()


def _cell(value: object) -> object:
    return json.dumps(value) if isinstance(value, (bool, list, dict)) else value


def _refuse_others(output: Path) -> tuple[Path, Path]:
    """The two files to write. RequestError where a schedule, or anything but an earlier collation, has the name."""
    table, document = (output.with_name(output.name + suffix) for suffix in (".csv", ".json"))
    ours = {table: f"{','.join(LEADING[:4])},".encode(), document: b'{"runs": '}
    for path, beginning in ours.items():
        system_files.keep("-o", str(path), "collation of runs", lambda contents, of=beginning: contents.startswith(of))
    return table, document


def main(arguments: list[str] | None = None) -> int:
    request = options(arguments)
    output = Path(request.output.removesuffix(".csv").removesuffix(".json"))
    files = _refuse_others(output)
    rows, conflicts, teachers, notes = collate(request.folders, request.schedule)
    document = {"runs": rows, "conflicts": conflicts, "teachers": teachers}
    for path, text in zip(files, (as_csv(rows), json.dumps(document))):
        write_atomically(path, lambda file, text=text: file.write(text.encode()))
    print(table(rows))
    for what, texts in (("conflict", conflicts), ("note", notes)):
        for text in texts:
            print(f"{what}: {text}")
    states = Counter(each["state"] for each in rows)
    print(
        f"{output}.csv and .json: {len(rows)} runs, "
        + ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
    )
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
