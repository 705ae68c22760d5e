"""What studies make of gated runs: columns, labels, one line by density, and a figure of mean mult-adds."""

import json
import shutil

import pytest
import study_samples as samples
import torch
from drawn import artists
from results import refused, rows_of, saved
from small_runs import TINY

import count
import main
import shrink
from gates import registry
from record.reader import Record
from schedules import outcomes, plot, rows, summary
from schedules.check import checked
from schedules.figures.curves import curves
from schedules.figures.style import drawing
from schedules.page import data
from system.errors import RequestError
from training.registry import GATES_ALONE

CONFIG = {"conv": "Conv", "mode": "teacher", "epochs": 2, "gate": "FBS_0.5"}


def test_rows(tmp_path):
    """What gates do is that of the last epoch that was tested."""
    measured = {"test_top1_error": 5.0, "gate_density": 0.51, "mult_adds_gated": 4e7}
    document = {"config": CONFIG, "counts": {"params": 1000, "mult_adds_exact": 9e7}}
    epochs = [json.dumps(each).encode() for each in ({"epoch": 0, **measured}, {"epoch": 1, "train_loss": 1.0})]
    row = rows.row(Record(tmp_path, document, epochs))
    assert {name: row[name] for name in measured} == measured and row["family"] == "Conv, FBS"
    both = rows.family(CONFIG | {"conv": "ACDC_4", "prune": "TopK_0.1", "gate": "Naive_0.25"})
    assert both == "ACDC, TopK, Naive"


def gated(name, error, spared, **flags):
    """A run with gates that spare a share of 10⁸ mult-adds."""
    usual = {"gate_weight": registry.WEIGHTS[flags["gate"].partition("_")[0]], "clip_grad": None, "train_where": None}
    if flags["gate"].startswith("FBS"):
        usual["clip_grad"] = registry.CLIP
    measured = {"gate_density": 1 - spared, "mult_adds_gated": 1e8 * (1 - spared)}
    row = samples.run("Conv", error, taught=False, name=name, group=name, **usual | flags | measured)
    return row | {"family": f"Conv, {flags['gate'].partition('_')[0]}"}


def test_densities_of_one_way_are_one_line_wherever_each_starts(tmp_path):
    """A start from a predecessor of its own density is the same start; one from gates that learned otherwise is another."""
    alone = {"train_where": GATES_ALONE, "gate_weight": 0.1, "init_from": "dense"}
    runs = [
        samples.run("Conv", 4.0, taught=False, name="dense", group="dense"),
        *(gated(f"f{d}", 5 - d, 1 - d, gate=f"FBS_{d}", init_from="dense", gate_warmup=60) for d in (0.5, 0.75)),
        *(gated(f"a{d}", 9 - d, 1 - d, gate=f"Naive_{d}", **alone) for d in (0.5, 0.75)),
        *(gated(f"n{d}", 6 - d, 1 - d, gate=f"Naive_{d}", init_from=f"a{d}") for d in (0.5, 0.75)),
        gated("b", 9, 0.5, gate="Naive_0.5", **alone | {"gate_weight": 0.3}),
        gated("c", 7, 0.5, gate="Naive_0.5", init_from="b"),
        samples.run("Conv", 3.9, taught=False, name="longer", group="longer", init_from="a_run_with_a_long_name.dense"),
        samples.run("Conv", 3.8, taught=False, name="on", group="on", init_from="dense"),
    ]
    study = outcomes.read(str(samples.write(tmp_path / "gates.csv", runs)))
    (pair,) = study.pairs
    groups = {group.first["name"]: group for group in pair.groups}
    lines = {name: group.line for name, group in groups.items()}
    assert all(lines[f"{of}0.5"] == lines[f"{of}0.75"] for of in "fan")
    assert len(set(lines.values())) == len(runs) - 3
    assert groups["dense"].label == "Conv (the start)" and groups["f0.5"].label == "FBS_0.5 (warm-up 60)"
    assert groups["on"].label == "Conv (trained on)"
    assert groups["longer"].label == "Conv (from …_with_a_long_name.dense)"
    assert groups["a0.75"].label == "Naive_0.75 (gate loss ×0.1, only gates trained)"
    assert groups["n0.75"].label == "Naive_0.75 (from gates trained first)"
    cells = {run["name"]: run for run in data(study)["runs"]}
    assert (
        cells["n0.5"]["conv"] == "Conv, Naive_0.5 (from gates trained first)" and cells["n0.5"]["gate_density"] == 0.5
    )
    assert cells["f0.5"]["mult_adds_gated"] == 0.5e8 and "mult_adds_gated" not in cells["dense"]
    assert cells["a0.5"]["conv"] == "Conv, Naive_0.5 (gate loss ×0.1, only gates trained)"
    costs = {name: group.cost["mult_adds_gated"] for name, group in groups.items()}
    assert costs["dense"] == 1e8 and costs["f0.75"] == 0.75e8
    figures = {kind: figure for _, kind, figure in plot.figures(study, "exact") if figure}
    drawn = {line.get_gid(): line for line in figures["gated"].axes[0].lines}
    assert sorted(drawn[f"point-{groups['n0.5'].number}"].get_xdata()) == [0.5e8]
    assert "front" in drawn and set(figures) == {"gated", "curves"}  # of all other costs they have one
    table = summary.table(
        [{**run, "mean_test_top1_error": run["test_top1_error"], "std_test_top1_error": None} for run in runs]
    )
    assert "50.00 %" in table and "75,000,000" in table
    check_frozen_figures(tmp_path / "frozen.csv", runs[3:5])
    assert "gated" not in {
        kind for _, kind, _ in plot.figures(outcomes.read(str(samples.write(tmp_path / "d.csv", runs[:1]))), "exact")
    }


def check_frozen_figures(path, runs):
    """Gates alone have no front; the caption and the page say what was trained. Labels fit beside curves."""
    runs = [*runs, samples.run("Conv", 4.0, taught=False, name="dense", group="dense", epochs=9)]
    study = outcomes.read(str(samples.write(path, runs, count=4)))
    frozen, _ = study.pairs
    figures = {kind: figure for pair, kind, figure in plot.figures(study, "exact") if figure and pair is frozen}
    assert set(figures) == {"gated", "curves"}
    for figure in figures.values():
        assert "only gates were trained, all else was frozen" in artists(figure, "caption")["caption"].get_text()
    assert not artists(figures["gated"], "front")
    assert data(study)["runs"][0]["conv"] == "Conv, Naive_0.5 (only gates trained)"
    frozen.groups[0].label += " (with many words that nobody would expect)"
    with drawing():
        figure = curves(frozen, study.measure)
        figure.draw_without_rendering()
        labels, (axes,) = artists(figure, "label-"), figure.axes
        assert max(label.get_window_extent().x1 for label in labels.values()) < figure.bbox.x1
    assert len(labels) == 2 and not any("alone" in label.get_text() for label in labels.values())
    for line in artists(figure, "train-").values():
        assert line.get_ydata().min() == axes.get_ylim()[0] and line.get_linestyle() == "-"


@pytest.mark.parametrize("flag, where", [("--gate_where", "layre"), ("--train_where", "layre")])
def test_a_schedule_is_checked(workplace, flag, where):
    argv = "python main.py digits teacher -t t --wrn_depth 10".split()
    gate = ["--gate", "FBS_0.5"] if flag == "--gate_where" else []
    (workplace / "study.json").write_text(json.dumps([[*argv, *gate, flag, where]]))
    with pytest.raises(RequestError, match=f"{flag} '{where}' matches none"):
        checked("study.json")
    (workplace / "study.json").write_text(json.dumps([[*argv, *gate, flag, "conv1"]]))
    assert len(checked("study.json")) == 1


def test_a_gated_run_is_counted_and_not_shrunk(teacher, workplace, capsys):
    """It starts from a network without gates, by gates alone; what it measures stands in its row."""
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    run = ["digits", "teacher", "-t", "gated", *TINY, "--train_size", "64", "--epochs", "1", "--init_from", "t"]
    assert main.main([*run, "--gate", "FBS_0.5", "--train_where", GATES_ALONE]) == 0
    (row,) = rows_of(workplace, "gated")
    assert 0.5 <= row["gate_density"] < 0.6
    said = capsys.readouterr().out
    assert "all weights but the gates' are those of t\n" in said and "gated: Conv, FBS_0.5 on " in said
    assert "of gates" not in said  # a loss of 1e-8 times something
    assert count.main(["gated", "--json"]) == 0
    costs = json.loads(capsys.readouterr().out)
    assert costs["mult_adds_gated"] <= row["mult_adds_gated"] < costs["mult_adds_exact"]
    assert "active_mult_adds" not in costs and costs["gates"] == 4
    said = refused(capsys, shrink.main, "gated", "-s", "small")[1]
    assert "the run 'gated' has gates (FBS_0.5)" in said and not (workplace / "runs/small").exists()
    frozen = ["--gate", "Naive_0.5", "--train_where", GATES_ALONE, "--l1", "0.01", "--reestimate_bn", "2"]
    assert main.main([*run[:3], "frozen", *run[4:], *frozen, "--gate_weight", "1"]) == 0
    (row,) = rows_of(workplace, "frozen")
    assert f"train loss {row['train_loss']:.4f}  of gates {row['train_loss_gate']:.4f}" in capsys.readouterr().out
    before, after = (saved(workplace, name)["model"] for name in ("t", "frozen"))
    assert all(
        torch.equal(after[name], tensor) for name, tensor in before.items()
    )  # L1 brings no frozen weight nearer to 0
    (row,) = rows_of(workplace, "frozen")
    assert row["test_reestimated_gate_loss"] != row["gate_loss"]  # a frozen batch-norm is estimated anew too
    fitted = [*run[:3], "fitted", *run[4:], "--conv", "TensorTrain_0.8", "--train_where", "bias$"]
    assert main.main(fitted) == 0  # layers are fitted as if nothing was frozen
    said = refused(capsys, main.main, *run[:3], "no", *run[4:], "--gate", "FBS_0.5", "--train_where", "layre")[1]
    assert "--train_where 'layre' matches none of the parameters" in said and not (workplace / "runs/no").exists()
    assert main.main(["digits", "teacher", "-t", "gated", "--evaluate"]) == 0
    student = ["digits", "student", "-t", "gated", "-s", "s", *TINY, "--dry_run"]
    assert main.main(student) == 0
    said = capsys.readouterr().out
    assert "with Conv, FBS_0.5\n" in said and "taught by Conv, FBS_0.5 on " in said
    said = refused(capsys, main.main, "digits", "teacher", "-t", "gated", "--evaluate", "--gate", "FBS_0.9")[1]
    assert "--gate does not go with it" in said
