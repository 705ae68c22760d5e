"""What --structured_lr auto makes of short trainings, of every family whose maps multiply several factors.

    python benchmarks/structured_lr.py --data_dir data [--convs Tucker_0.5,ACDC] [--seeds 3] [--jobs 8] [--json FILE]

A WRN-16-1 on CIFAR-10: --train_size images (0: all), --epochs at the full rate of --lr, cosine. Test errors in %: the mean over seeds and
their standard deviation, `plain` at the rate of all, `auto` divided by the degree; `re-estimated` with batch-norm's
statistics taken anew from 40 batches. `gain`: the mean of plain − auto over seeds, and how many seeds gain.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean, stdev

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.table import show

CONVS = (
    "Generic_0.1,LR_0.1,ACDC,OriginalACDC,PermutedACDC,TensorTrain_0.5,Tucker_0.5,CP_0.5,Shuffle_4,SepHashedDecimate,Butterfly,"
    "Monarch_4,BTT_2,Kronecker_2"
)
KINDS = {"plain": "test_top1_error", "re-estimated": "test_reestimated_top1_error"}


def train(conv: str, factor: str, seed: int, given: argparse.Namespace) -> dict[str, float]:
    """Return the last row of a run's metrics."""
    flags = [
        "--wrn_depth", "16", "--wrn_width", "1", "--conv", conv, "--structured_lr", factor, "--seed", str(seed), "--schedule", "cosine",
        "--epochs", str(given.epochs), "--test_every", str(given.epochs), "--reestimate_bn", "40", "--lr", str(given.lr),
        "--data_dir", os.path.abspath(given.data_dir), *(["--train_size", str(given.train_size)] if given.train_size else []),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, ROOT / "main.py", "cifar10", "teacher", "-t", "t", *flags]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode == 3:  # it diverged
            return dict.fromkeys(KINDS.values(), 90.0)
        assert done.returncode == 0, done.stderr
        return json.loads((Path(folder) / "runs/t/metrics.jsonl").read_text().splitlines()[-1])


def summary(conv: str, found: dict[str, list[dict]]) -> dict:
    """Return a family's row of the table."""
    row = {"conv": conv}
    for name, rows in found.items():
        for kind, key in KINDS.items():
            errors = [each[key] for each in rows]
            spread = f" ± {stdev(errors):.1f}" if len(errors) > 1 else ""
            row[f"{'auto' if name == 'auto' else 'plain'}{', re-estimated' * (kind != 'plain')}"] = (
                f"{fmean(errors):.1f}{spread}"
            )
    gains = [before[KINDS["plain"]] - now[KINDS["plain"]] for before, now in zip(found["1"], found["auto"])]
    return row | {"gain": round(fmean(gains), 2), "seeds that gain": f"{sum(gain > 0 for gain in gains)}/{len(gains)}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--convs", default=CONVS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--train_size", type=int, default=6000)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    convs, rows = given.convs.split(","), []
    with ThreadPoolExecutor(given.jobs) as pool:
        runs = {
            conv: {
                factor: [pool.submit(train, conv, factor, seed, given) for seed in range(given.seeds)]
                for factor in ("1", "auto")
            }
            for conv in convs
        }
        for conv, of in runs.items():
            rows.append(
                summary(conv, {factor: [each.result() for each in each_seed] for factor, each_seed in of.items()})
            )
            print(rows[-1], flush=True)
    show(rows, given.json, train_size=given.train_size, epochs=given.epochs, lr=given.lr, seeds=given.seeds)


if __name__ == "__main__":
    main()
