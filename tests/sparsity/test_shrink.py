"""shrink.py: a run without its dead filters is a run, with the same outputs, that is tested, counted, taught by and trained on."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from results import refused, rows_of, saved
from small_runs import TINY

import count
import main
import shrink
from counting import latency
from record import checkpoint, lock
from record.checkpoint import load_run, save
from record.found import Found
from record.paths import checkpoint_path
from record.run import Run
from sparsity import shrinking
from system.errors import MachineFault, RequestError
from weights.restore import restore

FEW = [*TINY, "--train_size", "64"]
RUN = ["digits", "teacher", *FEW]


@pytest.fixture
def dead(teacher, workplace, monkeypatch):
    """The tiny teacher t, and `dead`, which is the same with filters of zeros, as if it had been pruned."""
    monkeypatch.setattr(latency, "MOST", latency.LEAST)
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    shutil.copytree(workplace / "runs/t", workplace / "runs/dead")
    state = load_run("t", "run")
    state["config"] |= {"teacher_checkpoint": "dead", "prune": "TopK_0.5", "prune_at": 0}
    state["rows"][-1]["active_fraction"] = 0.5
    for name in ("groups.1.0.conv1", "groups.2.0.conv1"):
        state["model"][f"{name}.weight"][::2] = 0
    save(checkpoint_path("dead"), state)
    return state


def outputs(name):
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return restore(name, load_run(name, "run")).eval()(images).logits


def test_it_becomes_a_run(dead, workplace, capsys):
    assert shrink.main(["dead", "-s", "small"]) == 0
    said = capsys.readouterr().out
    state, rows = saved(workplace, "small"), rows_of(workplace, "small")
    assert (outputs("small") - outputs("dead")).abs().max() < 1e-5
    config = state["config"]
    assert config["shrunk_from"] == "dead" and config["teacher_checkpoint"] == "small" and config["prune"] == "TopK_0.5"
    assert rows == state["rows"] and len(rows) == 2 and rows[0] == dead["rows"][0]
    assert rows[1]["lr"] == dead["rows"][1]["lr"] and 0 < rows[1]["active_fraction"] < 1
    document = json.loads((workplace / "runs/small/config.json").read_text())
    assert document["config"]["widths"] == config["widths"] and "groups.1.0.conv1:" in config["widths"]
    removed = document["shrunk"]["removed"]
    kept = 8 - removed["groups.1.0.conv1"], 16 - removed["groups.2.0.conv1"]
    assert tuple(len(state["model"][f"groups.{group}.0.conv1.weight"]) for group in (1, 2)) == kept and kept < (8, 16)
    before, after = (sum(each.numel() for each in of["model"].values()) for of in (dead, state))
    assert before > after and f"Error@1 {rows[1]['test_top1_error']:.2f}" in said and "ms, 1 image" in said

    assert main.main(["digits", "teacher", "-t", "small", "--evaluate"]) == 0
    assert f"Error@1 {rows[1]['test_top1_error']:.2f} Error@5" in capsys.readouterr().out
    assert count.main(["small", "--json"]) == 0
    costs = json.loads(capsys.readouterr().out)
    assert (
        costs["params"] == document["counts"]["params"] == sum(map(torch.numel, restore("small", state).parameters()))
    )
    assert costs["crs_ratio"] < 1 and costs["active_parameters"] <= costs["params"]
    assert rows[1]["active_mult_adds"] == costs["active_mult_adds"] <= costs["mult_adds_exact"]
    assert count.main(["dead"]) == 0 and "Without dead filters" in capsys.readouterr().out

    assert main.main([*RUN, "-t", "tuned", "--init_from", "small"]) == 0
    assert "all weights are those of small" in capsys.readouterr().out
    tuned = saved(workplace, "tuned")
    assert tuned["config"]["widths"] == config["widths"]
    assert {name: each.shape for name, each in tuned["model"].items()} == {
        name: each.shape for name, each in state["model"].items()
    }
    checkpoint_path("small").rename("elsewhere.pt")  # a run that has been started does not need it any more
    (workplace / "checkpoints/tuned.pt.previous").replace(checkpoint_path("tuned"))
    assert main.main([*RUN, "-t", "tuned", "--init_from", "small", "--resume"]) == 0
    assert torch.equal(saved(workplace, "tuned")["model"]["classifier.weight"], tuned["model"]["classifier.weight"])
    shutil.move("elsewhere.pt", checkpoint_path("small"))
    student = ["digits", "student", "-t", "small", *FEW, "--epochs", "1"]
    assert main.main([*student, "-s", "taught"]) == 0
    assert "widths" not in saved(workplace, "taught")["config"]
    assert main.main([*student, "-s", "swapped", "--init_from", "small", "--conv", "SepHashed_0.5"]) == 0


def lose_the_disk(*arguments):
    raise MachineFault("checkpoints/small.pt cannot be written: No space left on device")


def test_what_is_refused(dead, workplace, capsys, monkeypatch):
    def says(*arguments):
        return refused(capsys, shrink.main, *arguments)[1]

    assert "no filter of 't' can go: none is of zeros (--dead EPS takes small ones as 0)" in says("t", "-s", "small")
    assert "none is of zeros or below 1e-30" in says("t", "-s", "small", "--dead", "1e-30")
    assert "the run 't' exists: choose another name" in says("dead", "-s", "t")
    assert "differs from the existing run 't' in case alone" in says("dead", "-s", "T")
    assert "NAME and -s are both 'dead'" in says("dead", "-s", "dead")
    assert "needs -s/--small" in says("dead")
    assert "no run 'other'" in says("other", "-s", "small")
    assert "'./x.pt' is no name of a run" in says("./x.pt", "-s", "small")
    assert "a run's name is" in says("dead", "-s", "a b")
    assert "'0' is not a number above 0" in says("dead", "-s", "small", "--dead", "0")
    assert "did you mean '--dead'" in says("dead", "-s", "small", "--daed", "1")
    assert "contradicts --device cpu" in says("dead", "-s", "small", "--device", "cpu", "--GPU", "0")
    save(checkpoint_path("dead"), {**dead, "epoch": 1, "rows": dead["rows"][:1]})
    assert "'dead' has only finished 1 of 2 epochs" in says("dead", "-s", "small")
    own = {**dead["config"], "module": "mine.py"}
    save(checkpoint_path("dead"), {**dead, "config": own})
    assert "convolutions of mine.py (--module)" in says("dead", "-s", "small")
    save(checkpoint_path("dead"), dead)
    with (
        monkeypatch.context() as patch,
        pytest.raises(MachineFault, match=r"10 bytes free, .* needs [\d,]+: its checkp"),
    ):
        patch.setattr(checkpoint, "room", lambda path, size: (3 * size, 10))
        shrink.main(["dead", "-s", "small"])
    with lock.take("small"):
        assert "another process writes the run 'small' at this moment, process" in says("dead", "-s", "small")
    shutil.rmtree("runs/small")
    for is_killed in (False, True):
        with monkeypatch.context() as patch, pytest.raises(MachineFault):
            patch.setattr(Run, "save", lose_the_disk)
            patch.setattr(shutil, "rmtree", (lambda *arguments, **keywords: None) if is_killed else shutil.rmtree)
            patch.setattr(shrinking, "report", None)  # which comes after
            shrink.main(["dead", "-s", "small"])
        assert (workplace / "runs/small").exists() == is_killed
    left = Path("runs/small/config.json")
    left.write_text(json.dumps(json.loads(left.read_text()) | {"argv": ["of the killed one"]}))
    assert (
        shrink.main(["dead", "-s", "small"]) == 0
    )  # what the killed one has left blocks no name, and is no part of it
    assert json.loads(left.read_text())["argv"] != ["of the killed one"]
    with monkeypatch.context() as patch, pytest.raises(RequestError, match="writes the run 'tiny' at this moment"):
        patch.setattr(shrinking, "_check_free", lambda name: Found(()))  # as long as another process had the name
        with lock.take("tiny"):
            shrink.main(["dead", "-s", "tiny"])
    capsys.readouterr()
    assert "no filter of 'small' can go" in says("small", "-s", "smaller")
    other = [*RUN, "-t", "new", "--init_from", "small", "--wrn_width", "0.5"]
    assert "--init_from small: wrn_width is 0.5 here" in refused(capsys, main.main, *other)[1]
    for more in ([], ["--resume"], ["--resume", "--prune", "TopK_0.5", "--prune_at", "0"]):
        said = refused(capsys, main.main, *RUN, "-t", "small", *more)[1]
        assert "'small' was shrunk from 'dead' and is finished" in said and "--init_from small" in said
