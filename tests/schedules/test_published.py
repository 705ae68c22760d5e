"""Which runs have the setting of a published error: the command lines that train them, and near misses."""

import csv

import pytest
from small_runs import ROOT

from cli import options
from schedules.published import facts, match, shown_range

WRN, DARTS = "--wrn_depth 28 --wrn_width 10", "--network DARTS"
TAUGHT, ALONE = "cifar10 student -t {t} -s run --alpha 0. --beta 1e3", "cifar10 teacher -t run"
TEACHERS = {WRN: f"cifar10 teacher -t {{t}} {WRN}", DARTS: f"cifar10 teacher -t {{t}} {DARTS}"}
# Of each published row: the command line that trains it, its parameters as published, in millions, and its error.
OF_WRN = [
    ("", 36.48, None, "3.3 to 4.2"),
    ("--conv SepHashedFull_0.1", 3.91, "3.84", "5.95"),
    ("--conv ACDC", 0.556, "4.99", None),
    ("--conv SepHashedDecimate", 0.710, "5.04", None),
    ("--conv Shuffle_4", 0.824, "4.76", None),
    ("--conv Shuffle_8", 0.564, "5.98", None),
    ("--conv Shuffle_16", 0.437, "7.7", None),
    ("--conv Shuffle_32", 0.378, "10.02", None),
    ("--conv TensorTrain_0.26 --nocrswd", 0.664, "8.05", "10.18"),
    ("--conv TensorTrain_0.8_4 --nocrswd", 0.671, "5.22", "10.96"),
    ("--conv Tucker_0.25 --nocrswd --structured_lr 1", 0.681, "5.06", "16.58"),
    ("--conv Tucker_0.4_4 --nocrswd --structured_lr 1", 0.686, "9.29", "16.13"),
    ("--conv Hashed_0.01 --structured_lr 1", 0.654, None, "29.81"),
    ("--conv PermutedACDC --augment crop", 0.556, "5.35", None),
    ("--conv ACDC --augment crop", 0.556, "5.23", None),
]
OF_DARTS = [("", 3.35, None, "2.86"), ("--conv SepHashedDecimate", 0.428, "4.64", None)]
RELIABLE = (
    "--batch_size 128 --epochs 180 --lr 0.1 --schedule step --epoch_step [60,120] --lr_decay_ratio 0.1 --val_size 10000"
)
DECAYS = {"5e-3": "27.2", "1e-3": "8.5", "5e-4": "7.6", "5e-5": "7.5"}
GOALS = {
    "CifarResNet50": (23.52, "6.5 7 9.5 38"), "VGG16": (14.73, "7.5 8.7 10 90"), "MobileNetV1": (3.217, "11 12.7 90 90"),
}  # fmt: skip
LINES = [
    (f"{mode} {network} {conv}", params, error)
    for network, rows in ((WRN, OF_WRN), (DARTS, OF_DARTS))
    for conv, params, taught, alone in rows
    for mode, error in ((TAUGHT, taught), (ALONE, alone))
    if error
]
LINES += [(f"{ALONE} --network ResNet9 --precision bf16", 6.573, "5.9")]
LINES += [
    (f"{ALONE} --network CifarResNet50 {RELIABLE} --prune Magnitude_0.02 --weight_decay {decay}", 23.52, error)
    for decay, error in DECAYS.items()
]
LINES += [
    (f"{ALONE} --network {network} {RELIABLE} --prune TopK_{goal}", params, error)
    for network, (params, errors) in GOALS.items()
    for goal, error in zip((0.05, 0.01, 0.005, 0.001), errors.split())
]


def counts() -> dict:
    """The exact parameters of the networks, from the reference tables."""
    found = {}
    for name in ("counts", "networks"):
        for row in csv.DictReader((ROOT / f"tests/{name}.csv").read_text().splitlines()):
            if (
                row["dataset"] == "cifar10"
                and row.get("width_mult") in (None, "", "1")
                and row.get("depth") in (None, "", "28")
            ):
                found[row["network"], row.get("conv") or "Conv"] = int(row["params"])
    found["WideResNet", "PermutedACDC"] = found["WideResNet", "ACDC"]  # which differs in the order of channels alone
    return found | {("ResNet9", "Conv"): 6_573_120}


COUNTS = counts()


def of(line: str, **changed):
    """The row of a run: what its command line is resolved to, with the parameters of its network and the whole dataset."""
    config = dict(options.training(line.format(t="the.teacher").split()))
    params = COUNTS.get((config["network"], config["conv"]))
    return config | {"params": params, "data_train": 50_000, "data_test": 10_000} | changed


def teacher_of(line: str):
    return of(TEACHERS[DARTS if DARTS in line else WRN])


def test_every_published_row_is_matched_by_the_command_that_trains_it():
    matched = []
    for line, params, error in LINES:
        run = of(line)
        assert run["params"] == pytest.approx(params * 1e6, rel=1e-3), line
        found = match(run, teacher_of(line))
        assert found is not None and found.params == run["params"], line
        ends = {f"published_{end}_test_top1_error": getattr(found, f"{end}_error") for end in ("min", "max")}
        assert shown_range(ends) == error, line
        assert (
            match(run | {"params": None, "data_train": None, "data_test": None}, teacher_of(line)) == found
        )  # planned
        matched.append(found)
    assert matched and sorted(matched) == sorted(facts())


STUDENT, TENSOR = f"{TAUGHT} {WRN} --conv ACDC", f"{TAUGHT} {WRN} --conv Tucker_0.25 --structured_lr 1"
NEAR_MISSES = [
    f"{STUDENT} --epochs 100", f"{STUDENT} --train_size 25000", f"{STUDENT} --val_size 5000", f"{STUDENT} --nocrswd",
    f"{STUDENT} --crs_factor 2", f"{STUDENT} --beta 100", f"{STUDENT} --alpha 0.5", f"{STUDENT} --wrn_width 9",
    f"{STUDENT} --wrn_depth 40", f"{STUDENT} --lr 0.05", f"{STUDENT} --weight_decay 1e-4", f"{STUDENT} --cutout 8",
    f"{STUDENT} --where groups.2", f"{STUDENT} --AT_split 2", f"{STUDENT} --prune TopK_0.5", f"{STUDENT} --init_from x",
    STUDENT.replace("cifar10", "cifar100"), f"{ALONE} {WRN} --conv ACDC", f"{STUDENT}_15", TENSOR, f"{TAUGHT} {WRN} --conv Tucker_0.25 --nocrswd",
    f"{TAUGHT} {WRN} --conv Hashed_0.01 --structured_lr 1", f"{ALONE} {WRN} --conv Hashed_0.01",
    f"{ALONE} {WRN} --epochs 100", f"{ALONE} {DARTS} --epochs 200",
    f"{ALONE} --network ResNet9 --epochs 12", f"{ALONE} --network VGG16 --prune TopK_0.01", f"{ALONE} {WRN} --conv Sep",
]  # fmt: skip


@pytest.mark.parametrize("line", NEAR_MISSES)
def test_a_near_miss_is_not_the_published_setting(line):
    assert match(of(line), teacher_of(line)) is None


def test_what_a_command_line_does_not_say_counts_too():
    """Other parameters, half of the dataset on disk, another teacher or none that is known; not how a Conv's decay is scaled."""
    dense, student = TEACHERS[WRN], of(STUDENT)
    assert match(student, of(dense))
    assert not match(student | {"params": 555_497}, of(dense)) and not match(
        student | {"data_train": 25_000}, of(dense)
    )
    for other in (None, of(f"{dense} --epochs 100"), of(f"{dense} --conv Hashed_0.01"), of(TEACHERS[DARTS]), student):
        assert match(student, other) is None
    assert match(of(f"{dense} --nocrswd")) == match(of(dense)) and shown_range({}) == ""
