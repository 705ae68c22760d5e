"""export.py: files of runs that other programs and this one read, and what it refuses."""

import json
import resource
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from results import refused, saved
from safetensors import safe_open
from small_runs import TINY

import export
import main
from cli.exporting import default_name
from exporting import onnx_file
from input import places
from system.errors import MachineFault, RequestError
from weights import load

RUN = ["digits", "teacher", *TINY, "--train_size", "64", "--epochs", "1"]
OWN = """
import torch
from torch import nn

class Conv(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) + BEHIND
"""


@pytest.fixture
def here(teacher, workplace):
    """The tiny teacher t."""
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    return workplace


def test_a_run_as_onnx_classifies_pixels(here, capsys):
    """With its normalisation, the graph classifies what `main.py --evaluate` does, to the same error."""
    assert export.main(["t", "--to", "onnx", "--with_preprocessing"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"t.onnx: {Path('t.onnx').stat().st_size:,} bytes, structured; ")
    images = places.find("digits", here).read(1)
    pixels = images.test.transpose(0, 3, 1, 2).astype(np.float32) / 255
    (logits,) = onnxruntime.InferenceSession("t.onnx").run(None, {"images": pixels})
    error = 100 * (logits.argmax(1) != images.test_labels).mean()
    assert error == pytest.approx(saved(here, "t")["rows"][-1]["test_top1_error"])
    network = load("t")
    with torch.no_grad():
        ours = network(torch.stack([network.preprocess(image) for image in images.test]))
    assert (ours - torch.from_numpy(logits)).abs().max() < 1e-4


def test_a_file_of_ours_is_as_good_as_its_run(here, capsys):
    """It needs no flags, has the run's digest, teaches, is tested and started from; a dense one too, as an ordinary network."""
    assert main.main([*RUN, "-t", "h", "--conv", "Hashed_0.5"]) == 0
    assert export.main(["h", "--to", "safetensors"]) == 0
    assert export.main(["h", "--to", "safetensors", "--dense", "-o", "d.safetensors"]) == 0
    run, file, dense = (load(name) for name in ("h", "./h.safetensors", "d.safetensors"))
    assert file.digest == run.digest != dense.digest and file.classes == run.classes == tuple("0123456789")
    assert (file.config["conv"], dense.config["conv"]) == ("Hashed_0.5", "Conv") and not list(Path().glob("*.partial"))
    with safe_open("d.safetensors", "pt") as header:
        said = header.metadata()
    assert (said["conv"], said["training"]) == ("Conv", f"{run.config['epochs']} of {run.config['epochs']} epochs")
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(file(images), run(images)) and (dense(images) - run(images)).abs().max() < 1e-4
    error = f"Error@1 {saved(here, 'h')['rows'][-1]['test_top1_error']:.2f} Error@5"
    for source in ("h.safetensors", "d.safetensors"):
        capsys.readouterr()
        assert main.main(["digits", "teacher", "-t", source, "--evaluate"]) == 0
        assert error in capsys.readouterr().out
    assert main.main(["digits", "student", "-t", "h.safetensors", "-s", "s", *RUN[2:]]) == 0
    assert saved(here, "s")["config"]["teacher_digest"] == run.digest
    for source, conv, said in (
        ("h.safetensors", "Hashed_0.5", "copied"),
        ("d.safetensors", "Conv", "all weights are those of"),
    ):
        capsys.readouterr()
        assert main.main([*RUN, "-t", f"of.{conv}", "--init_from", source, "--conv", conv]) == 0
        assert said in capsys.readouterr().out
        assert load(f"of.{conv}").config["init_digest"] == load(source).digest


REFUSED = [
    ("t", "needs --to FORMAT, one of onnx, torch, safetensors"),
    ("t --to onix", "unknown format 'onix'; did you mean 'onnx'?"),
    ("t --to onnx --opset 17", "'17' is not a whole number of at least 18"),
    ("t --to onnx --opset 99", "--opset 99: the ONNX that is installed knows up to"),
    ("t --to torch --opset 20", "--opset is of --to onnx alone"),
    ("t --to safetensors --with_preprocessing", "--to safetensors holds no graph"),
    ("t --to onnx -o t.pt2", "-o 't.pt2': a file of --to onnx ends in .onnx"),
    ("t --to onnx -o ", "-o '': a file of --to onnx ends in .onnx"),
    (f"t --to onnx -o {251 * 'a'}.onnx", "a name has at most 255 bytes"),
    ("t --to onnx -o no/t.onnx", "there is no folder no"),
    ("t --to torch -o there.pt2", "there.pt2 exists, and is left as it is"),
    ("tt --to onnx", "no network 'tt': checkpoints/tt.pt does not exist; did you mean 't'?"),
    ("other.pth --to onnx", "other.pth does not say of which network it is"),
    ("torchvison:resnet18 --to onnx", "is neither of torchvision:NAME, timm:NAME"),
    ("timm: --to onnx", "'timm:'"),
    ("own --to safetensors", "are of a file of your own (--module), which safetensors does not hold"),
    ("own --to onnx --dense", "groups.0.0.conv1 is a convolution of your own (--module), which is no Block"),
    ("own --to torch", "torch.export does not record the layer groups.0.0.conv1 ("),
    ("own2 --to onnx", "ONNX cannot hold it (it has no operator for aten."),
]  # fmt: skip


def test_what_cannot_be_exported_is_said_in_one_line(here, capsys):
    """Nothing is written then, nor changed."""
    for name, behind in (("own", "float(x.abs().sum() > 0)"), ("own2", "torch.linalg.svdvals(x[:, 0]).mean() * 0")):
        Path(f"{name}.py").write_text(OWN.replace("BEHIND", behind))
        assert main.main([*RUN, "-t", name, "--module", f"{name}.py"]) == 0
    Path("there.pt2").write_text("mine")
    torch.save(load("t").network.state_dict(), "other.pth")
    capsys.readouterr()
    for arguments, answer in REFUSED:
        assert answer in refused(capsys, export.main, *arguments.split(" "))[1], arguments


def test_a_file_that_fails_its_check_is_not_left(here, monkeypatch):
    """As if onnxruntime, or a file that was read back, gave other logits."""
    runner = onnx_file._runner
    monkeypatch.setattr(onnx_file, "_runner", lambda path: lambda images: runner(path)(images) + 1e-3)
    with pytest.raises(RequestError, match="onnxruntime differs from the network by .*e-0[34] of the largest logit"):
        export.main(["t", "--to", "onnx"])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RequestError, match="--to onnx needs onnxruntime: python -m pip install -r requirements.txt"):
        export.main(["t", "--to", "onnx"])
    assert not [*here.glob("t.onnx*"), *here.glob("*.partial")]


def test_a_full_disk(here, monkeypatch):
    """torch would end the process with an abort; nothing is left of what was begun."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python 3.11 leaves half a file, which no process can read
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = sorted(here.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, hard))
    try:
        with pytest.raises(MachineFault, match="t.pt2 cannot be written: .*File too large"):
            export.main(["t", "--to", "torch"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(here.iterdir()) == before


def test_the_names_of_files():
    names = {
        "a.b": "a.b",
        "w/wrn.x.safetensors": "wrn.x",
        "torchvision:resnet18:IMAGENET1K_V2": "torchvision.resnet18.IMAGENET1K_V2",
    }
    assert {name: default_name(name) for name in names} == names


def test_a_program_says_what_it_is(here):
    assert export.main(["t", "--to", "torch"]) == 0
    files = {"swapconv.json": ""}
    torch.export.load("t.pt2", extra_files=files)
    assert json.loads(files["swapconv.json"])["digest"] == load("t").digest
