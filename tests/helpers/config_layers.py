"""Configuration files in a test's folder, and what a command line with them resolves to."""

import shlex
from pathlib import Path

from cli import options

BASE = "dataset: digits\nmode: teacher\nteacher_checkpoint: x\n"


def write(**files: str) -> None:
    for name, text in {"base": BASE, **files}.items():
        Path(name.replace("__", "/") + ".yaml").parent.mkdir(parents=True, exist_ok=True)
        Path(name.replace("__", "/") + ".yaml").write_text(text)


def resolved(words: str) -> options.Request:
    return options.training(shlex.split(words))


def origins(request) -> dict[str, str]:
    """The origin of each value, as the document says it."""
    lines = [line.strip().partition("  # ") for line in request.document().splitlines() if "  # " in line]
    return {line.partition(":")[0]: origin for line, _, origin in lines}
