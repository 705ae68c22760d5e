"""What studies make of pruned runs: families, columns, a figure of their own, and a check before anything starts."""

import json

import pytest
import study_samples as samples

from record.reader import Record
from schedules import outcomes, plot, rows
from schedules.check import checked
from schedules.figures.tradeoff import tradeoff
from sparsity import registry
from system.errors import RequestError

CONFIG = {"conv": "Conv", "mode": "teacher", "epochs": 1, "prune": "TopK_0.05"}


def test_rows(tmp_path):
    left = {"active_fraction": 0.05, "active_parameters": 70, "active_mult_adds": 9_000.5, "sparse_bytes": 900}
    document = {"config": CONFIG, "counts": {"params": 1000}}
    row = rows.row(Record(tmp_path, document, [json.dumps({"epoch": 0, **left, "active_fraction/a": 0.1}).encode()]))
    assert {name: row[name] for name in left} == left and row["family"] == "Conv, TopK"
    assert rows.family(CONFIG | {"prune": None}) == "Conv"
    assert rows.family(CONFIG | {"conv": "TensorTrain_0.5_4", "prune": "Gradual_0.1"}) == "TensorTrain_x_4, Gradual"


def sparse(error, family="Conv", decay=5e-4, **flags):
    """A run that TopK, or what else the flags say, leaves a part of."""
    name = " ".join(map(str, (family, *flags.values(), decay)))
    left = {
        "active_parameters": 25_000,
        "active_fraction": 0.05 * error,
        "active_mult_adds": 1e6,
        "weight_decay": decay,
    }
    row = samples.run(family, error, taught=False, group=name, name=name, **{"prune_at": 66, "l1": None} | flags | left)
    return row | {"family": ", ".join([family, *registry.ways(row)])}


def test_figures_of_what_is_active(tmp_path):
    """Goals of one method are on one line, and thresholds at several decays; without pruned runs there are no such figures."""
    dense = samples.run("Conv", 4.0, taught=False)
    runs = [
        sparse(5.0, prune="TopK_0.05"), sparse(4.5, prune="TopK_0.1"), sparse(6.0, prune="TopK_0.1", prune_at=0),
        sparse(4.8, prune="Gradual_0.1", prune_until=133), sparse(7.0, "ACDC", prune="TopK_0.1"),
        *(sparse(7.0 + decay, prune="Magnitude_0.02", decay=decay) for decay in (5e-4, 5e-3)),
        *(sparse(9.0, l1=1e-5, prune_at=None, decay=decay) for decay in (5e-4, 0.0)),
    ]  # fmt: skip
    of_sparse = {"active", "share", "active_mult_adds", "traces"}
    for name, given, kinds in (("dense", [dense], set()), ("pruned", [dense, *runs], of_sparse)):
        path = samples.write(tmp_path / f"{name}.csv", given, count=2)
        study = outcomes.read(str(path))
        figures = {kind: figure for _, kind, figure in plot.figures(study, "exact") if figure}
        assert set(figures) == {"params", "mult_adds", "curves"} | kinds
    groups = {group.label: group for group in study.pairs[0].groups}
    assert list(groups) == [
        "Conv", "TopK_0.05", "TopK_0.1", "TopK_0.1 (pruned at 0)", "Gradual_0.1", "ACDC, TopK_0.1", "Magnitude_0.02",
        "Magnitude_0.02 (decay 0.005)", "L1 1e-05", "L1 1e-05 (decay 0)",
    ]  # fmt: skip
    lines = {label: group.line for label, group in groups.items()}
    assert lines["TopK_0.05"] == lines["TopK_0.1"] and lines["Magnitude_0.02"] == lines["Magnitude_0.02 (decay 0.005)"]
    assert len(set(lines.values())) == len(lines) - 2
    assert groups["Conv"].cost["active_parameters"] == dense["params"] and groups["Conv"].cost["active_fraction"] == 1
    assert groups["Conv"].cost["active_mult_adds"] == dense["mult_adds_exact"]
    assert groups["TopK_0.1"].cost["active_mult_adds"] == 1e6
    del groups["TopK_0.05"].first["active_mult_adds"]  # as in a run of before they were recorded
    assert tradeoff(study.pairs[0], "active_mult_adds", study.measure) is None
    marks = {line.get_gid() for axes in figures["traces"].axes for line in axes.lines}
    assert {"pruned-66", "pruned-0", "pruned-133", "trace-1"} <= marks and "trace-0" not in marks
    assert plot.main([str(path), "--html", str(tmp_path / "page.html")]) == 0
    assert "How sparse the networks became" in (tmp_path / "page.html").read_text()


def test_a_schedule_is_checked(workplace):
    argv = "python main.py digits teacher -t t --wrn_depth 10 --prune TopK_0.1 --prune_where".split()
    (workplace / "study.json").write_text(json.dumps([[*argv, "layre"]]))
    with pytest.raises(RequestError, match="--prune_where 'layre' matches none"):
        checked("study.json")
    (workplace / "study.json").write_text(json.dumps([[*argv, "groups"]]))
    assert len(checked("study.json")) == 1
