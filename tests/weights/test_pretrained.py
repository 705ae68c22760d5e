"""Trained weights from elsewhere: files, torchvision's cache, timm; as teacher, as start, in a schedule, or refused in one line."""

import io
import os
import pickle
import re
import shutil
import sys
from urllib.error import URLError

import pytest
import torch
from foreigners import changed, config, drawn, imagenet, small
from references import torchvision
from results import refused, saved, snapshot, write_schedule
from small_runs import TINY
from torch import nn

import main
import schedules.run
from cli import command, options
from models.build import build
from record import checkpoint
from record.run import Found
from schedules.check import without_faults
from schedules.schedule import read
from system.errors import MachineFault, RequestError
from weights import origin
from weights import pretrained as weights_pretrained

WRAPS = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"state": {}}},
    "model": lambda state: {"model": state},
    "net in half precision": lambda state: {"net": {name: t.half() if t.is_floating_point() else t for name, t in state.items()}},
    "DataParallel": lambda state: {"module." + name: tensor for name, tensor in state.items()},
    "compiled": lambda state: {"state_dict": {"module._orig_mod." + name: tensor for name, tensor in state.items()}},
    "no counts": lambda state: {name: tensor for name, tensor in state.items() if "num_batches" not in name},
    "parameters first": lambda state: dict(sorted(state.items(), key=lambda each: "running" in each[0] or "num_b" in each[0])),
}  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPS)
def test_what_tools_wrap_a_state_dict_in(wrap, workplace):
    state = small()
    torch.save(state, "plain.pth"), torch.save(WRAPS[wrap](state), "wrapped.pth.tar")
    plain, wrapped = (origin.origin(name, config(), "run") for name in ("plain.pth", "wrapped.pth.tar"))
    assert plain.config == wrapped.config and plain.network.state_dict().keys() == wrapped.network.state_dict().keys()
    assert (plain.digest == wrapped.digest) is (wrap != "net in half precision")
    assert ("count from 0" in wrapped.mapping) is (wrap == "no counts")


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("hacked",)


def file_of(thing):
    stream = io.BytesIO()
    torch.save(thing, stream)
    return stream.getvalue()


FILES = {
    "hostile": (lambda: file_of({"state_dict": Hostile()}), "x.pth holds more than tensors (posix.mkdir), which could run anything"),
    "a whole network": (lambda: file_of(nn.Linear(2, 2)), "holds more than tensors (torch.nn.modules.linear.Linear)"),
    "empty": (lambda: b"", "x.pth is damaged, or nothing that torch.save wrote"),
    "text": (lambda: b"weights", "x.pth is damaged, or nothing"),
    "a pickle": (lambda: pickle.dumps([1, 2]), "x.pth is damaged, or nothing that torch.save wrote"),
    "cut": (lambda: file_of(small())[:-2000], "x.pth is damaged"),
    "a list": (lambda: file_of([torch.ones(2)]), "holds no state dict, but list"),
    "no tensors": (lambda: file_of({"epoch": 3, "args": {}}), "holds no state dict, but 'epoch', 'args' (looked for: state_dict"),
    "empty dict": (lambda: file_of({}), "holds no state dict, but nothing"),
    "more than tensors": (lambda: file_of({"a.weight": torch.ones(2), "lr": 0.1}), "its 'lr' is float"),
    "no counter": (lambda: file_of(small() | {"decay": 3}), "its 'decay' is int"),
    "several, none known": (lambda: file_of({"a": small(), "b": small()}), "x.pth holds several state dicts, 'a', 'b': choose one, as by x.pth:a"),
    "integers": (lambda: file_of(changed(conv1__weight=torch.ones(16, 3, 3, 3, dtype=torch.int))), "conv1.weight is no weight, but a tensor of torch.int32"),
    "sparse": (lambda: file_of({"a.weight": torch.eye(2).to_sparse()}), "torch.sparse_coo"),
    "not finite": (lambda: file_of(changed(fc__bias=torch.full((10,), torch.inf))), "x.pth: the weights that become classifier.bias are not finite"),
    "cut checkpoint": (lambda: file_of({"format": 2, "model": {}, "config": {}, "rows": []}), "a checkpoint of swapconv without its SHA-256"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_none(case, workplace):
    contents, told = FILES[case]
    (workplace / "x.pth").write_bytes(contents())
    with pytest.raises(RequestError) as error:
        origin.origin("x.pth", config(), "run")
    assert told in str(error.value) and len(str(error.value).splitlines()) == 1
    assert [path.name for path in workplace.iterdir()] == ["x.pth"]


@pytest.mark.parametrize(
    "source, told",
    [
        ("./none.pth", "'./none.pth' cannot be read: No such file"),
        ("y.pt", "'y.pt' cannot be read: No such file or directory; did you mean x.pt?"),
        ("./x.pt:ema", "x.pt is damaged, or nothing that torch.save wrote"),
        ("a\0/b", "cannot be read"),
        (".pth/", "cannot be read"),
        ("/dev/null", "/dev/null cannot be read: it is no file"),
        ("folder/", "folder/ cannot be read: it is no file"),
        ("x", "no run 'x': checkpoints/x.pt does not exist; the file here is ./x"),
        ("r.pt", "no run 'r.pt': a name that ends so is a file's, and there is none; the run 'r' is there"),
        ("old.bin", "and there is none; the run of that name is ./checkpoints/old.bin.pt"),
        ("torchvision:mobilenet_v2", "torchvision:mobilenet_v2 classifies imagenet, not digits"),
    ],
)
def test_sources_that_are_not_there(source, told, workplace):
    (workplace / "folder").mkdir(), (workplace / "checkpoints").mkdir()
    for name in ("x", "x.pt", "checkpoints/r.pt", "checkpoints/old.bin.pt"):
        (workplace / name).touch()
    with pytest.raises(RequestError) as error:
        origin.origin(source, config(), "run")
    assert told in str(error.value)


PUBLISHED = [
    ("torchvision:mobilenet_v4", "torchvision has no 'mobilenet_v4'; did you mean 'torchvision:mobilenet_v2'?"),
    ("torchvision:regnet_y_128gf", "regnet_y_128gf has no weights 'IMAGENET1K_V1'; did you mean 'IMAGENET1K_SWAG_E2E_V1'?"),
    ("torchvision:mobilenet_v2:IMAGENET1K_V3", "has no weights 'IMAGENET1K_V3'; did you mean 'IMAGENET1K_V"),
    ("torchvision:mobilenet_v2:", "has no weights ''"),
]  # fmt: skip
OF_TIMM = [
    ("timm:wide_resnet50_3", "timm has no 'wide_resnet50_3'; did you mean 'timm:wide_resnet50_2'?"),
    ("timm:wide_resnet50_2.tv_in1", "wide_resnet50_2 has no weights 'tv_in1'; did you mean 'tv_in1k'?"),
    ("timm:mobilenetv2_035", "timm publishes no weights of mobilenetv2_035"),
]


@pytest.mark.parametrize("source, told", PUBLISHED + OF_TIMM)
def test_names_that_nobody_publishes(source, told):
    if source.startswith("timm"):
        pytest.importorskip("timm")
    for look in (weights_pretrained.read, weights_pretrained.shapes):
        with pytest.raises(RequestError) as error:
            look(source, "imagenet")
        assert told in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Where torchvision looks for its files, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def download(*arguments, **keywords):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    return tmp_path / "hub" / "checkpoints"


def test_torchvisions_cache(cache, capsys):
    name, asked = "mobilenet_v2-b0353104.pth", imagenet("MobileNetV2")
    with pytest.raises(MachineFault) as error:
        origin.origin("torchvision:mobilenet_v2", asked, "teacher")
    assert capsys.readouterr().out == ""
    assert f"(<urlopen error no network>): put a copy of {name} into {cache}, or give the path of one" in str(
        error.value
    )
    assert origin.facts("torchvision:mobilenet_v2", asked)["network"] == "MobileNetV2"  # needs no weights
    cache.mkdir(parents=True, exist_ok=True)
    state = drawn(torchvision.models.mobilenet_v2()).state_dict()
    torch.save(state, cache / name)
    found = origin.origin("torchvision:mobilenet_v2", asked, "teacher", fetch=False)
    assert torch.equal(found.network.classifier.weight.flatten(1), state["classifier.1.weight"])
    assert "its SHA-256 does not begin b0353104" in capsys.readouterr().err
    by_path = origin.origin(str(cache / name), imagenet("WRN_50_2"), "teacher")
    assert by_path.digest == found.digest and by_path.config["network"] == "MobileNetV2"
    with pytest.raises(MachineFault, match="mobilenet_v2-7ebf99e0.pth"):
        origin.origin("torchvision:mobilenet_v2:IMAGENET1K_V2", asked, "teacher")


def test_timms_weights(monkeypatch):
    timm = pytest.importorskip("timm")
    source, theirs, asked = (
        "timm:mobilenetv2_050.lamb_in1k",
        timm.create_model("mobilenetv2_050"),
        imagenet("MobileNetV2"),
    )
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: theirs)
    found = origin.origin(source, asked, "teacher")
    assert found.config["width_mult"] == 0.5
    with pytest.raises(MachineFault, match="may have to be fetched"):
        origin.origin(source, asked, "teacher", fetch=False)

    def offline(name, pretrained):
        raise OSError("offline\nwith much to say")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(MachineFault, match=r"cannot be fetched \(offline\); the path of a file"):
        origin.origin(source, asked, "teacher")
    cfg = timm.get_pretrained_cfg("mobilenetv2_050")
    cfg.mean = (0.5, 0.5, 0.5)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: cfg)
    with pytest.raises(RequestError, match=r"mean \(0.5, 0.5, 0.5\)"):
        origin.origin(source, asked, "teacher")


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RequestError, match="needs timm: pip install timm"):
        weights_pretrained.read("timm:wide_resnet50_2.tv_in1k", "imagenet")


def test_init_from_published_weights(cache):
    """As on the command line: `-t NAME --init_from torchvision:mobilenet_v2` in teacher mode."""
    cache.mkdir(parents=True)
    torch.save(torchvision.models.mobilenet_v2().state_dict(), cache / "mobilenet_v2-b0353104.pth")
    asked = imagenet("MobileNetV2") | {"init_from": "torchvision:mobilenet_v2", "conv": "SepHashed_0.5"}
    start = origin.start_of(asked, build(asked), Found(()))
    assert start.network.classifier.weight.shape == (1000, 1280, 1, 1) and "classifier.1" in start.mapping
    with pytest.raises(RequestError, match="width_mult is 0.5 here, 1.0 there"):
        origin.start_of(asked | {"width_mult": 0.5}, build(asked), Found(()))


RENAMED = [
    (r"groups\.(\d)\.(\d)", lambda m: f"block{int(m[1]) + 1}.layer.{m[2]}"),
    (r"^bn", "bn1"),
    ("classifier", "fc"),
]


@pytest.fixture
def weights(workplace, teacher):
    """The trained teacher `t`, and its weights under other names in w/x.pth."""
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    state = saved(workplace, "t")["model"]
    for pattern, name in RENAMED:
        state = {re.sub(pattern, name, key): tensor for key, tensor in state.items()}
    (workplace / "w").mkdir()
    torch.save(state, "w/x.pth")
    return workplace


STUDENT = ["digits", "student", "-s", "s", *TINY, "--conv", "Generic_0.5", "--epochs", "1"]


def test_a_student_of_a_file(weights, capsys):
    """It is the one that the run itself, or its checkpoint by path, would have taught."""
    (weights / "elsewhere").mkdir()
    shutil.copy("checkpoints/t.pt", "elsewhere/t.pt")
    assert main.main([*STUDENT, "-t", "w/x.pth"]) == 0
    record = saved(weights, "s")
    assert record["config"]["teacher_checkpoint"] == "w/x.pth"
    assert record["config"]["teacher_digest"] == checkpoint.digest(saved(weights, "t")["model"])
    capsys.readouterr()
    for source in ("t", "elsewhere/t.pt", str(weights / "w/x.pth")):
        assert main.main([*STUDENT, "-t", source, "--resume"]) == 0
        assert "s is finished" in capsys.readouterr().out
    assert main.main(["digits", "student", "-s", "other", *STUDENT[4:], "-t", "t"]) == 0
    assert all(torch.equal(a, b) for a, b in zip(record["model"].values(), saved(weights, "other")["model"].values()))
    torch.save({name: tensor * 1.5 for name, tensor in small().items()}, "w/x.pth")
    assert (
        "the digest of the teacher's weights was"
        in refused(capsys, main.main, *STUDENT, "-t", "w/x.pth", "--resume")[1]
    )


def test_starting_from_a_file(weights):
    flags = ["digits", "teacher", *TINY, "--epochs", "1", "--lr", "1e-12", "--init_from", "w/x.pth"]
    assert main.main([*flags, "-t", "dense"]) == 0 and main.main([*flags, "-t", "fitted", "--conv", "Hashed_1"]) == 0
    before, after = saved(weights, "t")["model"], saved(weights, "dense")["model"]
    assert all(torch.allclose(before[name], after[name]) for name in before if "weight" in name or "bias" in name)


def test_attention_split_of_a_foreign_teacher(workplace):
    torch.save(small(n=2), "x.pth")
    flags = ("--wrn_depth", "22", "--wrn_width", "0.5", "--AT_split", "2")
    request = options.training(["digits", "student", "-t", "x.pth", "-s", "s", *flags])
    found = origin.build_teacher(request, build(request))
    assert found.config["wrn_depth"] == 16 and len(found.network.eval()(torch.randn(1, 3, 32, 32)).taps) == 6
    request = request | {"AT_split": 3}
    with pytest.raises(RequestError, match="--AT_split 3: a group of WRN-16 has 2 blocks"):
        origin.build_teacher(request, build(request))


def job(name, *flags):
    return ["python", "main.py", "digits", "student", "-s", name, *TINY, "--epochs", "1", *flags]


def test_schedules_of_foreign_teachers(weights, capsys):
    """No job has to make them first, and what can be seen of them is checked before anything starts."""
    (weights / "empty.pth").touch()
    write_schedule(
        [job("a", "-t", "w/x.pth"), job("b", "-t", "t", "--init_from", "w/x.pth"), job("c", "-t", "./checkpoints/t.pt")]
    )
    jobs = read("study.json")
    assert [job.needs for job in jobs] == [{}, {"t": "teacher"}, {}]
    without_faults("study.json", jobs)
    write_schedule([
        job("a", "-t", "w/y.pth"), job("b", "-t", "empty.pth"), job("c", "-t", "torchvision:mobilenet_v2"),
        job("d", "-t", "w/x.pth", "--AT_split", "2", "--wrn_depth", "16"), job("e", "-t", "torchvison:resnet18"),
        job("f", "-t", "t", "--init_from", "w/x.pth", "--wrn_depth", "16"), ["python", "main.py", "digits", "teacher", "-t", "x.pth"],
        ["python", "main.py", "digits", "teacher", "-t", "w/x.pth", "--evaluate"],
    ])  # fmt: skip
    faults, _ = refused(capsys, schedules.run.main, "study.json")
    for number, told in enumerate(
        ["'w/y.pth' cannot be read", "empty.pth is damaged", "classifies imagenet, not digits"], 1
    ):
        assert any(fault.startswith(f"job {number}: ") and told in fault for fault in faults), (told, faults)
    assert any("did you mean 'torchvision'?" in fault for fault in faults)
    assert any("job 6: --init_from w/x.pth: wrn_depth is 16 here, 10 there" in fault for fault in faults)
    assert any("job 4: --AT_split 2: a group of WRN-10 has 1 blocks" in fault for fault in faults)
    assert any("job 8: --evaluate trains nothing" in fault for fault in faults)
    assert any("job 7: -t 'x.pth': in teacher mode it names this run" in fault for fault in faults)


@pytest.mark.long
def test_what_a_study_of_a_file_would_take(weights, capsys):
    """Its dry runs are in folders of their own."""
    write_schedule([job("a", "-t", "w/x.pth"), job("b", "-t", "w/x.pth", "--seed", "1", "--init_from", "w/x.pth")])
    before = snapshot(weights)
    assert command.run(lambda: schedules.run.main(["study.json", "--slots", "1", "--dry_run"])) == 0
    assert "w/x.pth" not in capsys.readouterr().out and snapshot(weights) == before
