"""What a network costs, before anyone trains it.

    python count.py cifar10 --conv Conv --wrn_width 10 --wrn_depth 28
    python count.py cifar10 --conv Shuffle_4 --table
    python count.py cifar100 --conv SepHashed_0.1 --json

As a library: `count(model, side)` of a network on the meta device gives its `Costs`, per image and in two conventions:
as published tables count, and exactly (shapes.py). A head that only training uses is not counted.
"""

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # with PYTHONSAFEPATH Python does not

import json

from cli import command, options
from system.configuration import Configuration

if __name__ == "__main__":
    command.check(options.counting)  # --help and a wrong request are answered before torch is imported

from tabulate import tabulate

from counting.costs import summary, warn_of_uncounted
from system.errors import RequestError


def table(layers: list[dict], batch: int) -> str:
    """A row per layer that has parameters or mult-adds."""
    rows = [
        [
            layer["name"], layer["kind"], "×".join(map(str, layer["input"])), "×".join(map(str, layer["output"])),
            layer["parameters"], layer["mult_adds"], layer["exact_of_batch"] / batch,
        ]
        for layer in layers
    ]  # fmt: skip
    headers = ["layer", "kind", "input", "output", "params", "mult-adds", "exact"]
    return tabulate(rows, headers, intfmt=",", floatfmt=",.0f")


def compare(config: dict, convs: list[str], batch: int) -> list[dict]:
    """The summaries of several convs; of one that the network cannot take, its name and why."""
    rows = []
    for conv in convs:
        try:
            costs = resolved_summary({**config, "conv": conv}, batch)
            rows.append({key: value for key, value in costs.items() if key != "layers"})
        except RequestError as error:
            rows.append({"conv": conv, "error": str(error)})
    return rows


def resolved_summary(config: dict, batch: int) -> dict:
    """`summary` after the budget, if there is one, has been resolved; `budget` then says what was asked and achieved."""
    from counting.budget import resolve

    config, found = resolve(config, batch)
    return {**summary(config, batch), "budget": found and found._asdict()}


def comparison(rows: list[dict]) -> str:
    """One table of several convs side by side."""
    shown = [
        [row["conv"], None, None, None, None, None, row["error"]] if "error" in row else
        [row["budget"]["setting"] if row["budget"] else row["conv"], row["params"],
         (row["budget"] or {}).get("of_given_width") or row["crs_ratio"], row["mult_adds"],
         row["mult_adds_exact"], row["stored_bytes"]]
        for row in rows
    ]  # fmt: skip
    headers = ["conv", "params", "ratio", "mult-adds, published", "exact", "stored bytes", "why not"]
    width = max(map(len, shown))
    return tabulate(shown, headers[:width], intfmt=",", floatfmt=("", "", ".6f", ",.0f", ",.0f", ",.0f", "")[:width])


def main(arguments: list[str] | None = None) -> int:
    request: Configuration = options.counting(arguments)
    if request.compare:
        rows = compare(request, request.compare, request.batch)
        if all("error" in row for row in rows):
            raise RequestError(rows[0]["error"])
        print(json.dumps(rows) if request.json else comparison(rows))
        return 0
    costs = resolved_summary(request, request.batch)
    warn_of_uncounted(costs)
    if not (request.json and request.table):
        layers = costs.pop("layers")
    if request.json:
        print(json.dumps(costs))
        return 0
    print(f"Mult-Adds: {costs['mult_adds']:.5E}")
    print(f"Params: {costs['params']:.5E}")
    print(f"Sanity check, parameters: {costs['params_sanity']:.5E}")
    print(f"Exact mult-adds: {costs['mult_adds_exact']:.5E} (per image, in batches of {costs['batch']})")
    auxiliary = f" + {costs['auxiliary_params']:,} of the auxiliary head in both" if costs["auxiliary_params"] else ""
    reference_params = f"of {costs['reference_params']:,} parameters{auxiliary}"
    print(f"Ratio to the reference network: {costs['crs_ratio']:.6f} ({reference_params})")
    print(f"Stored: {costs['stored_bytes']:,} bytes")
    if budget := costs["budget"]:
        print(
            f"Budget: {budget['asked']:,} {budget['unit']} asked, {budget['achieved']:,} achieved by {budget['setting']}"
        )
    if request.table:
        print("\n" + table(layers, request.batch))
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main, reader_may_leave=True))
