"""Show a collation as a table with a line for every group of runs.

print(table(rows))                       # rows as collate.py makes them
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean

from record.reader import STATES
from schedules.comparable import but_for_teaching, images
from schedules.difference import Result, with_verdict

EXACT, GATED = "mult-adds,\nexact", "mult-adds,\ngated"
# Of each column: its alignment, and the cell that says nothing new. A column of such cells alone is left out.
HEADERS = {
    "group": ("left", ""), "state": ("left", "1 finished"), "error %": ("right", ""), "taught − alone": ("left", ""),
    "params": ("right", ""), "not 0": ("right", ""), EXACT: ("right", ""), "open": ("right", ""),
    GATED: ("right", ""), "why": ("left", ""),
}  # fmt: skip


def table(rows: Iterable[dict]) -> str:
    """Return a line for each group: its states, its error as mean ± deviation, its costs, and why it is not finished.

    Where a group has a teacher, the line has the difference of its error from that of the same network alone.
    """
    from tabulate import tabulate  # no request is checked by it

    groups: dict[str, list[dict]] = {}
    for each in rows:
        groups.setdefault(each["group"], []).append(each)
    gains = _gains([members[0] for members in groups.values()])
    columns: dict[str, list] = {header: [] for header in HEADERS}
    for members in groups.values():
        first, states = members[0], Counter(each["state"] for each in members)
        columns["group"].append(first["name"])
        columns["state"].append(", ".join(f"{states[state]} {state}" for state in STATES if states[state]))
        columns["error %"].append(_error(first))
        columns["taught − alone"].append(gains.get(first["group"], ""))
        columns["params"].append(_whole(first.get("params")))
        columns["not 0"].append(_whole(_mean(members, "active_parameters")))
        columns[EXACT].append(_whole(first.get("mult_adds_exact")))
        density, gated = _mean(members, "gate_density"), _mean(members, "mult_adds_gated")
        columns["open"].append("" if density is None else f"{100 * density:.2f} %")
        columns[GATED].append(_whole(gated))
        columns["why"].append(_cut(first["reason"]))
    shown = {header: cells for header, cells in columns.items() if set(cells) - {HEADERS[header][1]}}
    align = [HEADERS[header][0] for header in shown]
    return tabulate(shown, "keys", disable_numparse=True, colalign=align) if shown else ""


def _error(group: dict) -> str:
    """Return the mean error ± deviation of a group; of runs that were never tested that of the images held out."""
    for measure, words in (("test_top1_error", ""), ("val_top1_error", " held out")):
        error, deviation = group[f"mean_{measure}"], group[f"std_{measure}"]
        if error is not None:
            return f"{error:.2f}" + (f" ± {deviation:.2f}" if deviation is not None else "") + words
    return ""


def _mean(members: Sequence[dict], column: str) -> float | None:
    """Return the mean of a column over the runs that have it; None where none has."""
    known = [each[column] for each in members if each.get(column) is not None]
    return fmean(known) if known else None


def _whole(count: float | None) -> str:
    return "" if count is None else f"{count:,.0f}"


def _gains(groups: Sequence[dict]) -> dict[str, str]:
    """Return, by the name of a group with a teacher, the difference of its error from that of the same network alone.

    Groups without such a counterpart, or with several, are left out.
    """
    results = [each for each in groups if each.get("network") and each["mean_test_top1_error"] is not None]
    alone: dict[tuple, list[dict]] = {}
    for each in results:
        if not each["taught"]:
            alone.setdefault(but_for_teaching(each), []).append(each)
    pairs = [(each, alone.get(but_for_teaching(each), [])) for each in results if each["taught"]]
    return {each["group"]: with_verdict(_result(each), _result(of[0])) for each, of in pairs if len(of) == 1}


def _result(group: dict) -> Result:
    error, deviation = group["mean_test_top1_error"], group["std_test_top1_error"]
    return Result(error, images(group)[1], group["seeds"], deviation)


def _cut(text: str, most: int = 70) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
