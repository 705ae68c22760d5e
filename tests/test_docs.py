"""The pages say what is true: commands parse, links lead somewhere, examples are Python, README stays short."""

import ast
import importlib
import pkgutil
import re
import shlex

import documents
import numpy as np
import pytest
from documents import ROOT, Command
from PIL import Image

import count
from cli import exporting, options, shrinking

PROGRAMS = {
    "main.py": options.training,
    "count.py": options.counting,
    "shrink.py": shrinking.shrinking,
    "export.py": exporting.exporting,
}
COMMANDS = [command for page in documents.pages() for command in documents.commands(page)]
PAGES = {page.relative_to(ROOT).as_posix(): page for page in documents.pages()}
TOOLS = {
    "generate", "run", "collate", "list", "plot", "costs", "prices", "hyperband", "remove", "rename", "pack",
}  # fmt: skip


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """A working folder with what a parser looks at: a folder of images, configuration files of pages and of runs."""
    files = documents.configurations()
    of_runs = {
        word: files["base.yaml"] for command in COMMANDS for word in command.words if re.match("runs/.*yaml$", word)
    }
    for name, text in {**files, **of_runs}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for split in ("train", "test"):
        for label in ("ash", "oak"):
            folder = tmp_path / "leaves" / split / label
            folder.mkdir(parents=True)
            Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "0.png")
    (tmp_path / "results").symlink_to(ROOT / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parse(words: list[str]) -> None:
    """Give a command's arguments to the parser of its program. Raise RequestError or AssertionError where it is wrong."""
    program, *arguments = words
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert all(each in targets for each in arguments)
        return
    if program == "sbatch":
        first, *wrapped = shlex.split(arguments[arguments.index("--wrap") + 1])
        assert first == "srun"
        return parse(wrapped)
    if program == "torchrun":
        assert "main.py" in arguments
        arguments = arguments[arguments.index("main.py") :]
    first, *rest = arguments
    if first in documents.scripts():  # it lies where the page says that it is written
        return
    if arguments == ["-m", "pip", "install", "-e", "."]:
        assert (ROOT / "pyproject.toml").is_file()
    elif first == "-m":
        package, tool = rest[0].split(".")
        assert package == "schedules" and tool in TOOLS
        module = importlib.import_module(rest[0])
        named = [getattr(module, name, None) for name in ("options", "parse")]
        next(each for each in named if getattr(each, "__module__", "") == module.__name__)(rest[1:])
    elif first in PROGRAMS:
        PROGRAMS[first](rest)
    else:
        assert (ROOT / first).is_file(), f"there is no {first}"


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_every_command_parses(command: Command, stand_ins, capsys):
    words = [word for word in command.words if "…" not in word]
    if words != command.words:  # an abbreviated command: its program is there
        if words[0] == "python" and words[1:2] not in ([], ["-m"]):
            assert (ROOT / words[1]).is_file()
        return
    try:
        parse(words)
    except SystemExit as end:
        assert end.code == 0 and words[-1] == "--help"


def test_there_are_commands_of_every_program():
    programs = {(command.words + ["", ""])[1] for command in COMMANDS if command.words[0] == "python"}
    assert {*PROGRAMS, "-m", "tests/attacks.py"} <= programs
    assert {word for command in COMMANDS for word in command.words if word.startswith("schedules.")} >= {
        f"schedules.{tool}" for tool in TOOLS
    }


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.output and "count.py" in each.words], ids=str)
def test_the_counts_that_a_page_shows_are_those_of_the_command(command: Command, capsys):
    assert count.main(command.words[2:]) == 0
    shown, printed = (
        [line.rstrip() for line in text.strip().splitlines()] for text in (command.output, capsys.readouterr().out)
    )
    assert shown == printed


def test_the_configuration_that_a_page_shows_is_that_of_the_command(stand_ins):
    page = ROOT / "docs/configuration.md"
    (shown,) = [block.lines for block in documents.blocks(page) if "_resolved:" in block.lines]
    printed = options.training("--config pruned.yaml lr=0.05 prune.at=1".split()).document().splitlines()
    assert len(shown) > 10 and [line for line in printed if line in shown] == shown


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str):
    page = PAGES[name]
    for target in documents.links(page):
        if target.startswith(("http://", "https://")):
            continue
        path, _, heading = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name}: {target}"
        if heading:
            assert heading in anchors(there), f"{name}: {target}"


def anchors(page) -> set[str]:
    """What a page's headings are called in links, as on GitHub: lower case, without punctuation, hyphens for spaces."""
    headings = [line.lstrip("#").strip().lower() for _, line in documents.prose(page) if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def test_readme_names_every_page():
    linked = {target.partition("#")[0] for target in documents.links(ROOT / "README.md")}
    assert set(PAGES) - {"README.md"} <= linked


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("name", PAGES)
def test_lines_outside_tables_and_code_are_short(name: str):
    for number, line in documents.prose(PAGES[name]):
        assert len(line) <= 120 or line.startswith("|"), f"{name}:{number} has {len(line)} characters"


@pytest.mark.parametrize("name", PAGES)
def test_every_row_of_a_table_has_the_cells_of_its_header(name: str):
    cells = 0  # of the table that the line is in
    for number, line in enumerate(PAGES[name].read_text().splitlines(), 1):
        bare = re.sub(r"\\\||`[^`]*`", "", line.strip())  # neither escaped bars nor those of code divide cells
        found = bare.count("|") - 1 if bare.startswith("|") else 0
        assert not cells or not found or found == cells, f"{name}:{number} has {found} cells, its table {cells}"
        cells = found


def test_extending_shows_every_folder_and_program():
    drawn = "\n".join(documents.blocks(ROOT / "docs/extending.md")[0].lines)
    packages = {f"{path.parent.name}/" for path in ROOT.glob("*/__init__.py")} | {"tests/", "benchmarks/"}
    there = packages | {path.name for path in ROOT.glob("*.py")}
    assert set(re.findall(r"(?:^|  )(\w+(?:/|\.py))(?=  )", drawn, re.MULTILINE)) == there


@pytest.mark.parametrize(
    "page, block", [pytest.param(*each, id=f"{each[0].name}:{each[1].number}") for each in documents.example_files()]
)
def test_every_example_is_python_that_imports_what_is_there(page, block):
    source = "\n".join(block.lines)
    compile(source, str(page), "exec")
    ours = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] in ours:
            for name in {f"{node.module}.{each.name}" for each in node.names}:
                pkgutil.resolve_name(name)
