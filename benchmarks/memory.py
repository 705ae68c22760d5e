"""What the ImageNet networks cost with every family: counts, and the memory that a training step takes.

    python benchmarks/memory.py [WRN_50_2] [MobileNetV2]

Memory is the sum of all tensors that are alive at the same time, at its peak in the second of two steps, as torch's
MemTracker sees them (workspaces inside of operators aside), at 224×224 in fp32. Two batch sizes give what is fixed (weights,
gradients, momentum, rebuilt matrices) and what each image adds; `recomputed` is that with --checkpoint_activations. The
last lines measure a student with its teacher against the same student alone (baseline), by batches of 4.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from tabulate import tabulate
from torch.distributed._tools.mem_tracker import MemTracker

from cli import options
from counting.costs import output_shapes, summary
from distill import Distill, Supervised
from input.batches import Batch
from layers.init import materialise
from models.build import build
from training.device import to_device
from training.optim import sgd
from training.recompute import recompute
from training.step import TrainStep

NETWORKS = ["WRN_50_2", "MobileNetV2"]
CONVS = (
    "Conv Sep Generic_0.1 LR_0.1 Hashed_0.1 HashedDecimate SepHashed_0.1 SepHashedFull_0.1 SepHashedDecimate ACDC "
    "OriginalACDC PermutedACDC TensorTrain_0.5 Tucker_0.5 CP_0.5 Shuffle_4 "
    "Butterfly Monarch_4 BTT_2 Kronecker_4"
).split()
BATCHES = 1, 3


def peak(config: dict, batch: int, recomputes: bool = False, teacher: dict | None = None) -> int:
    """Bytes."""
    cpu = torch.device("cpu")
    network = to_device(materialise(build(config), 0), cpu)
    if recomputes:
        recompute(network)
    criterion, modules = Supervised(), [network]
    if teacher is not None:
        criterion = Distill(to_device(materialise(build(teacher), 1), cpu), alpha=0.0, beta=1000.0, temperature=4.0)
        modules.append(criterion.teacher.requires_grad_(True))  # MemTracker hooks all gradients; there will be none
    optimizer = sgd(network, [], 0.01, 0.9, 1e-4, 1.0)
    side = config["image_size"]
    x = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)
    whole = Batch(x, torch.zeros(batch, dtype=torch.long), batch, batch)
    with torch.no_grad():
        network.eval()(x[:1])  # hashes and permutations are found once
    network.train()
    step = TrainStep(network, criterion, optimizer)
    for _ in range(2):
        tracked = MemTracker()
        tracked.track_external(*modules, *(each for state in optimizer.state.values() for each in state.values()))
        with tracked:
            step(whole)
    return tracked.get_tracker_snapshot("peak")[cpu]["Total"]


def row(config: dict) -> list:
    costs = summary(config)
    small, large = (peak(config, batch) for batch in BATCHES)
    spared_small, spared = (peak(config, batch, recomputes=True) for batch in BATCHES)
    images = BATCHES[1] - BATCHES[0]
    each = (large - small) / images
    return [
        config["conv"], costs["params"], costs["crs_ratio"], f"{costs['mult_adds']:.4E}", f"{costs['mult_adds_exact']:.4E}",
        costs["stored_bytes"] / 1e6, (small - BATCHES[0] * each) / 1e6, each / 1e6, (spared - spared_small) / images / 1e6,
    ]  # fmt: skip


def student_and_teacher(network: str, batch: int = 4) -> str:
    configs = {
        conv: options.counting(["imagenet", "--network", network, "--conv", conv]) for conv in ("Conv", "SepHashed_0.1")
    }
    alone, taught = (peak(configs["SepHashed_0.1"], batch, teacher=each) for each in (None, configs["Conv"]))
    teacher = build(configs["Conv"])
    weights = sum(tensor.nbytes for tensor in teacher.state_dict().values())
    taps = sum(4 * batch * tap[0].numel() for tap in output_shapes(teacher, configs["Conv"]["image_size"]).taps)
    return (
        f"{network}: student alone {alone / 1e6:,.1f} MB, with its teacher {taught / 1e6:,.1f} MB: {(taught - alone) / 1e6:,.1f} more; "
        f"the teacher's weights are {weights / 1e6:,.1f} MB, one batch of taps {taps / 1e6:,.1f} MB"
    )  # fmt: skip


def main(networks: list[str]) -> None:
    torch.set_num_threads(1)
    headers = ["conv", "params", "ratio", "mult-adds", "exact", "stored MB", "fixed MB", "MB an image", "recomputed"]
    for network in networks:
        rows = [row(options.counting(["imagenet", "--network", network, "--conv", conv])) for conv in CONVS]
        print(
            f"\n{network}\n"
            + tabulate(
                rows,
                headers,
                disable_numparse=[3, 4],
                intfmt=",",
                floatfmt=("", "", ".5f", "", "", ",.1f", ",.1f", ",.1f", ",.1f"),
            ),
            flush=True,
        )
    for network in networks:
        print(student_and_teacher(network), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or NETWORKS)
