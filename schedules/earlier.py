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
from schedules.rows import LEADING, METRICS
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

    Of a run that is in several sources, the row that got further is used; if none did, the first. Jobs that had not begun
    are left out. Raise RequestError where a file is no table.
    """
    found, places = {row["name"]: row for row in rows}, {row["name"]: row["folder"] for row in rows}
    elsewhere, conflicts, notes = {}, [], []
    for path in tables:
        runs, listed, teachers = table.read_with_epochs(path)
        conflicts += [each for each in listed if each not in conflicts]
        taken = []
        for row in (_whole(run, path) for run in runs if run["state"] != "planned"):
            name = row["name"]
            before = found.get(name)
            is_used = before is None or _progress(row) > _progress(before)
            if before and (conflict := _contradiction(before, row)):
                used, other = (path, places[name]) if is_used else (places[name], path)
                conflicts.append(f"{name}: {used} is used, not {other}: {conflict}")
            if is_used:
                found[name], places[name] = row, path
                taken.append(row)
        elsewhere |= {run["name"]: _whole(run, path) for run in teachers if run["name"] not in elsewhere}
        notes += _notes(taken, path, {*found, *elsewhere})
    return Together([*found.values()], [row for name, row in elsewhere.items() if name not in found], conflicts, notes)


def _whole(run: Run, path: str) -> Run:
    """Return a row of a table as schedules.rows makes it: with all columns that lead, and what nothing says as None."""
    row = dict.fromkeys(LEADING) | run
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
    if different := differences(_configuration(later), _configuration(row)):
        return f"they are two runs: {'; '.join(different)}"
    if _progress(row) == _progress(later):
        for metric in METRICS:
            if None not in (pair := (row[metric], later[metric])) and pair[0] != pair[1]:
                return f"{metric} is {pair[0]} and {pair[1]}"
    return ""


def _configuration(row: Run) -> dict:
    return {key: value for key, value in row.items() if key not in (*LEADING, "rows") and not is_latency(key)}


def _notes(taken: Sequence[Run], path: str, known: Iterable[str]) -> list[str]:
    """Say what the rows that were taken from a table do not tell: epochs, and the runs that theirs came from."""
    curves = [row["name"] for row in taken if len(row["rows"]) < (row["epochs_done"] or 0)]
    origins = {row.get(key): None for row in taken for key in ORIGINS if key != "teacher_checkpoint" or row["taught"]}
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
    except RequestError:  # damaged, or of an older version: nothing can be kept of it
        return
    kept = {row["name"]: row for row in rows if row["state"] == "finished"}
    finished = [row for row in [*runs, *teachers] if row["state"] == "finished"]
    gone = [row for row in finished if not (row["name"] in kept and _is_same(row, _configuration(kept[row["name"]])))]
    lost = [row["name"] for row in gone if not any(_holds(place, row) for place in _places(row, path, sources))]
    if not lost:
        return
    is_source = any(is_table(source) and Path(source).resolve() == path.resolve() for source in sources)
    way = (
        "give the schedules of these too, or choose another -o"
        if is_source
        else f"name {path} beside the folders to keep its rows, or delete it if they were removed or renamed on purpose"
    )
    raise RequestError(
        f"{path} has {len(lost)} finished run{'s' * (len(lost) > 1)} that no folder has any more and the new table would lose "
        f"({_listed(lost)}): {way}"
    )


def _is_same(row: Run, configuration: dict) -> bool:
    """Return whether a row is of a configuration, as far as both say: another version may know other flags."""
    own = _configuration(row)
    shared = {key for key in own.keys() & configuration.keys() if own.get("dataset") and configuration.get("dataset")}
    return not differences(*({key: of[key] for key in shared} for of in (own, configuration)))


def _places(row: Run, path: Path, sources: Sequence[str]) -> Iterable[Path]:
    """Yield where a finished run of a table may lie: where it was, beside the table, and in the sources."""
    folder, name = row.get("folder") or row["name"], row["name"]
    near = [path.parent, *(Path(each).parent if is_table(each) else Path(each) for each in sources)]
    return [Path(folder), RUNS / name, *(place / each for place in near for each in (folder, name, RUNS / name))]


def _holds(folder: Path, row: Run) -> bool:
    record = read_record(folder) if folder.is_dir() else None
    return record is not None and record.state == "finished" and _is_same(row, without_folders(record.config))
