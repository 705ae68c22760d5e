"""Which runs are one group, with which mean and deviation, and what the printed table says of groups."""

import json
from pathlib import Path
from statistics import mean, stdev

import pytest
from run_folders import NETWORK, run, student, table, teacher, told

from schedules import collate, outcomes, rows


def test_seeds_are_one_group_with_their_mean_and_deviation(workplace, capsys):
    for seed in range(3):
        teacher(f"t{seed}")
    errors = [30.0, 33.0, 37.0]
    for seed, error in enumerate(errors):
        student(f"a{seed}", "--conv", "ACDC_4", "--seed", str(seed), errors=(50, 40, error), of=f"t{seed}")
    student("a3", "--conv", "ACDC_4", "--seed", "3", errors=(50,))
    student("slow", "--conv", "ACDC_4", "--lr", "0.01")
    student("other", "--conv", "ACDC_4", of="of.another.study")
    collate.main(["-o", "study"])
    rows, runs, _ = table()
    for name in ("a0", "a1", "a2", "a3"):
        assert (runs[name]["group"], runs[name]["seeds"]) == ("a0", 3) or name == "a3"
        assert runs[name]["mean_test_top1_error"] == (mean(errors) if name != "a3" else None)
    assert runs["a1"]["std_test_top1_error"] == stdev(errors)
    assert len({runs[name]["group"] for name in ("a0", "a3", "slow", "other", "t0")}) == 5
    assert runs["t0"]["group"] == runs["t1"]["group"] and runs["t0"]["seeds"] == 1  # all of one seed
    assert runs["t0"]["std_test_top1_error"] is runs["t0"]["std_test_top5_error"] is None
    assert runs["slow"]["std_test_top1_error"] is None
    assert "33.33 ± 3.51" in capsys.readouterr().out


@pytest.mark.parametrize("conv, family", [
    ("SepHashed_0.1", "SepHashed"), ("TensorTrain_0.8_4", "TensorTrain_x_4"), ("Tucker_0.25", "Tucker"), ("ACDC", "ACDC"),
    ("HashedDecimate", "HashedDecimate"), ("Shuffle_4", "Shuffle"),
])  # fmt: skip
def test_families(conv, family):
    assert rows.family({"conv": conv, "module": None}) == family


def test_a_module_is_a_family():
    assert rows.family({"conv": None, "module": "mine.py"}) == "module mine.py"


def test_students_of_other_weights_are_another_group(workplace, capsys):
    """Two machines trained a teacher of the same name: what it taught there is not averaged with what it taught here."""
    for folder, digest, error in (("a", "1111", 12.0), ("b", "2222", 48.0)):
        place = student(f"s{folder}", "--seed", "01"["ab".index(folder)], folder=folder, errors=(50.0, 50.0, error))
        document = json.loads((place / "config.json").read_text())
        document["config"]["teacher_digest"] = digest
        (place / "config.json").write_text(json.dumps(document))
    told(capsys, collate.main, "a", "b", "-o", "study")
    _, runs, conflicts = table()
    assert [runs[name]["mean_test_top1_error"] for name in ("sa", "sb")] == [12.0, 48.0]
    assert conflicts == ["t: runs came from 2 versions of it"]


def test_other_data_are_another_group(workplace, capsys):
    """Old runs, without a record of their data, are a group of their own."""
    data = {"data_digest": "1111", "data_train": 1500}
    for seed, facts in enumerate([data, data, {"data_digest": "2222", "data_train": 900}, {}, {}]):
        place = teacher(f"t{seed}", errors=(10.0 * (seed + 1),) * 3)
        document = json.loads((place / "config.json").read_text())
        document["config"] |= {"seed": seed} | facts
        (place / "config.json").write_text(json.dumps(document))
    told(capsys, collate.main, "-o", "study")
    rows, runs, _ = table()
    assert [runs[f"t{seed}"]["group"] for seed in range(5)] == ["t0", "t0", "t2", "t3", "t3"]
    assert runs["t0"]["mean_test_top1_error"] == 15 and runs["t4"]["mean_test_top1_error"] == 45
    assert (rows["t2"]["data_digest"], rows["t2"]["data_train"], rows["t3"]["data_digest"]) == ("2222", "900", "")


def test_teachers_of_another_study(workplace, capsys):
    """They have no row, but a note names them; their students are one group, and a figure shows their error as a line."""
    jobs = []
    for seed in range(2):
        run("digits", "teacher", "-t", f"t{seed}", "--seed", str(seed), errors=(50.0, 40.0, 20.0 + seed))
        student(f"s{seed}", "--conv", "ACDC_4", "--seed", str(seed), of=f"t{seed}", errors=(50.0, 40.0, 30.0 + seed))
        jobs.append(
            [
                "python",
                "main.py",
                *f"digits student -t t{seed} -s s{seed} --conv ACDC_4 --seed {seed}".split(),
                *NETWORK,
            ]
        )
    Path("s.json").write_text(json.dumps(jobs))
    Path("checkpoints").mkdir(), [Path(f"checkpoints/t{seed}.pt").touch() for seed in range(2)]
    _, out, _ = told(capsys, collate.main, "-o", "study", "--schedule", "s.json")
    assert "note: no job of s.json, so without a row, but teaching some: t0 (finished, 20.00 % test error), t1" in out
    rows, runs, _ = table()
    assert [*rows] == ["s0", "s1"] and {each["group"] for each in runs.values()} == {"s0"}
    (pair,) = outcomes.read("study.csv").pairs
    assert [(guide.label, guide.error) for guide in pair.guides] == [("teacher WRN-10-1", 20.5)]


def test_the_table_says_whether_a_teacher_helped(workplace, capsys):
    for seed in range(2):
        for name, error in (("far", 40.0), ("near", 30.5)):
            conv = ["--conv", f"ACDC_{'4' if name == 'far' else '6'}", "--seed", str(seed)]
            teach = student(f"{name}.s{seed}", *conv, errors=(50.0, 40.0, 30.0 + seed / 10))
            alone = run("digits", "teacher", "-t", f"{name}.{seed}", *conv, errors=(50.0, 40.0, error + seed / 10))
            for place in (teach, alone):
                document = json.loads((place / "config.json").read_text())
                document["config"] |= {"data_test": 2970}
                (place / "config.json").write_text(json.dumps(document))
    _, out, _ = told(capsys, collate.main, "-o", "study")
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert "-10.00, told apart" in lines["far.s0"] and "-0.50, not told apart" in lines["near.s0"]
    assert "told apart" not in lines["far.0"] and "taught − alone" in out
