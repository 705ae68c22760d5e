"""How networks are compiled, and that a compiled run is the eager one, whatever its batches, and is resumed to the bit."""

import shutil

import pytest
import torch
from results import rows_of, same_run, saved
from small_runs import TINY
from torch import nn

import main
from system.configuration import Configuration
from system.errors import Interrupted
from training import device


@pytest.mark.parametrize(
    "where, processes, parts, mode",
    [
        ("cuda", 1, None, "reduce-overhead"),
        ("cuda", 1, 2, None),  # gradients are added up
        ("cuda", 2, None, None),  # or exchanged
        ("cpu", 1, None, None),
    ],
)
def test_cuda_graphs_are_for_whole_steps_on_a_gpu(where, processes, parts, mode, monkeypatch):
    monkeypatch.setattr(device.launch, "world_size", lambda: processes)
    found = device.compile_options(Configuration({"grad_accum": parts}), torch.device(where))
    assert found == {"mode": mode, "dynamic": False}


@pytest.mark.long  # half a minute: it imports torch's compiler and traces two networks in six sizes
@pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
def test_a_compiled_student_is_the_eager_one_and_goes_on_to_the_bit(teacher, workplace, monkeypatch):
    """Batches of 33, 33 and 15; stopped after the second, so that the resumed run meets the small batch first. With gates."""
    command = ["digits", "student", "-t", "t", "-s", "r", "--conv", "SepHashed_0.5", "--alpha", "0.3", *TINY]
    command += ["--train_size", "81", "--batch_size", "33", "--lr", "0.001"]  # tests are nine of 33
    command += ["--gate", "Naive_0.5", "--gate_warmup", "1"]
    compile_ = nn.Module.compile
    cheap = {"backend": "aot_eager", "dynamic": False}  # traced as always, but run by torch's own kernels
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: compile_(self, **cheap))
    folders = {name: workplace / name for name in ("eager", "whole", "stopped")}
    for name, folder in folders.items():
        shutil.copytree(teacher, folder)
        monkeypatch.chdir(folder)
        torch.compiler.reset()
        flags = [*command, *(["--compile"] if name != "eager" else [])]
        if name == "stopped":
            with monkeypatch.context() as patch:
                patch.setattr(main, "Stop", StopsAfterTwo)
                with pytest.raises(Interrupted):
                    main.main(flags)
            assert saved(folder, "r")["step"] == 2
            torch.compiler.reset()
            flags.append("--resume")
        assert main.main(flags) == 0
    eager, whole = (rows_of(folders[name], "r") for name in ("eager", "whole"))
    for a, b in zip(eager, whole):
        assert [a[key] for key in a if key.endswith("loss")] == pytest.approx(
            [b[key] for key in b if key.endswith("loss")], rel=1e-4
        )
    assert same_run(folders["whole"], folders["stopped"], "r")


class StopsAfterTwo(main.Stop):
    """As if a signal came in the second step."""

    asked = 0

    def __call__(self):
        self.asked += 1
        if self.asked == 2:
            self.received = 15
        return super().__call__()
