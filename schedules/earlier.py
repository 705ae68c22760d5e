"""Rows of earlier tables of schedules.collate, beside those of run folders: for runs that another machine took with it.

found, conflicts = beside(rows, ["there/study.csv"])           # rows: those of the folders, which win a tie
check_nothing_is_lost(Path("study.csv"), found, sources)       # before the table is written again
"""

from collections.abc import Sequence
from pathlib import Path

from record.identity import differences
from record.paths import RUNS
from record.reader import is_latency
from record.reader import read as read_record
from schedules import table
from schedules.rows import LEADING
from schedules.table import Run
from system.errors import RequestError

SHOWN = 3  # names in a message


def is_table(source: str) -> bool:
    """Return whether a source is meant as a table, not as a folder of runs."""
    return source.endswith(".csv") and not Path(source).is_dir()


def beside(rows: Sequence[Run], tables: Sequence[str]) -> tuple[list[Run], list[str]]:
    """Return rows with those of earlier tables beside them, and the contradictions between rows of one name.

    Of a name that both have, the row that got further stays; if none did, the first of them, as two finished rows of one run
    are the same. Jobs that had not begun are left out. Raise RequestError where a file is no table.
    """
    found, conflicts = {row["name"]: row for row in rows}, []
    for path in tables:
        runs, _, teachers = table.read_with_epochs(path)
        for row in [*runs, *teachers]:
            before = found.get(row["name"])
            if row["state"] == "planned":
                continue
            if row["state"] == "running":
                row |= {"state": "incomplete", "reason": f"it ran when {path} was written"}
            if before and (conflict := _contradiction(before, row, path)):
                conflicts.append(conflict)
            if before is None or _progress(row) > _progress(before):
                found[row["name"]] = row
    return [*found.values()], conflicts


def _progress(row: Run) -> tuple[bool, int]:
    return row["state"] == "finished", row.get("epochs_done") or 0


def _contradiction(one: Run, other: Run, path: str) -> str:
    """Return how a row and that of a table contradict each other, or ""."""
    where = f"{one['name']}: {one['folder']} ({one['epochs_done']} epochs) and {path} ({other['epochs_done']})"
    configurations = [_configuration(each) for each in (other, one)]
    if all(each.get("dataset") for each in configurations) and (different := differences(*configurations)):
        return f"{where} are two runs: {'; '.join(different)}"
    errors = [each.get("test_top1_error") for each in (one, other)]
    if _progress(one) == _progress(other) and errors[0] != errors[1]:
        return f"{where}: the test errors are {errors[0]} and {errors[1]}"
    return ""


def _configuration(row: Run) -> dict:
    return {key: value for key, value in row.items() if key not in (*LEADING, "rows") and not is_latency(key)}


def check_nothing_is_lost(path: Path, rows: Sequence[Run], sources: Sequence[str]) -> None:
    """Raise RequestError if `path` is a table of finished runs that neither the new rows nor the runs' folders have."""
    try:
        before = table.read(str(path)) if path.exists() else []
    except RequestError:  # damaged, or of an older version: nothing can be kept of it
        return
    kept = {row["name"] for row in rows if row["state"] == "finished"}
    gone = [row for row in before if row["state"] == "finished" and row["name"] not in kept]
    folders = [*(source for source in sources if not is_table(source)), "."]
    lost = [
        row["name"]
        for row in gone
        if not any(map(_is_finished, [Path(row["folder"] or row["name"]), *_places(row["name"], folders)]))
    ]
    if not lost:
        return
    names = ", ".join([*lost[:SHOWN], *["…"] * (len(lost) > SHOWN)])
    is_source = any(is_table(source) and Path(source).resolve() == path.resolve() for source in sources)
    way = "give the schedules of these too" if is_source else f"name {path} itself beside the folders, to keep its rows"
    raise RequestError(
        f"{path} has {len(lost)} finished run{'s' * (len(lost) > 1)} that the new table would lose, as no folder of theirs is "
        f"left ({names}): {way}, or choose another -o"
    )


def _places(name: str, folders: Sequence[str]) -> list[Path]:
    return [place / name for folder in folders for place in (Path(folder), Path(folder) / RUNS)]


def _is_finished(folder: Path) -> bool:
    record = read_record(folder) if folder.is_dir() else None
    return record is not None and record.state == "finished"
