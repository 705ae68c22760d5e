"""How a benchmark shows its rows: as a table, and as JSON with what they depend on.

show(rows, "layers.json", repeats=7)
"""

import json
from pathlib import Path

import torch
from tabulate import tabulate

from layers.cosine_costs import processor


def show(rows: list[dict], file: str | None, floatfmt: str = ".3f", **about) -> None:
    """Print rows, and write them to a file where one is given, with the version of torch, the threads and the processor."""
    print(tabulate(rows, headers="keys", floatfmt=floatfmt))
    if file:
        machine = {"torch": torch.__version__, "threads": torch.get_num_threads(), "processor": processor()}
        Path(file).write_text(json.dumps({**machine, **about, "rows": rows}, indent=1) + "\n")
