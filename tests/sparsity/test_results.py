"""What studies make of pruned runs: families, columns, a figure of their own, and a check before anything starts."""

import json

import pytest
import study_samples as samples

from record.reader import Record
from schedules import outcomes, plot, rows
from schedules.check import checked
from system.errors import RequestError

CONFIG = {"conv": "Conv", "mode": "teacher", "epochs": 1, "prune": "TopK_0.05"}


def test_rows(tmp_path):
    left = {"active_fraction": 0.05, "active_parameters": 70, "sparse_bytes": 900}
    document = {"config": CONFIG, "counts": {"params": 1000}}
    row = rows.row(Record(tmp_path, document, [json.dumps({"epoch": 0, **left, "active_fraction/a": 0.1}).encode()]))
    assert {name: row[name] for name in left} == left and row["family"] == "Conv, TopK"
    assert rows.family(CONFIG | {"prune": None}) == "Conv"
    assert rows.family(CONFIG | {"conv": "TensorTrain_0.5_4", "prune": "Gradual_0.1"}) == "TensorTrain_x_4, Gradual"


def test_a_figure_of_what_is_active(tmp_path, capsys):
    """Goals of one method are on one line; without pruned runs there is no such figure."""
    dense = samples.run("Conv", 4.0, taught=False)
    pruned = [
        samples.run("Conv", error, taught=False, prune=f"TopK_{share}", group=f"top {share}", active_parameters=25_000)
        | {"family": "Conv, TopK"}
        for share, error in ((0.05, 5.0), (0.1, 4.5))
    ]
    for name, runs, kinds in (("dense", [dense], set()), ("pruned", [dense, *pruned], {"active"})):
        path = samples.write(tmp_path / f"{name}.csv", runs, count=2)
        study = outcomes.read(str(path))
        drawn = {kind for _, kind, figure in plot.figures(study, "exact") if figure}
        assert drawn == {"params", "mult_adds", "curves"} | kinds
    groups = {group.label: group for group in study.pairs[0].groups}
    (one, other) = (group for group in groups.values() if group.family == "Conv, TopK")
    assert one.line == other.line != groups["Conv"].line and {"TopK_0.05", "TopK_0.1"} == {one.suffix, other.suffix}
    assert groups["Conv"].cost["active_parameters"] == dense["params"]
    assert plot.main([str(path), "--html", str(tmp_path / "page.html")]) == 0
    assert "parameters that are not 0" in (tmp_path / "page.html").read_text()


def test_a_schedule_is_checked(workplace):
    argv = "python main.py digits teacher -t t --wrn_depth 10 --prune TopK_0.1 --prune_where".split()
    (workplace / "study.json").write_text(json.dumps([[*argv, "layre"]]))
    with pytest.raises(RequestError, match="--prune_where 'layre' matches none"):
        checked("study.json")
    (workplace / "study.json").write_text(json.dumps([[*argv, "groups"]]))
    assert len(checked("study.json")) == 1
