"""What every family costs over its range of settings, before anything is trained: to choose a study's settings by.

    python -m schedules.costs cifar10 --wrn_depth 28 --wrn_width 10
    python -m schedules.costs cifar10 --network DARTS --out figures --csv costs.csv

Prints a table of parameters and mult-adds and draws two figures (PNG and SVG): parameters against the setting, and the
plane of parameters and mult-adds with the network itself and its narrower versions. Everything is counted on the meta
device; as only swapped layers change, a setting takes milliseconds.
"""

import sys
from pathlib import Path

if not __package__:  # started as a file: its imports lie in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from cli import arguments as cli_arguments
from cli import command, flags, options
from layers.registry import FAMILIES, Fraction, OpenName, Whole
from models.presets import PRESETS, WIDTHS
from system import files as system_files
from system.configuration import Configuration
from system.errors import RequestError

SHARES = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 0.7, 1.0)
LENGTHS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
GROUPS = (1, 2, 4, 8, 16, 32, 64)
DIMENSIONS = (3, 4)  # of tensor forms
NARROWER = (0.8, 0.6, 0.45, 0.33, 0.25, 0.18, 0.125, 0.09, 0.0625)  # times the width that was asked for
CONTROL = "narrower"
REFUSED = ("conv", "module", "budget", "budget_mult_adds")  # flags that choose one conv


class Cost(NamedTuple):
    """Of the whole network, per image: parameters, mult-adds exactly and as published."""

    params: int
    mult_adds_exact: float
    mult_adds: int


HEADER = ("family", "conv", "number", *Cost._fields)


class Row(NamedTuple):
    """One setting of one family; its number is None where the family takes none, and a width for the control."""

    family: str
    conv: str
    number: float | None
    cost: Cost


def parse(arguments: Sequence[str] | None = None) -> Configuration:
    """The resolved request, with `out` and `csv`."""
    parser = command.Parser(prog="python -m schedules.costs", description="What every family costs over its settings.")
    flags.add_network_flags(parser)
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for action in parser._actions:
        if action.dest in REFUSED:  # it is known, to be refused with a reason, and not offered
            action.help = argparse.SUPPRESS
    for each in (parser, own):
        output = each.add_argument_group("output")
        output.add_argument(
            "--out", type=cli_arguments.filename, default=".", metavar="FOLDER", help="where figures go"
        )
        output.add_argument("--csv", type=cli_arguments.filename, metavar="FILE", help="the table as CSV too")
    given = parser.parse_args(arguments)
    for flag in REFUSED:
        if getattr(given, flag) is not None:
            raise RequestError(f"--{flag} chooses one conv: schedules.costs counts all families")
    ours, rest = own.parse_known_args(arguments)
    return options.counting(rest) | {"out": ours.out, "csv": ours.csv}


def pricing(config: dict, batch: int = 128) -> Callable[[object], Cost]:
    """The costs of the network as a function of a parsed conv: only the swapped layers change, and alike ones once.

    The function raises ValueError where a layer cannot take the conv.
    """
    import torch

    from blocks import build_block
    from counting.costs import parts

    of = parts(config, batch)
    fixed = [
        sum(costs) for costs in zip(*((each.parameters, each.exact_of_batch, each.mult_adds) for each in of.staying))
    ]

    def price(conv) -> Cost:
        total = list(fixed)
        for (spec, side), times in of.swapped.items():
            with torch.device("meta"):
                block = build_block(conv, spec)
            costs = (block.parameter_count(), block.exact_mult_adds(*side, batch), block.mult_adds(*side))
            for place, cost in enumerate(costs):
                total[place] += times * cost
        return Cost(total[0], total[1] / batch, total[2])

    return price


def names(family: str) -> Iterator[OpenName]:
    """A family as it may be asked for: of tensor forms, each number of dimensions."""
    numbers = FAMILIES[family].numbers
    first = numbers[0] if numbers else None
    for later in [(each,) for each in DIMENSIONS] if numbers[1:] else [()]:
        yield OpenName(family, first, later)


def settings(number: Fraction | Whole | None) -> Sequence[float | None]:
    match number:
        case None:
            return (None,)
        case Whole(symbol="g"):
            return GROUPS
        case Whole():
            return LENGTHS
    return SHARES


def table(config: dict, batch: int = 128) -> list[Row]:
    """A row for each setting that the network can take, the reference's narrower versions last."""
    from layers.registry import ConvName

    price, rows = pricing(config, batch), []
    for family in FAMILIES:
        for name in names(family):
            for value in settings(name.number):
                conv = name.named(value) if value is not None else ConvName(family)
                try:
                    rows.append(Row(str(name), str(conv), value, price(conv)))
                except ValueError:  # a share that some layer cannot meet
                    continue
    return rows + control(config, batch)


def left_out(rows: list[Row]) -> dict[str, list[str]]:
    """By family, the settings that have no row since some layer cannot take them."""
    there = {(row.family, row.number) for row in rows}
    found = {
        str(name): [str(name.named(value)) for value in settings(name.number) if (str(name), value) not in there]
        for family in FAMILIES
        for name in names(family)
        if name.number is not None
    }
    return {family: convs for family, convs in found.items() if convs}


def control(config: dict, batch: int) -> list[Row]:
    """The network with its own convolutions at smaller widths than it was asked for, where it has a width."""
    from counting.costs import count
    from input.datasets import side_of
    from models.build import build

    flag, conv, rows = WIDTHS.get(config["network"]), PRESETS[config["network"]]["conv"], []
    for share in NARROWER if flag else ():
        width = float(f"{config[flag] * share:.3g}")
        try:
            costs = count(build({**config, "conv": conv, flag: width}), side_of(config), batch)
        except RequestError:  # no channels are left
            continue
        cost = Cost(costs.params, costs.mult_adds_exact, costs.mult_adds)
        rows.append(Row(CONTROL, f"{conv} --{flag} {width:g}", width, cost))
    return rows


def reference_cost(config: dict, rows: list[Row]) -> Row:
    """The row of the network with nothing swapped."""
    return next(row for row in rows if row.conv == PRESETS[config["network"]]["conv"])


def shown(rows: list[Row], reference: Row) -> str:
    """The table, a paragraph a family, with neighbours of the same cost in one line, and what is to be said of it."""
    from tabulate import tabulate

    lines: list[list] = []
    for _, of_family in groupby(rows, key=lambda row: row.family):
        lines += [[""] * 5] if lines else []
        for cost, alike in groupby(of_family, key=lambda row: row.cost):
            convs = [row.conv for row in alike]
            name = convs[0] if len(convs) == 1 else f"{convs[0]} … {convs[-1]}"
            lines.append([name, cost.params, cost.params / reference.cost.params, cost.mult_adds_exact, cost.mult_adds])
    headers = ["conv", "params", "ratio", "mult-adds, exact", "published"]
    text = tabulate(lines, headers, intfmt=",", floatfmt=("", ",.0f", ".4f", ",.0f", ",.0f"))
    text += f"\n\nratio: parameters of the whole network, relative to those with {reference.conv} ({reference.cost.params:,})"
    if missing := left_out(rows):
        told = "; ".join(", ".join(convs) for convs in missing.values())
        text += f"\nleft out, since some layer of this network cannot take them: {told}"
    return "\n".join(line.rstrip() for line in text.splitlines())


def as_csv(rows: list[Row]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows([row.family, row.conv, row.number, *row.cost] for row in rows)
    return stream.getvalue()


def is_table(contents: bytes) -> bool:
    """Whether a file is a table that was written here, and may be written anew."""
    return contents.splitlines()[:1] == [",".join(HEADER).encode()]


def main(arguments: list[str] | None = None) -> int:
    request = parse(arguments)
    if request.csv:
        system_files.keep("--csv", request.csv, "earlier table of schedules.costs", is_table)
    config = request
    rows = table(config, request.batch)
    reference = reference_cost(config, rows)
    print(shown(rows, reference))
    from schedules.figures.output import make_folders, rendered, write
    from schedules.figures.ranges import plane, ranges
    from schedules.outcomes import network_name

    where = f"{request.dataset}, {network_name(config)}"
    figures = {"settings": ranges(rows, reference, where), "plane": plane(rows, reference, where)}
    files = {(kind, format): rendered(figure, format) for kind, figure in figures.items() for format in ("png", "svg")}
    folder = Path(request.out)
    make_folders({"--out": folder} | ({"--csv": Path(request.csv).parent} if request.csv else {}))
    dataset = re.sub(r"[^\w.+-]+", "_", request.dataset)  # a folder may be called anything
    name = f"costs.{dataset}.{network_name(config).replace(' ×', '-')}"
    print()
    for (kind, format), contents in files.items():
        write(folder / f"{name}.{kind}.{format}", contents)
    if request.csv:
        write(Path(request.csv), as_csv(rows).encode())
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main, reader_may_leave=True))
