"""Which files of a dataset are images, which are junk, and which are passed over with a note.

    is_image("x.JPEG"), is_junk("Thumbs.db")          # (True, True)
    passed = Passed()
    passed = passed.add("n01440764/x.heic")
    print(passed.line("imagenet/train"))              # 1 file of imagenet/train passed over, n01440764/x.heic: …

Junk are hidden files, and those that systems and people leave beside images. Imports no torch.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from system.errors import first_line

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # Pillow knows others, some of which run programs
SUFFIXES = frozenset(
    "png apng jpeg jpg jpe jfif bmp gif ppm pgm pbm pnm tif tiff webp".split()
)  # of these formats, in lower case
JUNK = frozenset(
    """thumbs.db ehthumbs.db ehthumbs_vista.db desktop.ini __macosx lost+found $recycle.bin @eadir icon\r picasa.ini
    system\x20volume\x20information""".replace("\n", " ").split(" ")
)  # made by systems and their file browsers
DOCUMENTS = ("readme", "license", "licence", "copying", "changelog", "authors", "citation")
DOCUMENT_SUFFIXES = frozenset("txt md rst html htm pdf md5 sha1 sha256".split())


def suffix(name: str) -> str:
    """Return what follows the last dot of a name, in lower case; empty where there is no dot."""
    return name.rpartition(".")[2].lower() if "." in name else ""


def is_image(name: str) -> bool:
    """Return whether a file of this name (without its folder) is taken for an image."""
    return not name.startswith(".") and suffix(name) in SUFFIXES


def is_junk_folder(name: str) -> bool:
    """Return whether a folder is hidden, or one that systems make."""
    return name.startswith(".") or name.lower() in JUNK


def is_junk(name: str) -> bool:
    """Return whether a file is hidden, or of a kind that lies beside images and is none, such as a README."""
    if is_junk_folder(name) or suffix(name) in DOCUMENT_SUFFIXES:
        return True
    return name.lower().partition(".")[0] in DOCUMENTS and suffix(name) not in SUFFIXES


def is_aside(parts: Sequence[str]) -> bool:
    """Return whether a path within an archive is junk, or lies in a folder that is. Higher folders may be hidden."""
    return any(part.lower() in JUNK for part in parts) or is_junk(parts[-1]) or any(map(is_junk_folder, parts[-2:-1]))


def contents(path: str | Path, largest: int, what: str) -> bytes:
    """Return a file's bytes.

    Args: largest: bytes that it may have; what: what it should be, for the message. Raises OSError where it is no
    regular file (a pipe would never end), or is larger.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no file")
        data = file.read(largest + 1)
        if len(data) > largest:
            raise OSError(f"{max(os.fstat(descriptor).st_size, len(data)):,} bytes are no {what}")
    return data


def fault(error: BaseException) -> str:
    """Return in one line why Pillow cannot read an image."""
    unknown = type(error).__name__ == "UnidentifiedImageError"  # its message shows a Python object
    return (
        f"cannot identify image file: it is no image, or none of {', '.join(FORMATS)}" if unknown else first_line(error)
    )


def shown(name: str) -> str:
    """Return a file's name in one line: what cannot be printed is escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Passed(NamedTuple):
    """The files of a split that are passed over: how many, the first one, and why that one is."""

    count: int = 0
    first: str = ""
    why: str = ""

    def add(self, name: str, count: int = 1) -> "Passed":
        """Return these and `count` more, of which `name` is the first."""
        return self if not count else self._replace(count=self.count + count, first=self.first if self.count else name)

    def joined(self, other: "Passed") -> "Passed":
        """Return these and others as one."""
        return self._replace(count=self.count + other.count) if self.count else other

    def line(self, where: str) -> str:
        """Return a line for a person; empty where no file is passed over."""
        if not self.count:
            return ""
        which = "1 file" if self.count == 1 else f"{self.count:,} files"
        first = shown(self.first) if self.count == 1 else f"the first one is {shown(self.first)}"
        outside = "it lies in no class folder" if is_image(self.first.rpartition("/")[2]) else ""
        why = self.why or outside or "images are .jpg, .png, .webp, .bmp, .gif, .tif, .ppm and the like"
        return f"{which} of {shown(where)} passed over, {first}: {why}"
