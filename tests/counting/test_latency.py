"""How long inference takes: what count.py prints, what a finished run records, what collate and plot make of it."""

import json

import pytest
import run_folders
import torch
from results import refused, snapshot
from run_folders import student, table, told
from small_runs import TINY

import count
import main
from counting import latency
from layers.init import materialise
from models.build import build
from schedules import collate, plot
from schedules.outcomes import read
from system import memory

RUN = ["digits", "teacher", "-t", "t", *TINY, "--epochs", "1", "--train_size", "64"]
WRN = ["--wrn_depth", "10", "--wrn_width", "1"]


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    monkeypatch.setattr(latency, "MOST", latency.LEAST)


@pytest.fixture
def kept(monkeypatch):
    """A list with an item for each time that the allocator of this process was changed."""
    times = []
    monkeypatch.setattr(memory, "keep_freed", lambda: times.append(True))
    return times


def test_networks_are_timed_in_turns_and_left_as_they_are(kept):
    config = {**count.resolve(["cifar10", "--conv", "SepHashed_0.1", *WRN])}
    network = materialise(build(config), 0).train()
    calls = []
    network.register_forward_hook(lambda module, *_: calls.append((module.training, torch.is_inference_mode_enabled())))
    before = [*network.state_dict()]
    first, second = latency.latencies([network, network], 32, [1], lambda each: each)
    assert network.training and [*network.state_dict()] == before
    assert not kept  # that is for a program to decide, not for a function that others import
    assert calls == [(False, True)] * 4 * (latency.WARM + latency.LEAST)  # two networks, as built and dense
    keys = [f"latency_{name}_1" for name in ("ms", "spread_ms", "dense_ms", "dense_spread_ms")]
    assert [*first] == [*second] == [*keys, "latency_on"] and all(first[key] >= 0 for key in keys)
    assert f"{torch.get_num_threads()} thread" in first["latency_on"] and first["latency_ms_1"] > 0


def test_count(capsys, tmp_path, kept):
    assert count.main(["--latency", "cifar10", "--json", *WRN]) == 0  # the dataset behind it is none of its sizes
    assert len(kept) == 1
    found = json.loads(capsys.readouterr().out)
    assert {"latency_ms_1", "latency_ms_128"} <= found.keys() and found["latency_ms_1"] == found["latency_dense_ms_1"]
    convs = "Conv;groups.0=Conv,.*=SepHashed_0.5;Shuffle_2"
    assert (
        count.main(["cifar10", "--compare", convs, "--latency", "[1,2]", "--wrn_depth", "10", "--wrn_width", "0.1"])
        == 0
    )
    head, _, *rows, about = capsys.readouterr().out.splitlines()
    assert all(each in head for each in ("ms, 1 ", "± 1 ", "dense ms, 2 ", "± dense 2")) and "in turns" in about
    assert len(rows) == 3 and "cannot be Shuffle_2" in rows[-1]
    (tmp_path / "mine.py").write_text("from torch import nn\n\nclass Conv(nn.Conv2d): ...\n")
    assert count.main(["cifar10", "--module", str(tmp_path / "mine.py"), "--latency", "[1]", "--json", *WRN]) == 0
    found = json.loads(capsys.readouterr().out)  # nobody knows which convolution a user's layer equals
    assert found["latency_dense_ms_1"] is None and found["latency_ms_1"] > 0
    assert latency.text({"latency_ms_2": 1.5, "latency_spread_ms_2": 0.25, "latency_on": "x"}) == [
        "Latency, 2 images: 1.5 ms (0.25); dense –",
        "Measured on x: medians, and in brackets the interquartile range",
    ]


@pytest.mark.parametrize("sizes", ["1,128", "[]", "[2,1]", "[0]", "[1.5]", "[true]", "[1,1]", "[1000000]", "[1", "128"])
def test_wrong_sizes(sizes, workplace, capsys):
    for program, arguments in ((count, ["cifar10"]), (main, RUN)):
        said = refused(capsys, program.main, *arguments, "--latency", sizes)[1]
        assert said.startswith("error: argument --latency: ") and "such as '[1,128]'" in said and repr(sizes) in said


def test_a_finished_run_records_it_once(workplace, capsys):
    assert main.main(RUN) == 0 and not (workplace / "runs/t/latency.json").exists()
    assert main.main([*RUN, "--resume", "--latency", "[1,2]"]) == 0  # a run that was finished without it
    assert "Latency, 2 images: " in capsys.readouterr().out
    found, before = json.loads((workplace / "runs/t/latency.json").read_text()), snapshot(workplace)
    assert main.main([*RUN, "--resume", "--latency", "[2]"]) == 0 and snapshot(workplace) == before
    assert "Latency, 1 image: " in capsys.readouterr().out
    path = workplace / "runs/t/latency.json"
    assert main.main([*RUN, "--resume", "--latency", "[3]"]) == 0  # another size is added
    added = json.loads(path.read_text())
    assert {key: added[key] for key in found} == found and added["latency_ms_3"] > 0
    path.write_text(json.dumps({**found, "latency_on": "another CPU"}))
    assert main.main([*RUN, "--resume", "--latency", "[2,3]"]) == 0
    assert latency.sizes_of(json.loads(path.read_text())) == [2, 3]  # no times of two machines are in one record
    assert "the times of 1, 2 images, measured on another CPU, are replaced: " in capsys.readouterr().out
    path.write_text(json.dumps(found, indent=1) + "\n")
    before = snapshot(workplace)
    assert main.main([*RUN, "--resume"]) == 0 and snapshot(workplace) == before  # it is no part of which run this is
    capsys.readouterr()
    assert count.main(["t", "--latency", "[2]", "--json"]) == 0 and snapshot(workplace) == before
    assert json.loads(capsys.readouterr().out)["latency_ms_2"] > 0
    assert collate.main(["-o", "study"]) == 0
    row = table()[0]["t"]
    assert {key: row[key] for key in found} == {key: str(value) for key, value in found.items()}
    (workplace / "runs/t/latency.json").write_text('{"latency_ms_1": [')  # damage: as if there were none
    assert collate.main(["-o", "study"]) == 0 and "latency_ms_1" not in table()[0]["t"]
    new = [*RUN[:2], "-t", "new", *RUN[4:], "--latency", "--epochs", "2"]
    assert main.main([*new, "--dry_run"]) == 0 and "--dry_run does not measure --latency" in capsys.readouterr().err
    assert main.main([*new, "--until", "1"]) == 0
    assert "--latency measures at the end of the last epoch: 1 of 2 epochs are done" in capsys.readouterr().out
    assert refused(capsys, main.main, *RUN, "--evaluate", "--latency")[1].startswith("error: --evaluate only tests")


def timed(place, milliseconds, on="this CPU"):
    (place / "latency.json").write_text(json.dumps({"latency_ms_1": milliseconds, "latency_on": on}))


def test_collate_and_plot_do_not_mix_machines(workplace, capsys):
    timed(run_folders.teacher(), 2.0)
    timed(student("a", "--conv", "Shuffle_2"), 1.0)
    timed(student("b", "--conv", "Shuffle_2", "--seed", "1"), 1.5)
    assert "machines" not in told(capsys, collate.main, "-o", "study")[1]
    study = read("study.csv")
    (pair,) = study.pairs
    assert sorted(group.cost["latency_ms_1"] for group in pair.groups) == [1.25, 2.0] and pair.latency_sizes == [1]
    figure = dict((kind, figure) for _, kind, figure in plot.figures(study, "exact"))["latency_1"]
    assert figure.axes[0].get_xlabel() == "inference of 1 image, median ms on this CPU"
    timed(workplace / "runs/b", 1.5, "another CPU")
    assert "note: inference was timed on several machines" in told(capsys, collate.main, "-o", "study")[1]
    status, said, _ = told(capsys, plot.main, "study.csv", "--html", "page.html")
    assert status == 0 and "timed on several machines (this CPU; another CPU)" in said
    (workplace / "runs/b/latency.json").unlink()
    assert told(capsys, collate.main, "-o", "study")[0] == 0
    assert "not all of its runs say how long inference takes" in told(capsys, plot.main, "study.csv")[1]
    timed(workplace / "runs/b", 1.5)
    assert (
        told(capsys, collate.main, "-o", "study")[0] == told(capsys, plot.main, "study.csv", "--html", "p.html")[0] == 0
    )
    page = (workplace / "p.html").read_text()
    assert "Error against the time of inference, batches of 1" in page and '"ms, batch 1","1.25' in page
