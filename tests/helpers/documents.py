"""The pages, README.md and docs/*.md, read for their commands, links and example files.

documents.commands(documents.ROOT / "README.md")[0].words     # ["make", "demo"]
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("python", "make", "torchrun", "sbatch")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE_OF_BLOCK = re.compile(r"`([\w./]+\.(?:py|yaml|json))`:$")  # ends the line before a block that is a file


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its lines, the number of its first line in the page, and the file that it shows."""

    language: str
    lines: list[str]
    number: int
    file: str | None = None


@dataclass(frozen=True)
class Command:
    """A command of a page: its words, whether it stands in a fenced block, and the output that the page shows below it."""

    page: str
    number: int
    line: str
    fenced: bool
    output: str = ""

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line, comments=True)

    def __str__(self) -> str:
        return f"{self.page}:{self.number}: {self.line}"


def pages() -> list[Path]:
    """README, then the pages of docs/ in the order in which README names them first; those that it does not name come last."""
    readme = ROOT / "README.md"
    linked = [ROOT / target.partition("#")[0] for target in links(readme) if target.startswith("docs/")]
    return list(dict.fromkeys([readme, *linked, *sorted((ROOT / "docs").glob("*.md"))]))


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    found, inside, before = [], None, ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            if inside is None:
                named = FILE_OF_BLOCK.search(before)
                inside = Block(line.removeprefix("```").strip(), [], number + 1, named and named[1])
            else:
                found.append(inside)
                inside = None
        elif inside is not None:
            inside.lines.append(line)
        before = line if line.strip() else before
    assert inside is None, f"{page}: the block at line {inside.number} has no end"
    return found


def prose(page: Path) -> list[tuple[int, str]]:
    """The numbered lines of a page that stand in no fenced block."""
    hidden = {block.number + place for block in blocks(page) for place in range(-1, len(block.lines) + 1)}
    return [(number, line) for number, line in enumerate(page.read_text().splitlines(), 1) if number not in hidden]


def links(page: Path) -> list[str]:
    """The targets of a page's links, as written, less what escapes underscores."""
    return [target for _, line in prose(page) for target in LINK.findall(line)]


def commands(page: Path) -> list[Command]:
    """Every command of a page in its order: in blocks, at the beginning of a line, and in the code of a sentence."""
    name, found = page.relative_to(ROOT).as_posix(), []
    for block in blocks(page):
        if block.language == "python":
            continue
        places = [place for place, line in enumerate(block.lines) if _is_command(line)]
        for place, after in zip(places, [*places[1:], len(block.lines)]):
            output = "\n".join(block.lines[place + 1 : after]) if block.lines[place].startswith("$") else ""
            line = block.lines[place].removeprefix("$ ")
            found.append(Command(name, block.number + place, line, True, output))
    for number, line in prose(page):
        spans = [line.strip()] if _is_command(line.strip()) else re.findall("`([^`]+)`", line)
        found += [Command(name, number, span.removeprefix("$ "), False) for span in spans if _is_command(span)]
    return sorted(found, key=lambda command: command.number)


def _is_command(line: str) -> bool:
    return line.removeprefix("$ ").startswith(tuple(f"{program} " for program in PROGRAMS))


def configurations() -> dict[str, str]:
    """The configuration files that the pages show, by name, with their text."""
    shown = [block for page in pages() for block in blocks(page) if block.language == "yaml" and block.file]
    return {block.file: "\n".join([*block.lines, ""]) for block in shown}


def scripts() -> set[str]:
    """The names of the scripts that the pages show, to be run in the folder where they lie."""
    return {block.file for _, block in example_files() if block.file and "/" not in block.file}


def example_files() -> list[tuple[Path, Block]]:
    """Every block of Python of the pages, with its page."""
    return [(page, block) for page in pages() for block in blocks(page) if block.language == "python"]
