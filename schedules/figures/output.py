"""Figures become files: the same bytes for the same figure.

write(folder / "study.svg", rendered(figure, "svg"))
"""

import io
import re
from pathlib import Path

from schedules.figures.style import drawing
from system.errors import RequestError, first_line
from system.files import write_atomically


@drawing()
def rendered(figure, format: str) -> bytes:
    """The same bytes for the same figure, whenever it is drawn."""
    stream = io.BytesIO()
    figure.savefig(stream, format=format, metadata={"Date": None} if format == "svg" else {"Software": None})
    return compact(stream.getvalue().decode()).encode() if format == "svg" else stream.getvalue()


def compact(svg: str) -> str:
    """Coordinates to a hundredth of a point, and fonts of the same widths wherever it is looked at."""
    svg = re.sub(r'(?<= d=")[^"]+', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)
    return re.sub(
        r"(font(?:-family)?:[^;\"]*?)'(?:Arial|Liberation Sans|Helvetica)'",
        r"\1Arial, 'Liberation Sans', Helvetica",
        svg,
    )


def make_folders(folders: dict[str, Path]) -> None:
    """By the flag that names each. RequestError where one cannot be made."""
    for flag, folder in folders.items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise RequestError(f"{flag}: the folder {str(folder)!r} cannot be made: {first_line(error)}")


def write(path: Path, contents: bytes) -> None:
    """And says so. MachineFault where the disk does not take it."""
    write_atomically(path, lambda file: file.write(contents))
    print(path)
