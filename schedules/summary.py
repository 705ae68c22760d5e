"""Show a collation as a table with a line for every group of runs.

print(table(rows))                       # rows as collate.py makes them
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean

from record.reader import STATES
from schedules.comparable import but_for_teaching, images
from schedules.difference import Result, with_verdict
from schedules.published import shown_range
from schedules.table import latency_sizes, machines, milliseconds, percent

EXACT, GATED = "mult-adds,\nexact", "mult-adds,\ngated"
LEFT, SHARE, PUBLISHED = "params,\nnot 0", "of the\nteacher's", "published\nerror %"
# Of each column: its alignment, and the cell that says nothing new. A column of such cells alone is left out.
HEADERS = {
    "group": ("left", ""), "state": ("left", "1 finished"), "error %": ("right", ""), PUBLISHED: ("right", ""),
    "taught − alone": ("left", ""), "taught − teacher": ("left", ""), "params": ("right", ""), SHARE: ("right", ""),
    LEFT: ("right", ""), EXACT: ("right", ""), "open": ("right", ""),
    GATED: ("right", ""), "why": ("left", ""),
}  # fmt: skip


def table(rows: Iterable[dict]) -> str:
    """Return a line for each group: its states, its error as mean ± deviation, its costs, and why it is not finished.

    Where a group has a teacher, the line has the differences of its error from that of the same network alone and from the
    teacher's. Costs that were measured are means over its runs, times the median ms of a batch.
    """
    from tabulate import tabulate  # no request is checked by it

    groups: dict[str, list[dict]] = {}
    for each in rows:
        groups.setdefault(each["group"], []).append(each)
    gains = _gains([members[0] for members in groups.values()])
    sizes = sorted({size for members in groups.values() for each in members for size in latency_sizes(each)})
    headers = _headers(sizes)
    columns: dict[str, list] = {header: [] for header in headers}
    for members in groups.values():
        first, states = members[0], Counter(each["state"] for each in members)
        columns["group"].append(first["name"])
        columns["state"].append(", ".join(f"{states[state]} {state}" for state in STATES if states[state]))
        columns["error %"].append(_error(first))
        columns["taught − alone"].append(gains.get(first["group"], ""))
        columns[PUBLISHED].append(shown_range(first))
        columns["taught − teacher"].append(_gap(first))
        columns["params"].append(_whole(first.get("params")))
        columns[SHARE].append("" if (share := _mean(members, "percent_of_teacher_params")) is None else percent(share))
        columns[LEFT].append(_whole(_mean(members, "active_parameters")))
        columns[EXACT].append(_whole(first.get("mult_adds_exact")))
        density, gated = _mean(members, "gate_density"), _mean(members, "mult_adds_gated")
        columns["open"].append("" if density is None else f"{100 * density:.2f} %")
        columns[GATED].append(_whole(gated))
        for size in sizes:
            columns[_of_time(size)].append(_time(members, size))
        columns["why"].append(_cut(first["reason"]))
    shown = {header: cells for header, cells in columns.items() if set(cells) - {headers[header][1]}}
    align = [headers[header][0] for header in shown]
    return tabulate(shown, "keys", disable_numparse=True, colalign=align) if shown else ""


def _headers(sizes: Sequence[int]) -> dict[str, tuple[str, str]]:
    """Return HEADERS with a column for the time of inference of each size of a batch, before the last."""
    *others, (last, of_last) = HEADERS.items()
    return {**dict(others), **{_of_time(size): ("right", "") for size in sizes}, last: of_last}


def _of_time(size: int) -> str:
    return f"inference ms,\nbatch of {size:,}"


def _time(members: Sequence[dict], size: int) -> str:
    """Return the mean over a group's runs; of several machines, whose times do not compare, none."""
    found = None if len(machines(members)) > 1 else _mean(members, f"latency_ms_{size}")
    return "" if found is None else milliseconds(found)


def _gap(group: dict) -> str:
    gap = group.get("gap_to_teacher")
    return "" if gap is None else f"{gap:+.2f}, {group['gap_to_teacher_verdict']}"


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
