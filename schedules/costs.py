"""Count what every family costs over its range of settings, to choose the settings of a study before any training.

    python -m schedules.costs cifar10 --wrn_depth 28 --wrn_width 10
    python -m schedules.costs cifar10 --network DARTS --out figures --csv costs.csv

It prints a table of parameters and mult-adds and draws two figures (PNG and SVG): parameters against the setting, and
mult-adds against parameters, with the network itself and its narrower versions. Everything is counted on the meta
device. Only the replaced layers are counted again, so a setting takes milliseconds.
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

from cli import command, flags, options
from layers.registry import FAMILIES, Fraction, OpenName, Whole
from models.registry import reference_conv, width_flag
from system import arguments as system_arguments
from system import files as system_files
from system.configuration import Configuration
from system.errors import RequestError

SHARES = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 0.7, 1.0)
LENGTHS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
COUNTS = (1, 2, 4, 8, 16, 32, 64)  # of groups, blocks or terms
DIMENSIONS = (3, 4)  # of tensor forms
NARROWER = (0.8, 0.6, 0.45, 0.33, 0.25, 0.18, 0.125, 0.09, 0.0625)  # times the width that was asked for
CONTROL = "narrower"
REFUSED = ("conv", "module", "budget", "budget_mult_adds")  # flags that choose one conv


class Cost(NamedTuple):
    """The costs of the whole network: parameters, mult-adds per image, exact and by the published convention."""

    params: int
    mult_adds_exact: float
    mult_adds: int | None


HEADER = ("family", "conv", "number", *Cost._fields)


class Row(NamedTuple):
    """One setting of one family. Its number is None where the family takes none; for the control it is a width."""

    family: str
    conv: str
    number: float | None
    cost: Cost


def parse(arguments: Sequence[str] | None = None) -> Configuration:
    """Return the resolved configuration of the network, with `out` and `csv`.

    Raise RequestError for flags that choose one conv.
    """
    parser = command.Parser(prog="python -m schedules.costs", description="What every family costs over its settings.")
    flags.add_network_flags(parser)
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for action in parser._actions:
        if action.dest in REFUSED:  # not in --help, but refused with a reason
            action.help = argparse.SUPPRESS
    for each in (parser, own):
        output = each.add_argument_group("output")
        output.add_argument(
            "--out", type=system_arguments.filename, default=".", metavar="FOLDER", help="where figures go"
        )
        output.add_argument("--csv", type=system_arguments.filename, metavar="FILE", help="the table as CSV too")
    given = parser.parse_args(arguments)
    for flag in REFUSED:
        if getattr(given, flag) is not None:
            raise RequestError(f"--{flag} chooses one conv: schedules.costs counts all families")
    ours, rest = own.parse_known_args(arguments)
    return options.counting(rest) | {"out": ours.out, "csv": ours.csv}


def pricing(config: dict, batch: int = 128) -> Callable[[object], Cost]:
    """Return a function from a parsed conv to the costs of the network with it.

    It counts equal layers once. It raises ValueError where a layer cannot take the conv. Exact mult-adds are counted
    for a batch of `batch` images and divided by it.
    """
    import torch

    from blocks import build_block
    from counting.costs import partition
    from counting.measure import total

    of = partition(config, batch)
    kinds = of.kinds
    fixed = [sum(each.parameters for each in of.staying), sum(each.exact_of_batch for each in of.staying)]
    published = total(each.mult_adds for each in of.staying)

    def price(conv) -> Cost:
        sums, known = list(fixed), 0
        for (spec, calls), times in kinds.items():
            with torch.device("meta"):
                block = build_block(conv, spec)
            sums[0] += times * block.parameter_count()
            for sides in calls:
                sums[1] += times * block.exact_mult_adds(*sides, batch)
                known += times * block.mult_adds(*sides)
        return Cost(sums[0], sums[1] / batch, None if published is None else published + known)

    return price


def names(family: str) -> Iterator[OpenName]:
    """Yield the names of a family without a number: one, or for tensor forms one for each number of dimensions."""
    numbers = FAMILIES[family].numbers
    first = numbers[0] if numbers else None
    for later in [(each,) for each in DIMENSIONS] if numbers[1:] else [()]:
        yield OpenName(family, first, later)


def settings(number: Fraction | Whole | None) -> Sequence[float | None]:
    """Return the settings that are counted for a kind of number."""
    match number:
        case None:
            return (None,)
        case Whole(of_channels=True):
            return COUNTS
        case Whole():
            return LENGTHS
    return SHARES


def table(config: dict, batch: int = 128) -> list[Row]:
    """Return a row for each setting that the network can take, the network's narrower versions last."""
    from layers.registry import ConvName

    price, rows = pricing(config, batch), []
    for family in (
        name for name, about in FAMILIES.items() if not about.variational
    ):  # training decides what those cost
        for name in names(family):
            for value in settings(name.number):
                conv = name.named(value) if value is not None else ConvName(family)
                try:
                    rows.append(Row(str(name), str(conv), value, price(conv)))
                except ValueError:  # a share that some layer cannot meet
                    continue
    return rows + control(config, batch)


def left_out(rows: list[Row]) -> dict[str, list[str]]:
    """Return, by family, the settings without a row, which some layer cannot take."""
    there = {(row.family, row.number) for row in rows}
    found = {
        str(name): [str(name.named(value)) for value in settings(name.number) if (str(name), value) not in there]
        for family in FAMILIES
        for name in names(family)
        if name.number is not None
    }
    return {family: convs for family, convs in found.items() if convs}


def control(config: dict, batch: int) -> list[Row]:
    """Return rows of the network with its own convolutions at smaller widths; none where it has no width."""
    from counting.costs import count
    from input.datasets import side_of
    from models.build import build

    flag, conv, rows = width_flag(config["network"]), reference_conv(config["network"]), []
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
    """Return the row of the network with no layer replaced."""
    return next(row for row in rows if row.conv == reference_conv(config["network"]))


def shown(rows: list[Row], reference: Row) -> str:
    """Return the table as text, a paragraph for each family and a line for neighbours of equal cost, with notes."""
    from tabulate import tabulate

    lines: list[list] = []
    for _, of_family in groupby(rows, key=lambda row: row.family):
        lines += [[""] * 5] if lines else []
        for cost, alike in groupby(of_family, key=lambda row: row.cost):
            convs = [row.conv for row in alike]
            name = convs[0] if len(convs) == 1 else f"{convs[0]} … {convs[-1]}"
            lines.append([name, cost.params, cost.params / reference.cost.params, cost.mult_adds_exact, cost.mult_adds])
    headers = ["conv", "params", "ratio", "mult-adds, exact", "published"]
    text = tabulate(lines, headers, intfmt=",", floatfmt=("", ",.0f", ".4f", ",.0f", ",.0f"), missingval="–")
    own = f"{reference.conv} ({reference.cost.params:,})"
    text += f"\n\nratio: parameters of the whole network, relative to those with {own}"
    if missing := left_out(rows):
        listed = "; ".join(", ".join(convs) for convs in missing.values())
        text += f"\nleft out, since some layer of this network cannot take them: {listed}"
    return "\n".join(line.rstrip() for line in text.splitlines())


def as_csv(rows: list[Row]) -> str:
    """Return the rows as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows([row.family, row.conv, row.number, *row.cost] for row in rows)
    return stream.getvalue()


def is_table(contents: bytes) -> bool:
    """Return whether a file is a table of this command, which may be replaced."""
    return contents.splitlines()[:1] == [",".join(HEADER).encode()]


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    request = parse(arguments)
    if request.csv:
        system_files.keep("--csv", request.csv, "earlier table of schedules.costs", is_table)
    rows = table(request, request.batch)
    reference = reference_cost(request, rows)
    print(shown(rows, reference))
    from schedules.comparable import network_name
    from schedules.figures.output import make_folders, rendered, write
    from schedules.figures.ranges import plane, ranges

    where = f"{request.dataset}, {network_name(request)}"
    figures = {"settings": ranges(rows, reference, where), "plane": plane(rows, reference, where)}
    files = {(kind, format): rendered(figure, format) for kind, figure in figures.items() for format in ("png", "svg")}
    folder = Path(request.out)
    make_folders({"--out": folder} | ({"--csv": Path(request.csv).parent} if request.csv else {}))
    dataset = re.sub(r"[^\w.+-]+", "_", request.dataset)  # a folder may be called anything
    name = f"costs.{dataset}.{network_name(request).replace(' ×', '-').replace(':', '_')}"
    print()
    for (kind, format), contents in files.items():
        write(folder / f"{name}.{kind}.{format}", contents)
    if request.csv:
        write(Path(request.csv), as_csv(rows).encode())
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main, reader_may_leave=True))
