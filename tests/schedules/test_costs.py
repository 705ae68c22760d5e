"""What families cost over their settings, against the counting of whole networks."""

import csv
import itertools
import xml.etree.ElementTree as ElementTree

import pytest
from families import STEADY

from cli import command
from counting import costs as counting_costs
from layers.registry import parse_conv
from schedules import costs
from schedules.figures.ranges import plane, ranges

SMALL = ["--wrn_depth", "10", "--wrn_width", "1"]


@pytest.mark.parametrize(
    "arguments, convs",
    [
        (["cifar10", *SMALL], ["Conv", "Sep", "ACDC", "TensorTrain_0.5_4", "Shuffle_4", "SepHashedDecimate", "LR_0.1"]),
        (["cifar10", *SMALL, "--where", "groups.1"], ["Hashed_0.1"]),
        (["cifar10", "--network", "DARTS"], ["Sep", "Generic_0.1"]),
        (["imagenet", "--network", "MobileNetV2"], ["SepHashed_0.2"]),
    ],
    ids=["WideResNet", "where", "DARTS", "MobileNetV2"],
)
def test_costs_are_those_of_the_whole_network(arguments, convs):
    config = costs.parse(arguments)
    price = costs.pricing(config)
    for conv in convs:
        whole = counting_costs.summary({**config, "conv": conv})
        assert price(parse_conv(conv)) == (whole["params"], whole["mult_adds_exact"], whole["mult_adds"])


def test_table_files_and_figures(tmp_path, capsys):
    assert costs.main(["digits", *SMALL, "--out", str(tmp_path / "out"), "--csv", str(tmp_path / "c.csv")]) == 0
    said = capsys.readouterr().out
    with (tmp_path / "c.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["family"].partition("_x_")[0] for row in rows} == {*STEADY, costs.CONTROL}
    assert "TensorTrain_x_4" in {row["family"] for row in rows} and rows[0]["conv"] == "Conv"
    assert len({row["conv"] for row in rows}) == len({tuple(row.values()) for row in rows})
    for _, alike in itertools.groupby(rows, lambda row: tuple(row.values())[3:]):  # of these, the ends are shown
        convs = [row["conv"] for row in alike]
        assert convs[0] in said and (convs[-1] in said or len(convs) > 1)
    assert "\n\nACDC" in said and "relative to those with Conv (" in said
    assert "cannot take them: SepHashedFull_" in said
    for row in rows:
        assert int(row["params"]) > 0 and float(row["mult_adds_exact"]) > 0
    names = {f"costs.digits.WRN-10-1.{kind}.{end}" for kind in ("settings", "plane") for end in ("png", "svg")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names and all(name in said for name in names)
    ElementTree.parse(tmp_path / "out" / "costs.digits.WRN-10-1.plane.svg")


def test_a_table_replaces_nothing_but_a_table(tmp_path, capsys):
    for name, contents in (("study.csv", b"name,state\na,finished\n"), ("empty.csv", b"")):
        (tmp_path / name).write_bytes(contents)
        request = ["digits", *SMALL, "--out", str(tmp_path / "out"), "--csv", str(tmp_path / name)]
        assert command.run(lambda: costs.main(request)) == 2  # noqa: B023
        out, err = capsys.readouterr()
        assert "exists and is no earlier table" in err and len(err.splitlines()) == 1 and not out
        assert (tmp_path / name).read_bytes() == contents and not (tmp_path / "out").exists()
    assert costs.is_table(costs.as_csv([]).encode()) and costs.is_table(
        costs.as_csv([]).encode() + b"Conv,Conv,,1,1,1\n"
    )


def test_help_offers_only_what_is_taken(capsys):
    with pytest.raises(SystemExit):
        costs.parse(["--help"])
    said = capsys.readouterr().out
    assert "--wrn_width" in said and not any(f"--{flag}" in said for flag in costs.REFUSED)


def test_what_the_figures_show():
    config = costs.parse(["cifar10", *SMALL])
    rows = costs.table(config)
    reference = costs.reference_cost(config, rows)
    assert reference.conv == "Conv"
    shuffled = [row.cost.params for row in rows if row.family == "Shuffle"]
    assert len(shuffled) == len(costs.COUNTS) and shuffled == sorted(shuffled, reverse=True)
    figure = plane(rows, reference, "here")
    (control,) = (line for line in figure.axes[0].lines if line.get_gid() == "control")
    assert control.get_xydata()[0].tolist() == [reference.cost.params, reference.cost.mult_adds_exact]
    drawn = {line.get_gid() for axes in ranges(rows, reference, "here").axes for line in axes.lines}
    assert {f"family-{row.family}" for row in rows if row.number and row.family != costs.CONTROL} <= drawn


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["cifar10", "--conv", "Sep"], "--conv chooses one conv"),
        (["cifar10", "--budget", "5"], "--budget chooses one conv"),
        (["cifar10", "--network", "WRN_50_2"], "takes imagenet, not cifar10"),
        (["cifar10", "--outt", "x"], "unknown flag '--outt'; did you mean '--out'?"),
        (["cifar10", "--where", "nothing"], "nothing"),
    ],
)
def test_refusals(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert command.run(lambda: costs.main(arguments)) == 2
    out, err = capsys.readouterr()
    assert says in err and not out and not list(tmp_path.iterdir())
