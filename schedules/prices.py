"""Compare spot prices: the mean of the last seven of each zone and instance type, cheapest for each GPU first.

    aws ec2 describe-spot-price-history --instance-types g5.xlarge g6.xlarge --output json > spot.json
    python -m schedules.prices spot.json
    python -m schedules.prices spot.json other.json --product Linux/UNIX --gpus x9.large=2 --json
    python -m schedules.prices spot.json --study wrn_28_10.json --machines 4 --speed 1.5

With --study it measures what is left of a study, as the dry run of schedules.run does, lays its jobs out on the GPUs of
--machines of each offer, and says how long that takes there and what it costs. The hours are those of this machine: --speed says how many times as
fast a GPU there is. It reads files alone and asks no network.
"""

import sys
from pathlib import Path

if not __package__:  # started as a file: its imports lie in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import json
from argparse import ArgumentTypeError
from collections.abc import Sequence
from typing import NamedTuple

from tabulate import tabulate

from cli import command
from cli.command import Parser
from schedules import layout
from schedules.layout import Piece
from schedules.spot_prices import GPUS, LAST, MODELS, Offer, offers, read
from system import arguments as system_arguments
from system.arguments import number
from system.configuration import Configuration
from system.durations import duration
from system.errors import RequestError, did_you_mean

OF_STUDY = ("machines", "speed", "slots")


class Needs(NamedTuple):
    """What is left of a study, measured here: its jobs by name, with their hours.

    unit: `GPU` or `slot`; device: where it was measured.
    """

    pieces: dict[str, Piece]
    unit: str
    device: str

    @property
    def hours(self) -> float:
        """The hours of one GPU that all jobs take."""
        return sum(piece.hours * piece.gpus for piece in self.pieces.values())

    @property
    def chain(self) -> float:
        """The hours of the longest chain of jobs, each of which waits for the one before."""
        ends: dict[str, float] = {}
        for name, piece in self.pieces.items():
            ends[name] = piece.hours + max((ends.get(need, 0.0) for need in piece.needs), default=0.0)
        return max(ends.values())

    @property
    def gpus(self) -> int:
        """The GPUs of the job that asks for most."""
        return max(piece.gpus for piece in self.pieces.values())


def gpus_of(text: str) -> tuple[str, int]:
    """Take TYPE=N, an instance type with the number of its GPUs."""
    kind, equals, count = text.partition("=")
    if not kind or not equals:
        raise ArgumentTypeError(f"{text!r} is not TYPE=N, such as g5.xlarge=1")
    return kind, number(int, 1, 1000)(count)


def options(arguments: Sequence[str] | None = None) -> Configuration:
    """Return the request; `gpus` are all that are known, by instance type. Raise RequestError where flags do not go together."""
    parser = Parser(prog="python -m schedules.prices", description="Spot prices for each GPU, and what a study costs.")
    parser.add_argument(
        "files", nargs="+", type=system_arguments.filename, metavar="FILE", help="histories of spot prices, in JSON"
    )
    parser.add_argument("--product", metavar="NAME", help="only offers of this ProductDescription, such as Linux/UNIX")
    parser.add_argument(
        "--gpus", type=gpus_of, action="append", default=[], metavar="TYPE=N", help="GPUs of an instance type"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    study = parser.add_argument_group("what a study costs")
    study.add_argument(
        "--study", type=system_arguments.filename, metavar="STUDY.json", help="measure what is left of it"
    )
    study.add_argument("--machines", type=number(int, 1, 100_000), metavar="N", help="instances (default: 1)")
    study.add_argument(
        "--speed", type=number(float, 0, 1e6, above=True), metavar="TIMES",
        help="how many times as fast a GPU there is as one slot here (default: 1)",
    )  # fmt: skip
    study.add_argument(
        "--slots", type=number(int, 1, 1000), metavar="N", help="slots to measure for (default: as schedules.run)"
    )
    given = parser.parse_args(arguments)
    for flag in OF_STUDY if given.study is None else ():
        if getattr(given, flag) is not None:
            raise RequestError(f"--{flag} {getattr(given, flag):g} goes with --study")
    defaults = {"gpus": GPUS | dict(given.gpus), "machines": given.machines or 1, "speed": given.speed or 1.0}
    return Configuration(vars(given) | defaults)


def chosen(request: Configuration) -> list[Offer]:
    """Return the offers that are asked for. Raise RequestError where there is none of the product."""
    prices = read(request.files)
    if request.product is not None:
        products = sorted({each.product for each in prices})
        prices = [each for each in prices if each.product == request.product]
        if not prices:
            known = ", ".join(map(repr, products))
            hint = did_you_mean(request.product, products)
            raise RequestError(f"--product {request.product!r}: there is no price of it{hint} (known: {known})")
    return offers(prices, request.gpus)


def needs_of(request: Configuration) -> Needs:
    """Measure what is left of the study. Raise RequestError where nothing is, or a job cannot be run."""
    from schedules.check import checked
    from schedules.estimate import left, measure

    jobs = checked(request.study)
    measured = measure(jobs, request)
    if not measured:
        raise RequestError(f"--study {request.study}: all {len(jobs)} runs are finished, nothing is left to pay for")
    if faulty := next((each for each in measured if each.fault), None):
        raise RequestError(f"--study {request.study}: {faulty.jobs[0].job.name} cannot be run: {faulty.fault}")
    device = measured[0].said["device"]
    return Needs(left(measured), "slot" if device == "cpu" else "GPU", device)


def document(found: Sequence[Offer], needs: Needs | None, request: Configuration) -> dict:
    """Return all that is known as JSON takes it: offers, and of a study its hours and what it takes on each."""
    rows, kinds = [], {offer.gpus for offer in found if offer.gpus} if needs else ()
    taken = {gpus: layout.hours(needs.pieces, request.machines, gpus) for gpus in kinds}
    for offer in found:
        row = {
            "zone": offer.zone, "type": offer.kind, "product": offer.product, "price": offer.price, "gpus": offer.gpus,
            "gpu": MODELS.get(offer.kind), "price_per_gpu": offer.per_gpu, "prices": offer.prices,
            "latest": offer.latest.isoformat(),
        }  # fmt: skip
        if needs:
            hours = taken.get(offer.gpus)
            hours = None if hours is None else hours / request.speed
            cost = None if hours is None else hours * request.machines * offer.price
            row |= {"study_hours": hours, "study_cost": cost}
        rows.append(row)
    if needs is None:
        return {"offers": rows}
    rows.sort(key=lambda row: (row["study_cost"] is None, row["study_cost"] or 0, row["study_hours"] or 0))
    keys = ("hours", "chain", "gpus", "unit", "device")
    study = {"file": request.study, "machines": request.machines, "speed": request.speed}
    study |= {key: getattr(needs, key) for key in keys}
    return {"offers": rows, "study": study}


def table(told: dict) -> str:
    """Return the offers as a table, with lines below on what is not known and on what the hours are based."""
    rows, study = told["offers"], told.get("study")
    names = {"zone": "zone", "type": "type", "product": "product", "gpu": "GPU", "gpus": "GPUs", "price": "per hour",
             "price_per_gpu": "per GPU", "prices": "prices"}  # fmt: skip
    names |= {"study_cost": "the study costs", "study_hours": "and takes"} if study else {}
    shown = [{key: _cell(key, row[key]) for key in names} for row in rows]
    aligned = ["left"] * 4 + ["right"] * (len(names) - 4)
    lines = [tabulate([[*row.values()] for row in shown], [*names.values()], disable_numparse=True, colalign=aligned)]
    lines.append(f"means of the last {LAST} prices of each zone and type, or of as many as there are")
    if unknown := sorted({row["type"] for row in rows if row["gpus"] is None}):
        lines.append(f"no number of GPUs is known of {', '.join(unknown)}: --gpus {unknown[0]}=N says it")
    if study:
        few = sorted({row["type"] for row in rows if row["gpus"] is not None and row["study_hours"] is None})
        lines += [f"a job of the study asks for {study['gpus']} GPUs, more than {', '.join(few)} has"] if few else []
        lines += _basis(study)
    return "\n".join(lines)


def _basis(study: dict) -> list[str]:
    """Return on what the hours and costs of a study are based."""
    what = f"{study['hours']:.3g} {study['unit']}-hours are left of {study['file']}, measured here on {study['device']}"
    speed = f"a GPU there is taken to be {study['speed']:g} times as fast as one {study['unit']} here (--speed)"
    machines = f"{study['machines']} instance{'s' * (study['machines'] > 1)}"
    least = f"its longest chain of jobs takes {duration(3600 * study['chain'] / study['speed'])} however many there are"
    return [
        f"{what}; {speed}",
        f"costs are of {machines}, paid whole from the first job to the end of the last, without interruptions; {least}",
    ]


def _cell(key: str, value: object) -> str:
    if value is None or value == "":
        return "–"
    if key in ("price", "price_per_gpu"):
        return f"{value:.4f}"
    if key == "study_cost":
        return f"{value:,.2f}" if value >= 1 else f"{value:.2g}"
    return duration(3600 * value) if key == "study_hours" else str(value)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    request = options(arguments)
    found = chosen(request)
    told = document(found, needs_of(request) if request.study else None, request)
    print(json.dumps(told) if request.json else table(told))
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main, reader_may_leave=True))
