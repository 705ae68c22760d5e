"""What studies look like. Importing this package imports matplotlib as it ships, whatever its user has set for other work.

    from schedules.figures.tradeoff import tradeoff
    svg = rendered(tradeoff(pair, "params", study.measure), "svg")      # the same bytes on every machine with the same fonts

MPLBACKEND may name a backend that this environment lacks (Jupyter exports its own), a matplotlibrc (in the current folder,
in the home folder, or named by MATPLOTLIBRC) may be damaged, and a folder for matplotlib's cache may be read-only. None of them
decides here whether a figure is drawn, or how: style.drawing() sets every parameter, also where matplotlib was imported before.
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
    """While it lasts, matplotlib logs nothing: neither of a cache that it cannot keep nor of a font that it looks for."""
    logger = logging.getLogger("matplotlib")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _without_settings() -> Iterator[None]:
    """While it lasts, matplotlib finds its own matplotlibrc, and no other backend is asked for."""
    shipped = Path(find_spec("matplotlib").origin).parent / "mpl-data"
    before = {name: os.environ.get(name) for name in ("MPLBACKEND", "MATPLOTLIBRC")}
    os.environ.pop("MPLBACKEND", None)
    os.environ["MATPLOTLIBRC"] = str(shipped / RC_FILE)
    folder = None
    if os.path.exists(RC_FILE):  # one in the current folder comes before all others
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
    import matplotlib.font_manager  # noqa: F401  it makes the cache
