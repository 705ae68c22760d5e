"""Studies with mixed names in them: their tables, groups, figures, pages and schedules."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from run_folders import student, table, teacher, told

from schedules import collate, generate, outcomes
from schedules.figures import style
from schedules.figures.output import rendered
from schedules.figures.tradeoff import tradeoff
from schedules.schedule import parse

LOOKING_BACK = "(?<!zz)groups.0=Conv,groups.[1,2].0=Sep,.*=SepHashed_0.{}"


def allocated(name, conv, *flags):
    folder = student(name, "--conv", "SepHashed", "--budget", "9000", "--init_from", "t", "--allocate", *flags)
    document = json.loads((folder / "config.json").read_text())
    document["config"] |= {"conv": conv, "allocate": "SepHashed"}
    (folder / "config.json").write_text(json.dumps(document))


def test_tables_figures_and_pages(workplace, capsys):
    teacher(errors=(9.0, 8.0, 7.0), params=30_000)
    for number, params in ((1, 8_000), (2, 9_000)):
        student(f"m{number}", "--conv", LOOKING_BACK.format(number), params=params)
    long = ",".join(f"groups.{group}.0.conv{number}=SepHashed_0.{{}}" for group in range(3) for number in (1, 2))
    allocated("a", long.format(*"123456"))
    allocated("b", long.format(*"654321"), "--seed", "1")
    status, out, err = told(capsys, collate.main, "-o", "study")
    assert (status, err) == (0, ""), err
    rows, runs, _ = table()
    assert rows["m1"]["conv"] == LOOKING_BACK.format(1)
    assert rows["m1"]["family"] == rows["m2"]["family"] == "(?<!zz)groups.0=Conv,groups.[1,2].0=Sep,.*=SepHashed"
    assert rows["a"]["family"] == "SepHashed allocated" and rows["a"]["group"] == rows["b"]["group"]
    assert (
        rows["a"]["seeds"] == "2"
        and rows["a"]["allocate"] == "SepHashed"
        and rows["m1"]["group"] != rows["m2"]["group"]
    )
    (pair,) = outcomes.read("study.csv").pairs
    shown = [group.label for group in pair.groups]
    assert "SepHashed allocated at 9000 (from t)" in shown
    assert {label[:-4] for label in shown if "mixed" in label} == {f"mixed Conv+Sep+SepHashed_0.{n} " for n in (1, 2)}
    with style.drawing():
        svg = rendered(tradeoff(pair, "params", "test_top1_error"), "svg").decode()
    drawn = re.findall(r">([^<>]*)</text>", svg)
    assert {"SepHashed allocated", *shown} <= {*drawn, next(group.label for group in pair.groups if group.role)}
    assert ElementTree.fromstring(svg) is not None and "(?<!" not in "".join(drawn)


def test_schedules(workplace, capsys):
    convs = "SepHashed_0.5;groups.0=Conv , .*=SepHashed_0.50"
    assert generate.main(["digits", "--convs", convs, "-o", "study.json"]) == 0
    jobs, faults = parse(json.loads((workplace / "study.json").read_text()))
    mixed = [job for job in jobs if "=" in job.options.conv]
    assert not faults and {job.options.conv for job in mixed} == {"groups.0=Conv,.*=SepHashed_0.5"}
    assert [re.sub("[0-9a-f]{8}", "#", job.name) for job in mixed] == [
        "digits.mixed_conv_sephashed_#.student",
        "digits.mixed_conv_sephashed_#",
    ]
    for own in ("--conv SepHashed --budget 9000", "--budget 9000 --allocate"):
        flags = f"--families SepHashed --budgets 3e4 -- --init_from t {own}".split()
        status, _, err = told(capsys, generate.main, "digits", "-o", "other.json", *flags)
        assert status == 2 and not (workplace / "other.json").exists()
        assert (
            "--conv after --: every job has its own" if "--conv" in own else "finds one number for all layers"
        ) in err


@pytest.mark.parametrize("convs", ["SepHashed_0.5,groups.0=Conv", "groups.9=Conv;Sep"])
def test_schedules_that_are_refused(workplace, capsys, convs):
    status, _, err = told(capsys, generate.main, "digits", "--convs", convs)
    assert status == 2 and ("PATTERN=NAME" in err or "groups.9" in err) and not any(workplace.iterdir())
