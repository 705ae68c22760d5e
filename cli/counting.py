"""The command line of count.py: of a network, or of a run. Imports no torch.

counting_parser().parse_args(["cifar10", "--prune", "TopK_0.05"])
run_counting_parser().parse_args(["digits.topk", "--table"])
"""

from argparse import ArgumentTypeError
from functools import cache

from cli import layers
from cli.command import Parser
from cli.flags import add_group, add_network_flags, dataset, state
from gates.registry import GATE, GATE_WHERE
from layers.mixed import several
from record.paths import CHECKPOINTS
from sparsity.registry import PRUNE, PRUNE_WHERE
from system.arguments import Flag, batch_sizes, number
from system.errors import did_you_mean

COUNTING = (
    Flag(
        "--batch", number(int, 1, 10**6), default=128,
        help="images that share a rebuilt matrix, in the exact count",
    ),
    Flag("--table", action="store_true", help="a row per layer too"),
    Flag("--compare", several, metavar="A,B,C", help="one table of these convs side by side; A;B;C where one is mixed"),
    Flag(
        "--latency", batch_sizes, metavar="[1,128]",
        help="measure inference on this machine too, as built and dense, by batch sizes (alone: [1,128])",
    ),
    Flag("--json", action="store_true", help="everything as one JSON object"),
)  # fmt: skip


def counting_parser() -> Parser:
    """Return the parser of count.py, as `training_parser`."""
    return _counting_parser(state())


@cache
def run_counting_parser() -> Parser:
    """Return the parser of count.py for the network of a run."""
    parser = Parser(prog="count.py", description="What the network of a run costs, as its checkpoint has it.")
    Flag("run", metavar="NAME", help="a run with a checkpoint here").add_to(parser)
    for flag in COUNTING:
        if flag.dest != "compare":
            flag.add_to(parser)
    return parser


@cache
def _counting_parser(of: tuple) -> Parser:
    what = "What a network costs: parameters, mult-adds per image, bytes. In place of DATASET and flags: the NAME of a run."
    parser = Parser(prog="count.py", description=what)
    add_network_flags(parser, _dataset_or_run)
    layers.add_flags(parser)
    add_group(parser, "output", COUNTING)
    add_group(parser, "sparsity", (PRUNE, PRUNE_WHERE), "what is left when so many of the weights are pruned")
    add_group(parser, "gating", (GATE, GATE_WHERE), "what an image costs when so many of the channels are closed")
    return parser


def _dataset_or_run(text: str) -> str:
    """Take a dataset's name; a run's has been looked for before."""
    try:
        return dataset(text)
    except ArgumentTypeError as error:
        hint = did_you_mean(text, (path.stem for path in CHECKPOINTS.glob("*.pt")))
        raise ArgumentTypeError(f"{error}; nor is there a run of that name{hint}")
