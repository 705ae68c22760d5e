"""Files of weights as people have them: what is read, what is ignored, what is printed, what is refused and why."""

import argparse
import datetime
import gzip
import io
import pathlib
import struct
import sys
import types
import warnings
import zipfile
from collections import OrderedDict, defaultdict, deque

import numpy as np
import pytest
import safetensors.torch
import torch
from foreigners import config, drawn, small
from samples import tarred
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from layers.init import materialise
from models.build import build
from system.errors import RequestError
from weights import files, matching, origin, pretrained


def read(source):
    return pretrained.read(source, "digits")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def network():
    return drawn(materialise(build(config("--wrn_depth", "10", "--wrn_width", "1")), 0))


def averaged():
    net = network()
    return AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True).state_dict(), net.state_dict()


@pytest.mark.parametrize("suffix", ["pth", "pth.tar", "pt", "pt7", "ckpt", "bin"])
def test_averaged_models(suffix, workplace):
    state, plain = averaged()
    torch.save(state, f"w.{suffix}")
    assert "n_averaged" in state and same(read(f"w.{suffix}"), plain)


WRAPS = {
    "params": lambda s: {"params": s, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
    "params and stats": lambda s: {
        "params": {name: each for name, each in s.items() if "running" not in name},
        "stats": {name: each for name, each in s.items() if "running" in name},
    },
    "alone under another key": lambda s: {"ema": s, "epoch": 2},
    "deep": lambda s: {"checkpoint": {"model": {"state_dict": s}}, "best": torch.tensor(3.0)},
    "Lightning": lambda s: {
        "state_dict": {f"model.{name}": each for name, each in s.items()}, "pytorch-lightning_version": "2.4.0",
        "callbacks": {"EarlyStopping": {"best_score": torch.tensor(0.3)}}, "loops": {}, "optimizer_states": [{"state": {}}],
        "hyper_parameters": {"lr": 0.1}, "global_step": 7,
    },
    "net in a module": lambda s: {f"module.net.{name}": each for name, each in s.items()},
    "counters": lambda s: {**s, "n_averaged": torch.tensor(3), "num_updates": 7, "_metadata": {}, "step": np.int64(3)},
    "float64": lambda s: {name: each.double() if each.is_floating_point() else each for name, each in s.items()},
}  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPS)
def test_wraps(wrap, workplace):
    state = {name: each for name, each in small().items() if "num_batches" not in name}
    torch.save(WRAPS[wrap](state), "w.pt")
    assert same(read("w.pt"), state)


def test_several_in_one_file(workplace, capsys):
    first, second, third = (small() for _ in range(3))
    ema = {"module." + name: each for name, each in second.items()} | {"n_averaged": torch.tensor(9)}
    torch.save({"model": first, "model_ema": ema, "best": {"state.dict": third}, "optimizer": {"state": {}}}, "w.pth")
    assert same(read("w.pth"), first)
    said = capsys.readouterr().err
    assert (
        said
        == "w.pth: the weights under 'model' are taken, there are also 'model_ema', 'best.state.dict' (w.pth:model_ema)\n"
    )
    assert same(read("w.pth:model_ema"), second) and same(read("./w.pth:best.state.dict"), third)
    assert same(read("w.pth:best"), third) and capsys.readouterr().err == ""
    for key, told in {
        "modle_ema": "w.pth has no 'modle_ema'; did you mean 'model_ema'?: it holds state dicts under 'model', 'model_ema', 'best.s",
        "optimizer": "w.pth holds no state dict under 'optimizer', but 'state'",
    }.items():
        with pytest.raises(RequestError) as error:
            read(f"w.pth:{key}")
        assert told in str(error.value) and len(str(error.value).splitlines()) == 1


def test_a_part_of_a_state_dict(workplace):
    """A teacher and a student that were trained in one module."""
    teacher, student = small(), small()
    both = {f"teacher.{name}": each for name, each in teacher.items()} | {f"student.{n}": e for n, e in student.items()}
    torch.save({"state_dict": both, "global_step": 3}, "w.ckpt")
    for source in ("w.ckpt:student", "w.ckpt:state_dict.student"):
        assert same(read(source), student)
    torch.save(both, "flat.pt")
    assert same(read("flat.pt:teacher"), teacher)
    with pytest.raises(
        RequestError,
        match="has no 'ema': it is itself a state dict and needs no key, its names begin with 'student', 'teacher'",
    ):
        read("flat.pt:ema")


def test_half_precision_is_converted_and_said(workplace, capsys):
    state = small()
    torch.save({name: each.bfloat16() if each.is_floating_point() else each for name, each in state.items()}, "w.pt")
    found = read("w.pt")
    assert {each.dtype for name, each in found.items() if "num_b" not in name} == {torch.float32}
    assert capsys.readouterr().err == "w.pt: its weights in bfloat16 are converted to float32\n"


def test_what_training_scripts_save_beside_the_weights(workplace):
    state = small()
    beside = {
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("a/b"), sizes=torch.Size([1, 2]), inner=argparse.Namespace(x=1)),
        "best_acc": np.float64(93.2), "top": [np.float32(3), np.int64(7), np.bool_(True), np.str_("a")],
        "dtype": np.dtype("float16"), "curve": np.arange(6.0).reshape(2, 3), "names": np.array(["a", "b"]),
        "objects": np.array([1, "x"], dtype=object), "rng": np.random.RandomState(0).get_state(),
        "log": defaultdict(list, loss=[1.0]), "count": defaultdict(int), "last": deque([1, 2], maxlen=3),
        "when": datetime.datetime(2026, 1, 2, 3, 4, 5), "day": datetime.date(2026, 1, 2), "took": datetime.timedelta(3),
        "zone": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "space": types.SimpleNamespace(a=1),
        "torch": torch.__version__, "dict": OrderedDict(a=1), "set": {1, 2}, "frozen": frozenset([3]), "range": range(3),
        "device": torch.device("cpu"), "kind": torch.float16, "windows": pathlib.PureWindowsPath("c:/x"), "type": int,
    }  # fmt: skip
    torch.save({"model": state, **beside}, "w.pth")
    assert same(read("w.pth"), state)
    assert argparse.Namespace not in torch.serialization.get_safe_globals()  # allowed while reading alone
    torch.save({"model": state, **beside}, "old.pth", _use_new_zipfile_serialization=False)
    assert same(read("old.pth"), state)


def test_numpys_old_names(workplace):
    """A file of NumPy 1, and paths of Python 3.13."""
    torch.save({"model": small(), "best": np.float64(1.5), "at": np.ones(2), "path": pathlib.PosixPath("a")}, "w.pth")
    with zipfile.ZipFile("w.pth") as archive, zipfile.ZipFile("old.pth", "w") as old:
        for name in archive.namelist():
            data = archive.read(name)
            if name.endswith("data.pkl"):
                assert b"numpy._core" in data
                data = data.replace(b"numpy._core", b"numpy.core").replace(b"cpathlib\n", b"cpathlib._local\n")
            old.writestr(name, data)
    assert same(read("w.pth"), read("old.pth"))


class Sly:
    """Runs whatever it is given when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class DictConfig(dict):
    pass


DictConfig.__module__ = "omegaconf.dictconfig"


@pytest.mark.parametrize(
    "thing, named",
    [
        (Sly(eval, "open('hacked', 'w')"), "eval"),
        (Sly(getattr, 3, "real"), "getattr"),
        (Sly(np.fromfile, "w.pth"), "numpy.fromfile"),
        (Sly(__import__, "antigravity"), "__import__"),
        (Sly(pathlib.Path.touch, pathlib.Path("hacked")), "getattr"),
        (nn.Conv2d(2, 2, 1), "torch.nn.modules.conv.Conv2d"),
        (DictConfig, "omegaconf.dictconfig.DictConfig"),
    ],
)
def test_nothing_runs(thing, named, workplace, monkeypatch):
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    module = types.ModuleType("omegaconf.dictconfig")
    module.DictConfig = DictConfig
    monkeypatch.setitem(sys.modules, "omegaconf.dictconfig", module)
    torch.save({"state_dict": small(), "config": {"inner": [thing]}}, "w.pth")
    with pytest.raises(RequestError) as error:
        read("w.pth")
    told = str(error.value)
    assert f"w.pth holds more than tensors ({named})" in told and "state_dict() instead" in told and "\n" not in told
    assert [path.name for path in workplace.iterdir()] == ["w.pth"]


def torch_file(thing=None):
    stream = io.BytesIO()
    torch.save(small() if thing is None else thing, stream)
    return stream.getvalue()


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return stream.getvalue()


def scripted():
    stream = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # deprecated, but on people's disks
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), stream)
    return stream.getvalue()


def npz():
    stream = io.BytesIO()
    np.savez(stream, a=np.ones(3))
    return stream.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
OTHERS = {
    "Git LFS": (lambda: POINTER, "is a pointer of Git LFS, not the weights themselves: `git lfs pull` fetches them"),
    "HTML": (
        lambda: b"\n<!DOCTYPE html>\n<html><body>Quota exceeded",
        "is a web page, not the weights themselves: download",
    ),
    "JSON": (lambda: b'{\n  "metadata": {"total_size": 3}, "weight_map": {}}', "is JSON text"),
    "zip": (lambda: zipped(weights__w_pth=torch_file()), "is a zip archive of other files (weights/w_pth): unpack it"),
    "npz": (npz, "is a zip archive of NumPy's arrays (npz) (a.npy): save a state dict by torch.save"),
    "TorchScript": (scripted, "is a TorchScript archive, which holds a program: save torch.jit.load("),
    "tar": (lambda: tarred({"w": torch_file()}), "is a tar archive (w): unpack it, and give the file of weights in it"),
    "old tar": (
        lambda: tarred(dict.fromkeys(("sys_info", "pickle", "storages"), b"")),
        "is in the tar format of torch before 0.1.10",
    ),
    "cut tar": (lambda: tarred({"w": torch_file()})[:700], "is a tar archive"),
    "gzip": (lambda: gzip.compress(torch_file()), "is compressed by gzip: unpack it first"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(600), "is an HDF5 file"),
    "Lua": (lambda: struct.pack("<ii", 4, 1) + bytes(100), "is a file of Torch 7 (Lua)"),
}


@pytest.mark.parametrize("suffix", ["pth", "safetensors", "ckpt"])
@pytest.mark.parametrize("case", OTHERS)
def test_other_files_are_called_what_they_are(case, suffix, workplace):
    made, told = OTHERS[case]
    pathlib.Path(f"w.{suffix}").write_bytes(made())
    with pytest.raises(RequestError) as error:
        read(f"w.{suffix}")
    assert f"w.{suffix} {told}" in str(error.value) and "damaged" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_protocol_that_is_not_read(workplace):
    torch.save(small(), "w.pt", pickle_protocol=4)
    with pytest.raises(RequestError, match="pickle_protocol=2"):
        read("w.pt")


def test_damage_is_found_wherever_it_is(workplace):
    """Cut at many places, or with a byte changed: a RequestError of one line, or the right weights, never others."""
    state = {name: each for name, each in small().items() if not name.startswith("block")}
    for old in (False, True):
        torch.save(state, "whole.pt", _use_new_zipfile_serialization=not old)
        whole = pathlib.Path("whole.pt").read_bytes()
        safetensors.torch.save_file(state, "whole.safetensors")
        generator = np.random.default_rng(0)
        for number, place in enumerate(generator.integers(0, len(whole), 60).tolist()):
            changed = bytearray(whole)
            changed[place] ^= 1 << (number % 8)
            for contents in (whole[:place], bytes(changed))[: 1 if old else 2]:  # the old format has no checksums
                pathlib.Path("w.pt").write_bytes(contents)
                try:
                    found = files.load("w.pt")
                except RequestError as error:
                    assert len(str(error).splitlines()) == 1 and str(error).startswith("w.pt ")
                else:
                    assert same(found, state)


def test_a_checkpoint_of_ours_takes_no_key(workplace, teacher):
    with pytest.raises(RequestError, match="is a checkpoint of swapconv, of which no key chooses"):
        origin.origin(f"{teacher}/checkpoints/t.pt:model", config(), "run")


def test_what_is_left_over_of_a_module(workplace):
    """Lightning's other parts: the rest may be given by its prefix."""
    state = {f"model.{name}": each for name, each in small().items()} | {"loss.weight": torch.ones(10)}
    torch.save({"state_dict": state}, "w.ckpt")
    with pytest.raises(RequestError, match="of theirs loss .*; what begins with 'model' fits: give w.ckpt:model$"):
        matching.match("w.ckpt", read("w.ckpt"), config())
    assert matching.match("w.ckpt", read("w.ckpt:model"), config()).config["wrn_depth"] == 10
