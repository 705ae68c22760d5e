"""The figures of studies. Importing this package imports matplotlib as it ships, whatever its user has set.

    from schedules.figures.tradeoff import tradeoff
    svg = rendered(tradeoff(pair, "params", study.measure), "svg")  # the same bytes wherever the fonts are the same

MPLBACKEND may name a backend that this environment lacks (Jupyter exports its own), a matplotlibrc (in the current
folder, in the home folder, or named by MATPLOTLIBRC) may be damaged, and the folder of matplotlib's cache may be
read-only. None of these changes a figure or prevents it: style.drawing() sets every parameter, even where matplotlib
was imported before.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

RC_FILE = "matplotlibrc"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence matplotlib's log, which tells of a cache that cannot be written and of fonts that are missing."""
    logger = logging.getLogger("matplotlib")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _without_settings() -> Iterator[None]:
    """Let matplotlib read its own matplotlibrc and no other, and no environment variable choose the backend."""
    shipped = Path(find_spec("matplotlib").origin).parent / "mpl-data"
    before = {name: os.environ.get(name) for name in ("MPLBACKEND", "MATPLOTLIBRC")}
    os.environ.pop("MPLBACKEND", None)
    os.environ["MATPLOTLIBRC"] = str(shipped / RC_FILE)
    folder = None
    if os.path.exists(RC_FILE):  # matplotlib prefers one in the current folder to all others
        folder = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
    try:
        if folder is not None:
            os.chdir(shipped)
        yield
    finally:
        if folder is not None:
            os.fchdir(folder)
            os.close(folder)
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({name: value} if value is not None else {})


if "matplotlib" not in sys.modules:
    with _without_settings(), quiet():
        import matplotlib  # noqa: F401
with quiet():
    import matplotlib.font_manager  # noqa: F401  it writes the cache
