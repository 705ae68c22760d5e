"""--autotune: measuring changes nothing, and a run goes on with what it began with."""

import copy
import json

import pytest
import torch
from results import rows_of, same, saved
from small_runs import TINY

import main
from system.errors import MachineFault
from training import autotune, recompute

RUN = ["digits", "student", "-t", "t", *TINY, "--train_size", "64", "--conv", "Hashed_0.5"]


@pytest.fixture
def measured(monkeypatch):
    """What each measurement saw, and the choice that it is told to find fastest."""
    seen = {"fastest": ("channels_last", False), "steps": []}

    def measure(step, data, arrange):
        before = copy.deepcopy(step.model.state_dict()), torch.get_rng_state()
        spent = autotune_measure(step, data, arrange)
        assert same(dict(step.model.state_dict()), dict(before[0])) and torch.equal(torch.get_rng_state(), before[1])
        assert not step.optimizer.state and all(p.grad is None for p in step.model.parameters())
        assert set(spent) == {("channels_last", False), ("contiguous", False)} and min(spent.values()) > 0
        seen["steps"].append(step)
        return {**spent, seen["fastest"]: 0.0}

    autotune_measure = autotune._measure
    monkeypatch.setattr(autotune, "ROUNDS", 2)
    monkeypatch.setattr(autotune, "_measure", measure)
    return seen


def test_a_run_is_tuned_once(teacher, tmp_path, monkeypatch, capsys, measured):
    monkeypatch.chdir(tmp_path)
    teach = ["-t", f"{teacher}/checkpoints/t.pt"]
    plain = [*RUN[:2], *teach, *RUN[4:]]
    assert main.main([*plain, "-s", "plain"]) == 0
    assert main.main([*plain, "-s", "last", "--autotune"]) == 0
    assert same(saved(tmp_path, "plain")["model"], saved(tmp_path, "last")["model"])  # the layout of every run

    measured["fastest"] = ("contiguous", False)
    capsys.readouterr()
    assert main.main([*plain, "-s", "s", "--autotune"]) == 0
    assert "autotune: contiguous, 0 s a step (channels-last " in capsys.readouterr().out
    (step,) = measured["steps"][1:]
    for network in (step.model, step.criterion.teacher):
        kernels = [each for each in network.parameters() if each.dim() == 4 and min(each.shape[1:3]) > 1]
        assert kernels and all(each.is_contiguous() for each in kernels)
    whole, chosen = saved(tmp_path, "s"), {"layout": "contiguous", "tf32": False}
    assert whole["autotuned"] == json.loads((tmp_path / "runs/s/config.json").read_text())["autotuned"] == chosen
    torch.testing.assert_close(
        rows_of(tmp_path, "s")[-1]["train_loss"], rows_of(tmp_path, "plain")[-1]["train_loss"], rtol=1e-3, atol=0
    )

    (tmp_path / "checkpoints/s.pt.previous").replace(tmp_path / "checkpoints/s.pt")
    measured["fastest"] = ("channels_last", False)
    assert main.main([*plain, "-s", "s", "--autotune", "--resume"]) == 0
    assert "autotune: contiguous, as when the run began" in capsys.readouterr().out and len(measured["steps"]) == 2
    assert same(saved(tmp_path, "s"), whole)


def test_times_that_are_near_each_other_change_nothing():
    first, second, third = ("channels_last", False), ("contiguous", False), ("channels_last", True)
    assert autotune._best({first: 1.0, second: 0.96, third: 0.97}) == first
    assert autotune._best({first: 1.0, second: 0.94, third: 0.9}) == third


def test_what_a_damaged_checkpoint_says_is_no_choice():
    with pytest.raises(MachineFault, match="autotuned is {'layout': 'x'}"):
        autotune._kept({"layout": "x"})


def test_a_dry_run_as_json_is_one_object(workplace, capsys, measured):
    """Activations are recomputed as autotune measures."""
    flags = ["--checkpoint_activations", "--autotune", "--dry_run", "--json"]
    assert main.main(["digits", "teacher", "-t", "d", *TINY, *flags]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["batch_size"] == 32 and "autotune: " in err
    (step,) = measured["steps"]
    assert step.model.get_submodule(step.model.segments()[0]).forward.func is recompute._forward
