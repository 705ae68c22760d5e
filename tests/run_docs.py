"""Run the commands of README.md and docs/*.md that work on digits or only count, in the order of the pages.

    python tests/run_docs.py

Run are, of the fenced blocks, count.py and main.py on digits and every tool of schedules that reads what these have made,
in one folder that is thrown away. Training is cut to 320 images, and to one epoch where a command does not say how many, to two
where it says more and no moment that could lie behind them. The first command that fails ends it. main.py, count.py, shrink.py and export.py are forked from this process, which has imported them: most commands
then import no torch. Example files that a page shows are written into the folder if they belong to no folder of the tree.
"""

import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "helpers"), str(Path(__file__).parents[1])]

import documents
from documents import ROOT

FEW = ["--train_size", "320"]
SHORT = ["--epochs", "1", *FEW]
MOST = 2  # epochs
MOMENTS = {
    "--until", "--epoch_step", "--lr_points", "--restart_epochs", "--prune_at", "--prune_until", "--kl_warmup", "--test_every",
}  # fmt: skip
PROGRAMS = ("main", "count", "shrink", "export")
OF_RUNS = ("remove", "rename", "pack")  # tools that are shown on runs on digits alone
# What the commands on digits make, for others to read, and what a page shows.
MADE = {"results.csv", "sparse.csv", "gated.csv", "ranks.csv", "decay.csv", "spot.json"}


def argv_of(words: list[str]) -> list[str] | None:
    """The process of a page's command, with its training cut short; None where it is not to be run."""
    if words[0] == "python" and len(words) == 2 and words[1] in documents.scripts():
        return [sys.executable, *words[1:]]
    if words[0] != "python" or len(words) < 3:
        return None
    program, arguments = (words[2], words[3:]) if words[1] == "-m" else (words[1], words[2:])
    if program == "count.py" or (program in ("shrink.py", "export.py") and arguments[0].startswith("digits.")):
        return [sys.executable, str(ROOT / program), *arguments]
    if program == "main.py" and "--config" in arguments:  # files of the pages, which say the epochs
        return [sys.executable, str(ROOT / program), *arguments, *FEW]
    if program == "main.py" and arguments[0] == "digits":
        return [sys.executable, str(ROOT / program), *arguments, *cut(arguments)]
    if program.startswith("schedules."):
        digits = [each for each in arguments if Path(each).with_suffix("").name.endswith("digits")]
        if program.endswith("generate") and digits and "--epochs" not in arguments:
            arguments = [*arguments, *([] if "--" in arguments else ["--"]), *SHORT]
        elif program.endswith("hyperband"):  # its file is one of the page's, and says how long it takes
            pass
        elif arguments and not digits and not MADE & {*arguments} and program.partition(".")[2] not in OF_RUNS:
            return None
        return [sys.executable, "-m", program, *arguments]
    return None


def cut(arguments: list[str]) -> list[str]:
    """The flags that cut a command of main.py short; none where it only tests."""
    if "--evaluate" in arguments:
        return []
    if "--epochs" not in arguments:
        return SHORT
    epochs = int(arguments[arguments.index("--epochs") + 1])
    return [*FEW, *(["--epochs", str(MOST)] if epochs > MOST and not MOMENTS & {*arguments} else [])]


def run(argv: list[str], folder: str, environment: dict[str, str]) -> int:
    """Run a command in a folder and return its exit status."""
    program = Path(argv[1]).stem
    if program not in PROGRAMS:
        return subprocess.run(argv, cwd=folder, env=environment).returncode
    process = multiprocessing.get_context("fork").Process(target=_forked, args=(program, argv[1:], folder))
    process.start()
    process.join()
    return process.exitcode


def _forked(program: str, argv: list[str], folder: str) -> None:
    from cli import command

    os.chdir(folder)
    sys.argv = argv
    sys.exit(command.run(sys.modules[program].main))


def main() -> int:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    number = 0
    for program in PROGRAMS:
        importlib.import_module(program)
    with tempfile.TemporaryDirectory() as folder:
        for page in documents.pages():
            for block in documents.blocks(page):
                if block.language in ("python", "yaml", "json") and block.file and "/" not in block.file:
                    Path(folder, block.file).write_text("\n".join([*block.lines, ""]))
            for command in documents.commands(page):
                argv = argv_of(command.words) if command.fenced else None
                if argv is None:
                    continue
                number += 1
                print(f"\n$ {command}", flush=True)
                status = run(argv, folder, environment)
                if status:
                    print(f"error: {command} ended with {status}", file=sys.stderr)
                    return status if status > 0 else 1
    print(f"\n{number} commands of {len(documents.pages())} pages ran")
    return 0


if __name__ == "__main__":
    sys.exit(main())
