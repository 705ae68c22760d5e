"""Earlier tables of schedules.collate as sources, beside folders of runs: some folders are elsewhere, or lost.

together = beside(rows, ["there/study.csv"])                   # rows: those of the folders
check_nothing_is_lost(Path("study.csv"), together.rows, ["runs", "there/study.csv"])     # before it is written over
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from record.identity import ORIGINS, differences
from record.paths import RUNS
from record.reader import is_latency
from record.reader import read as read_record
from schedules import table
from schedules.rows import COSTS, LEADING, METRICS
from schedules.table import Run
from system.errors import RequestError
from system.user_code import without_folders

SHOWN = 3  # names in a message


class Together(NamedTuple):
    """What `beside` returns.

    rows: of folders and tables, one a run; elsewhere: rows of teachers that are no row of a table, but stand in the JSON
    beside it; conflicts: contradictions, a sentence each; notes: what cannot be told from a table.
    """

    rows: list[Run]
    elsewhere: list[Run]
    conflicts: list[str]
    notes: list[str]


def is_table(source: str) -> bool:
    """Return whether a source is meant as a table, not as a folder of runs."""
    return source.endswith(".csv") and not Path(source).is_dir()


def beside(rows: Sequence[Run], tables: Sequence[str]) -> Together:
    """Return rows with those of earlier tables beside them.

    A finished run of any source is used before an unfinished one, and that of a folder, which may go on, before that of a
    table. Of several alike the first is used. Jobs that had not begun are left out. Raise RequestError where a file is no
    table.
    """
    found, places = {row["name"]: row for row in rows}, {row["name"]: row["folder"] for row in rows}
    elsewhere: dict[str, Run] = {}
    conflicts, notes = [], []
    for path in tables:
        runs, listed, teachers = table.read_with_epochs(path)
        runs, teachers = ([_whole(run, path) for run in of if run["state"] != "planned"] for of in (runs, teachers))
        for row in runs:
            name, before = row["name"], found.get(row["name"])
            is_used = _is_better(row, before, is_of_folder=places.get(name) not in tables)
            if before and (conflict := _contradiction(before, row)):
                used, other = (path, places[name]) if is_used else (places[name], path)
                conflicts.append(f"{name}: {used} is used, not {other}: {conflict}")
            if is_used:
                found[name], places[name] = row, path
        for row in teachers:
            of = found if row["name"] in found else elsewhere
            if _is_better(row, of.get(row["name"]), is_of_folder=of is found and places[row["name"]] not in tables):
                of[row["name"]], places[row["name"]] = row, path
        taken = [row for row in runs if found[row["name"]] is row]
        own = {row["name"] for row in taken}
        conflicts += [each for each in listed if each.partition(":")[0] in own and each not in conflicts]
        notes += _notes(taken, teachers, path, {*found, *elsewhere})
    return Together([*found.values()], [row for name, row in elsewhere.items() if name not in found], conflicts, notes)


def _is_better(row: Run, before: Run | None, is_of_folder: bool) -> bool:
    """Return whether a row of a table is used in place of the one before. Args: is_of_folder: whether that is of a folder."""
    if before is None or not before.get("dataset"):
        return before is None or bool(row.get("dataset"))
    return _progress(row) > _progress(before) and (row["state"] == "finished" or not is_of_folder)


def _whole(run: Run, path: str) -> Run:
    """Return a row of a table as schedules.rows makes it: with all columns that lead, and what nothing says as None."""
    row = dict.fromkeys(LEADING) | run
    for key in (*METRICS, *COSTS, "epochs_done", "epochs_planned", "seconds"):
        if row[key] is not None and not table.finite(row[key]):
            raise RequestError(f"{path} is damaged: {key} of {row['name']} is {row[key]!r}, no number")
    if row["state"] == "running":
        row |= {"state": "incomplete", "reason": f"it was running when {path} was written"}
    if row["dataset"]:
        return row
    family = None if row["family"] == "unknown" else row["family"]
    return {key: row[key] for key in (*LEADING, "rows")} | {"family": family, "taught": None}


def _progress(row: Run) -> tuple[bool, int]:
    return row["state"] == "finished", row["epochs_done"] or 0


def _contradiction(row: Run, later: Run) -> str:
    """Say how a row and that of a later source contradict each other, or ""."""
    if not (row.get("dataset") and later.get("dataset")):  # one never began, or its record is damaged
        return row["reason"] if later.get("dataset") else ""
    if not (row["epochs_done"] and later["epochs_done"]):  # one has a command alone, which does not say all
        return ""
    if different := differences(_configuration(later), _configuration(row)):
        return f"they are two runs: {'; '.join(different)}"
    if _progress(row) == _progress(later):
        for metric in METRICS:
            if None not in (pair := (row[metric], later[metric])) and pair[0] != pair[1]:
                return f"{metric} is {pair[0]} and {pair[1]}"
    return ""


def _configuration(row: Run) -> dict:
    return {key: value for key, value in row.items() if key not in (*LEADING, "rows") and not is_latency(key)}


def _notes(taken: Sequence[Run], teachers: Sequence[Run], path: str, known: Iterable[str]) -> list[str]:
    """Say what the rows that are taken from a table do not tell: epochs, and the runs that they and teachers came from."""
    curves = [row["name"] for row in taken if len(row["rows"]) < (row["epochs_done"] or 0)]
    origins = {
        row.get(key): None
        for row in (*taken, *teachers)
        for key in ORIGINS
        if key != "teacher_checkpoint" or row["taught"]
    }
    missing = [name for name in origins if name and name not in known]
    document = Path(path).with_suffix(".json")
    return [f"{path}: no curves of {_listed(curves)}, whose epochs are not in {document}"] * bool(curves) + [
        f"{path}: no gap to {_listed(missing)}, of which there is no row, and no group over several of them"
    ] * bool(missing)


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:SHOWN], *["…"] * (len(names) > SHOWN)])


def check_nothing_is_lost(path: Path, rows: Iterable[Run], sources: Sequence[str]) -> None:
    """Raise RequestError if `path` is a table of finished runs that neither the new rows nor a folder has."""
    try:
        runs, _, teachers = table.read_with_epochs(str(path)) if path.exists() else ([], [], [])
    except RequestError as error:
        raise RequestError(
            f"{error}: it is not written over, as its runs may be nowhere else; delete it or choose another -o"
        )
    new = {row["name"]: row for row in rows if row["state"] == "finished"}
    finished = [row for row in (*runs, *teachers) if row["state"] == "finished"]
    gone = [row for row in finished if not (row["name"] in new and _is_same(row, _configuration(new[row["name"]])))]
    lost = [row["name"] for row in gone if not any(_holds(place, row) for place in _places(row, path, sources))]
    if not lost:
        return
    way = f"name {path} beside the folders to keep its rows, or delete it if they were removed or renamed on purpose"
    if any(name in new for name in lost):
        way = "other runs have their names now, so choose another -o, or delete the table"
    elif any(is_table(source) and Path(source).resolve() == path.resolve() for source in sources):
        way = "give the schedules of these too, or choose another -o"
    raise RequestError(
        f"{path} has {len(lost)} finished run{'s' * (len(lost) > 1)} that no folder has any more and the new table would lose "
        f"({_listed(lost)}): {way}"
    )


def _is_same(row: Run, configuration: dict) -> bool:
    """Return whether a row is of a configuration, as far as both say: another version may know other flags.

    Weights by the same name are the same: a teacher that was trained again has others, and its own row says of what.
    """
    own = _configuration(row)
    if not (own.get("dataset") and configuration.get("dataset")):
        return True
    again = {digest for name, digest in ORIGINS.items() if own.get(name) == configuration.get(name)}
    shared = (own.keys() & configuration.keys()) - again
    return not differences(*({key: of[key] for key in shared} for of in (own, configuration)))


def _places(row: Run, path: Path, sources: Sequence[str]) -> list[Path]:
    """Return where a finished run of a table may lie: where it was, beside the table, and in the sources."""
    folder, name = row.get("folder") or row["name"], row["name"]
    near = [path.parent, *(Path(each).parent if is_table(each) else Path(each) for each in sources)]
    return [Path(folder), RUNS / name, *(place / each for place in near for each in (folder, name, RUNS / name))]


def _holds(folder: Path, row: Run) -> bool:
    record = read_record(folder) if folder.is_dir() else None
    return record is not None and record.state == "finished" and _is_same(row, without_folders(record.config))
