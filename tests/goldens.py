"""What a checkout computes and says, to compare it with another one: a change of structure must leave all of it as it was.

    git worktree add /tmp/before b24a869
    python tests/goldens.py /tmp/before before.json && python tests/goldens.py . after.json && cmp before.json after.json

Recorded are final weights (a digest) and metric rows of 24 short runs on digits, with every family of convolutions, a taught
student, DARTS with drop-path, held-out images and two processes; the costs of all rows of counts.csv; every --help; the exit
status of some 200 wrong requests. It takes about 8 minutes on 2 cores.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

CONVS = (
    "Conv Sep Generic_0.1 LR_0.1 Hashed_0.1 HashedDecimate SepHashed_0.1 SepHashedFull_0.1 SepHashedDecimate ACDC_4 OriginalACDC_4 "
    "PermutedACDC_4 TensorTrain_0.5 Tucker_0.5_2 CP_0.5 Shuffle_2"
).split()
NETWORK = "--wrn_depth 10 --wrn_width 1 --train_size 192 --epochs 2"
TEACHER = f"digits teacher -t Conv {NETWORK}"
STUDENT = f"digits student -t Conv {NETWORK} --conv SepHashed_0.1"
RUNS = {
    **{conv: f"digits teacher -t {conv} {NETWORK} --conv {conv}" for conv in CONVS},
    "taught": f"{STUDENT} -s taught --alpha 0.3 --temperature 3",
    "fitted": f"{STUDENT} -s fitted --init_from Conv --beta 0",
    "darts": "digits teacher -t darts --network DARTS --conv SepHashed_0.1 --train_size 16 --epochs 2 --batch_size 8 --drop_path_prob 0.5",
    "held.out": f"{TEACHER.replace('-t Conv', '-t held.out')} --val_size 100 --conv Generic_0.2",
    "accumulated": f"{TEACHER.replace('-t Conv', '-t accumulated')} --grad_accum 3",
    "recomputed": f"{TEACHER.replace('-t Conv', '-t recomputed')} --checkpoint_activations --clip_grad 1 --schedule step --epoch_step [1] --lr_decay_ratio 0.1",
    "budget": f"{TEACHER.replace('-t Conv', '-t budget')} --conv ACDC --budget 20000 --nocrswd",
    "two": f"{STUDENT} -s two --sync_bn",
}
HELP = (
    "main.py count.py schedules/generate.py schedules/run.py schedules/collate.py schedules/plot.py schedules/list.py schedules/costs.py"
).split()
TIMES = ("seconds", "images_per_second")


def runs(root: Path, folder: Path) -> dict:
    """Of each run its metric rows without times, and a digest of its weights."""
    found = {}
    for name, command in RUNS.items():
        start = [sys.executable]
        if name == "two":
            start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "DATA_DIR": ""}
        done = subprocess.run(
            [*start, root / "main.py", *command.split()], cwd=folder, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{name} ended with {done.returncode}: {done.stderr[-2000:]}")
        rows = [json.loads(line) for line in (folder / "runs" / name / "metrics.jsonl").read_text().splitlines()]
        state = torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)["model"]
        sha256 = hashlib.sha256()
        for key, tensor in state.items():
            sha256.update(key.encode())
            sha256.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
        rows = [{key: value for key, value in row.items() if key not in TIMES} for row in rows]
        found[name] = {"rows": rows, "weights": sha256.hexdigest()}
        print(name, rows[-1]["train_loss"], sha256.hexdigest()[:12], file=sys.stderr, flush=True)
    return found


def said(main, *arguments: str) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        main([*arguments])
    return output.getvalue()


def counts(root: Path) -> dict:
    """What count.py prints for every row of counts.csv, and for all rows of a network by --compare."""
    import count

    found: dict[str, str] = {}
    networks: dict[str, list[str]] = {}
    for row in csv.DictReader((root / "tests/counts.csv").read_text().splitlines()):
        flags = [f"--wrn_{name}={row[name]}" for name in ("depth", "width") if row[name]]
        network = [row["dataset"], "--network", row["network"], *flags]
        found[" ".join([*network, row["conv"]])] = said(
            count.main, *network, "--conv", row["conv"], "--json", "--table"
        )
        networks.setdefault(" ".join(network), []).append(row["conv"])
    for network, convs in networks.items():
        found[f"{network} --compare"] = said(count.main, *network.split(), "--compare", ",".join(convs))
    return found


def refusals(root: Path, folder: Path) -> list:
    """The exit status of every wrong request of test_bad_input, in a folder without its files."""
    import cli_command

    import count
    import main

    listed = next((root / "tests").rglob("test_bad_input.py")).read_text()
    values: dict = {}
    exec(
        "\n".join(listed.split("\nT = ")[1].join(["T = ", ""]).split("\nCONV = ")[0].replace("*TINY", "").splitlines()),
        values,
    )
    os.chdir(folder)
    found = []
    for program, requests in ((main, values["REQUESTS"]), (count, values["COUNTS"])):
        for text, _ in requests:
            arguments = text.split() if isinstance(text, str) else text
            if program is main and not " ".join(arguments).startswith(
                ("digits teacher -t x ", "cifar10 teacher -t x ")
            ):
                continue  # its files are not here
            error = io.TextIOWrapper(io.BytesIO())
            with contextlib.redirect_stderr(error), contextlib.redirect_stdout(error):
                status = cli_command.run(partial(program.main, arguments))
            found.append([arguments[:30], status])
    return found


def main() -> None:
    root, output = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    sys.path.insert(0, str(root))
    command = root / "cli" / "command.py"
    import importlib

    sys.modules["cli_command"] = importlib.import_module("cli.command" if command.exists() else "cli")
    folder = Path(tempfile.mkdtemp())
    refused = refusals(root, folder)
    helps = {
        each: subprocess.run([sys.executable, root / each, "--help"], cwd=folder, capture_output=True, text=True).stdout
        for each in HELP
    }
    found = {"help": helps, "runs": runs(root, folder), "counts": counts(root), "refusals": refused}
    output.write_text(json.dumps(found, indent=1))
    print(
        f"{output}: {len(found['runs'])} runs, {len(found['counts'])} counts, {len(found['refusals'])} refusals; runs in {folder}"
    )


if __name__ == "__main__":
    main()
