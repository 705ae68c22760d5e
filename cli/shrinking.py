"""The command line of shrink.py. Imports no torch.

request = shrinking(["digits.topk", "-s", "digits.small", "--dead", "1e-4"])
request.name, request.small, request.dead
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from cli import options
from cli.command import Parser
from cli.flags import DATA, RUN
from input.datasets import PREFIX, is_own
from system.arguments import Flag, number
from system.configuration import Configuration
from system.errors import RequestError
from weights.sources import check_run_name, is_run

MACHINE = ("data_dir", "imagenet_loc", "val_labels", "workers", "device", "GPU")
FLAGS = (
    Flag("name", metavar="NAME", help="the run whose network is shrunk"),
    Flag("--small", short="-s", metavar="NEW", help="the name of the run that the small network becomes"),
    Flag(
        "--dead", number(float, 0, 1e30, above=True), metavar="EPS",
        help="filters whose largest |w| is below EPS are taken as 0 (default: only those of zeros are dead)",
    ),
    *(flag for flag in (*RUN, *DATA) if flag.dest in MACHINE),
)  # fmt: skip


@cache
def parser() -> Parser:
    """Return the parser."""
    made = Parser(
        prog="shrink.py",
        description="Make a smaller network of a run whose filters are dead: the same outputs, as a run.",
    )
    for flag in FLAGS:
        flag.add_to(made)
    return made


def shrinking(arguments: Sequence[str] | None = None) -> Configuration:
    """Return what a command line asks for. Raise RequestError where its names are wrong."""
    given = parser().parse_args(arguments)
    if not is_run(given.name):
        raise RequestError(f"{given.name!r} is no name of a run: shrink.py takes runs of swapconv")
    check_run_name(given.name, "NAME")
    if given.small is None:
        raise RequestError("shrink.py needs -s/--small, the name of the run that the small network becomes")
    check_run_name(given.small, "-s")
    if given.small.lower() == given.name.lower():
        raise RequestError(f"NAME and -s are both {given.small!r}: the small network needs a name of its own")
    if given.device == "cpu" and given.GPU is not None:
        raise RequestError(f"--GPU {','.join(map(str, given.GPU))} contradicts --device cpu")
    return Configuration(vars(given))


def testing(request: Configuration, config: Mapping[str, Any]) -> Configuration:
    """Return the request of main.py that would test the run of a configuration on this machine."""
    dataset = f"{PREFIX}{config['data_folder']}" if is_own(config["dataset"]) else config["dataset"]
    given = [dataset, "teacher", "-t", request.name, "--evaluate", "--network", config["network"]]
    given += ["--batch_size", str(config["batch_size"]), "--precision", config.get("precision") or "fp32"]
    machine = {key: config.get(key) if request[key] is None else request[key] for key in MACHINE}
    return options.training(given) | machine
