"""The results of runs in Python: a table for pandas, and figures as matplotlib axes.

runs = frame("runs")                         # one row a run, the columns of schedules.collate
axes = draw(runs[runs.epochs == 30], "params")
axes[0].figure.savefig("params.png")
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from record.paths import RUNS
from schedules import plot
from schedules.collate import as_csv, collate
from schedules.outcomes import MEASURES, read
from system.errors import RequestError, did_you_mean

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes


def frame(folders: str | Sequence[str] = str(RUNS), schedule: str | Sequence[str] | None = None) -> pandas.DataFrame:
    """Return the table of schedules.collate: one row a run, errors in percent, missing values as NaN.

    Args: folders: of runs, or that hold a runs/, and earlier tables, STUDY.csv; schedule: the path of a study, or of several,
    whose jobs alone are rows, those too that have not begun. Raise RequestError (a ValueError) where a folder holds no run.
    """
    import pandas

    rows = collate([folders] if isinstance(folders, str) else list(folders), schedule).rows
    return pandas.read_csv(io.StringIO(as_csv(rows)), low_memory=False, dtype_backend="numpy_nullable")


def draw(study: str | pandas.DataFrame, kind: str = "params", error: str = MEASURES[0]) -> list[Axes]:
    """Return the axes of a kind of figure of schedules.plot, those of each dataset, network and number of epochs.

    Args: study: the path of a table of schedules.collate, or rows of `frame`; kind: one of plot.KINDS, or latency_N for N images; error: the column of errors.
    Curves and traces need the epochs of each run, which are in the file beside a table, not in a frame. Raise RequestError (a
    ValueError) for another kind or column, and where there is nothing to draw.
    """
    kinds = (*plot.KINDS, *([kind] if re.fullmatch(r"latency_\d+", kind) else ["latency_1"]))
    for what, value, known in (("kind", kind, kinds), ("error", error, MEASURES)):
        if value not in known:
            raise RequestError(f"{what}={value!r}{did_you_mean(value, known)} (known: {', '.join(known)})")
    if isinstance(study, str):
        found = read(study, error)
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frame.csv"
            study.to_csv(path, index=False)
            try:
                found = read(str(path), error)
            except RequestError as fault:
                raise RequestError(str(fault).replace(str(path), "the frame"))
    drawn = list(plot.figures(found, "exact", kind))
    if not any(figure for _, _, figure in drawn):
        why = [f"{pair.title}: {plot.why_not(pair, kind, 'exact')}" for pair, _, _ in drawn]
        raise RequestError(
            f"there is nothing to draw as {kind!r}: {'; '.join(why) or 'no finished run has what it shows'}"
        )
    return [axes for _, _, figure in drawn if figure for axes in figure.axes]
