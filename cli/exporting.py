"""The command line of export.py. Imports no torch.

request = exporting(["wrn.teacher", "--to", "onnx", "--dense"])
request.name, request.to, request.output     # output: Path("wrn.teacher.onnx")
"""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from cli.command import Parser
from exporting.registry import FORMATS, LEAST_OPSET
from system.arguments import Flag, choice, number
from system.configuration import Configuration
from system.errors import RequestError
from weights.sources import check_source, file_and_key, is_file, is_published

LONGEST_NAME = 255  # bytes, of a file on common file systems
FLAGS = (
    Flag(
        "name", metavar="NAME",
        help="a run, the path of its checkpoint, a file that export.py wrote, torchvision:NAME[:WEIGHTS] or timm:NAME",
    ),
    Flag(
        "--to", choice("format", tuple(FORMATS)), metavar="FORMAT",
        help="onnx; torch, a program of torch.export (.pt2); or safetensors, the weights with their configuration, which -t and "
        "--init_from of main.py take",
    ),
    Flag("--output", short="-o", metavar="FILE", help="the file; it must not exist (default: NAME with the format's ending, here)"),
    Flag("--dense", action="store_true", default=False, help="every block as the dense kernel that it equals"),
    Flag(
        "--with_preprocessing", action="store_true", default=False,
        help="normalise within the graph: it takes pixels from 0 to 1, as floats (B, 3, side, side)",
    ),
    Flag("--opset", number(int, LEAST_OPSET, 99), metavar="N", help=f"version of ONNX's operators (default: {LEAST_OPSET})"),
)  # fmt: skip


@cache
def parser() -> Parser:
    """Return the parser."""
    made = Parser(
        prog="export.py", description="Write a trained network as a file for other programs, and check the file."
    )
    for flag in FLAGS:
        flag.add_to(made)
    return made


def exporting(arguments: Sequence[str] | None = None) -> Configuration:
    """Return what a command line asks for. Raise RequestError where its words are wrong or its file cannot be written."""
    given = parser().parse_args(arguments)
    if given.to is None:
        raise RequestError(f"export.py needs --to FORMAT, one of {', '.join(FORMATS)}")
    check_source(given.name, "NAME")
    form = FORMATS[given.to]
    if given.opset is not None and given.to != "onnx":
        raise RequestError(f"--opset is of --to onnx alone, this is --to {given.to}")
    if given.with_preprocessing and not form.is_graph:
        why = "weights do not normalise; the file says mean and deviation all the same, and `load` in Python uses them"
        raise RequestError(f"--with_preprocessing: --to {given.to} holds no graph, and {why}")
    default = default_name(given.name) + form.suffix
    given.output = target(default if given.output is None else given.output, given.to)
    return Configuration(vars(given))


def default_name(name: str) -> str:
    """Return what the file of a network is called, without its ending, in the current folder.

    >>> default_name("a.b"), default_name("w/wrn.safetensors"), default_name("torchvision:resnet18:IMAGENET1K_V2")
    ('a.b', 'wrn', 'torchvision.resnet18.IMAGENET1K_V2')
    """
    if is_published(name):
        return name.replace(":", ".")
    return Path(file_and_key(name)[0]).stem if is_file(name) else name


def target(file: str, to: str) -> Path:
    """Return the path of the file to write. Raise RequestError where it exists, or has another ending, or no folder."""
    suffix, path = FORMATS[to].suffix, Path(file)
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise RequestError(f"-o {file[:40]!r}…: a name has at most {LONGEST_NAME} bytes")
    if "\0" in file or not path.name.lower().endswith(suffix) or path.name == suffix:
        raise RequestError(f"-o {file!r}: a file of --to {to} ends in {suffix}")
    try:
        if os.path.lexists(path):
            raise RequestError(f"{path} exists, and is left as it is: choose another -o, or delete it")
        if not path.parent.is_dir():
            raise RequestError(f"-o {file!r}: there is no folder {path.parent}")
    except OSError as error:
        raise RequestError(f"-o {file!r} cannot be written: {error.strerror}")
    if not os.access(path.parent, os.W_OK):
        raise RequestError(f"-o {file!r}: nothing can be written into {path.parent}")
    return path
