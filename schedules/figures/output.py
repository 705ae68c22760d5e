"""Write figures as files, with the same bytes for the same figure.

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
    """Return a figure as `png` or `svg`: the same bytes whenever it is drawn."""
    stream = io.BytesIO()
    figure.savefig(stream, format=format, metadata={"Date": None} if format == "svg" else {"Software": None})
    return compact(stream.getvalue().decode()).encode() if format == "svg" else stream.getvalue()


def compact(svg: str) -> str:
    """Round coordinates to a hundredth of a point, and name fonts of equal widths for every system."""
    svg = re.sub(r'(?<= d=")[^"]+', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)
    return re.sub(
        r"(font(?:-family)?:[^;\"]*?)'(?:Arial|Liberation Sans|Helvetica)'",
        r"\1Arial, 'Liberation Sans', Helvetica",
        svg,
    )


def make_folders(folders: dict[str, Path]) -> None:
    """Make the folders, each with the flag that names it; raise RequestError where one cannot be made."""
    for flag, folder in folders.items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise RequestError(f"{flag}: the folder {str(folder)!r} cannot be made: {first_line(error)}")


def write(path: Path, contents: bytes) -> None:
    """Write a file and print its path; raise MachineFault where the disk does not take it."""
    write_atomically(path, lambda file: file.write(contents))
    print(path)
