"""Networks and losses of a user's own files: trained, taught, resumed by what the files hold, refused in one line."""

import shutil

import pytest
import torch
from results import refused, rows_of, saved

import main
from cli import options
from models.build import build
from record.identity import differences

NETWORK = """
import torch
from torch import nn
from models.output import Output


class Net(nn.Module):
    def __init__(self, num_classes, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 4, padding=1)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 0.5))  # what no rule of ours would draw
        self.middle = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.last = nn.Conv2d(width, width, 3, 2, padding=1)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.last(self.middle(self.stem(x) * self.scale)).mean((2, 3)))


class OfHouse(Net):
    def __init__(self, classes):
        super().__init__(classes)

    def forward(self, x):
        x = self.middle(self.stem(x))
        return Output(self.head(x.mean((2, 3))), [x])

    def swappable(self):
        return ["middle.0"]


class NoClasses(Net):
    def __init__(self):
        super().__init__(10)


class Raises(Net):
    def __init__(self, classes):
        raise ValueError("of no use")


class Narrow(Net):
    def forward(self, x):
        return super().forward(x[:, :1])


class Nothing(nn.ReLU):
    def __init__(self, classes):
        super().__init__()


function = print
"""
LOSS = """
import torch
import torch.nn.functional as F
from torch import nn
from distill import Criterion


class Smooth(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("of_classes", torch.ones(10))

    def forward(self, logits, labels):
        return F.cross_entropy(logits, labels, self.of_classes, label_smoothing=0.1)


class Same:
    def __call__(self, logits, labels):
        return F.cross_entropy(logits, labels)


class Logits(Criterion):
    def __init__(self, teacher, alpha):
        self.teacher, self.alpha = teacher, alpha

    def __call__(self, model, x, y):
        output = model(x)
        wanted = self.teacher(x).logits
        return self.loss_output(model, output, y, {"logits": self.alpha * (output.logits - wanted).square().mean()})


class Hits:
    def __call__(self, logits, labels):
        return (logits.argmax(1) == labels).float().mean()


class OfTwo:
    def __call__(self, logits, labels):
        return F.cross_entropy(logits, labels, torch.ones(2))


class Learnt(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)


class Number:
    pass
"""
RUN = ["--network", "net.py:Net", "--epochs", "2", "--train_size", "256", "--lr", "0.01"]


@pytest.fixture
def own(workplace):
    """Write both files."""
    (workplace / "net.py").write_text(NETWORK)
    (workplace / "loss.py").write_text(LOSS)
    return workplace


def test_network_of_a_file(own, capsys):
    """Starts as its class draws it, is swapped, taught, resumed to the bit from elsewhere, and only with the file as it was."""
    network = build(options.counting(["digits", "--network", "net.py:Net", "--conv", "SepHashed_0.5"]))
    assert network.swappable() == ["middle.0", "last"]
    assert [tap.name for tap in network.anatomy.taps] == ["middle", "last"]
    own_taps = build(options.counting(["digits", "--network", "net.py:OfHouse", "--conv", "Sep"]))
    assert own_taps.swappable() == ["middle.0"] and len(own_taps(torch.empty(1, 3, 32, 32, device="meta")).taps) == 1

    teacher = ["digits", "teacher", "-t", "t", *RUN]
    assert main.main([*teacher, "--until", "1"]) == 0
    assert 0.4 < saved(own, "t")["model"]["scale"].mean() < 0.6
    shutil.copytree(own, own / "whole")
    (own / "sub").mkdir(), shutil.move(own / "net.py", own / "sub/net.py")  # resumed from there
    elsewhere = ["sub/net.py:Net" if each == "net.py:Net" else each for each in teacher]
    assert main.main([*elsewhere, "--resume"]) == 0
    shutil.copy(own / "sub/net.py", own / "net.py")
    student = ["digits", "student", "-t", "t", "-s", "s", *RUN, "--conv", "SepHashed_0.5", "--beta", "1"]
    assert main.main(student) == 0 and "train_loss_attention" in rows_of(own, "s")[-1]
    assert main.main(["digits", "teacher", "-t", "whole", *RUN]) == 0
    assert all(torch.equal(each, saved(own, "whole")["model"][name]) for name, each in saved(own, "t")["model"].items())
    assert differences(saved(own, "t")["config"], saved(own, "whole")["config"] | {"teacher_checkpoint": "t"}) == []

    (own / "net.py").write_text(NETWORK + "\n")
    capsys.readouterr()
    changed = "the digest of --network's file was"
    assert changed in refused(capsys, main.main, *teacher, "--resume")[1]
    (own / "sub/net.py").write_text(NETWORK + "\n")
    of_old = "the run 't' needs sub/net.py as it was when it was trained"
    assert of_old in refused(capsys, main.main, *["s2" if each == "s" else each for each in student])[1]


def test_loss_of_a_file(own, capsys):
    """Takes the place of the cross-entropy with the labels, alone and taught; the whole loss where it is a Criterion."""
    tiny = ["--wrn_depth", "10", "--wrn_width", "0.25", "--train_size", "128", "--epochs", "1", "--lr", "0.01"]
    for name, loss in (("plain", []), ("same", ["--loss", "loss.py:Same"]), ("smooth", ["--loss", "loss.py:Smooth"])):
        assert main.main(["digits", "teacher", "-t", name, *tiny, *loss]) == 0
    plain, same, smooth = (rows_of(own, name)[-1] for name in ("plain", "same", "smooth"))
    assert same["train_loss_same"] == plain["train_loss"] and "train_loss_cross_entropy" not in same
    assert smooth["train_loss_smooth"] != same["train_loss"] and saved(own, "smooth")["config"]["loss_digest"]
    taught = ["digits", "student", "-t", "plain", *tiny, "--conv", "Sep"]
    assert main.main([*taught, "-s", "both", "--loss", "loss.py:Smooth", "--alpha", "0.5"]) == 0
    assert {"train_loss_smooth", "train_loss_distillation", "train_loss_attention"} <= rows_of(own, "both")[-1].keys()
    assert main.main([*taught, "-s", "logits", "--loss", "loss.py:Logits", "--alpha", "0.5"]) == 0
    row = rows_of(own, "logits")[-1]
    assert row["train_loss_logits"] == row["train_loss"] and "train_loss_attention" not in row
    capsys.readouterr()
    wrong = refused(capsys, main.main, *taught, "-s", "x", "--loss", "loss.py:Logits", "--beta", "3")[1]
    assert wrong == "error: --beta 3.0: the class of --loss loss.py:Logits takes no beta"
    kept = [*taught, "-s", "x", "--loss", "loss.py:Logits", "--cache_teacher", "--augment", "none"]
    assert "--cache_teacher: the class" in refused(capsys, main.main, *kept)[1]


WRONG = {
    ("--network", "net.py"): "name its class too, as net.py:CLASS",
    ("--network", "net.py:3"): "'3' is not the name of a class",
    ("--network", "net.py:Nett"): "defines no class Nett; did you mean 'Net'?",
    ("--network", "net.py:function"): "defines no class function",
    ("--network", "no.py:Net"): "--network no.py cannot be read: No such file",
    ("--network", "broken.py:Net"): "--network broken.py, line 1: SyntaxError",
    ("--network", "net.py:NoClasses"): "the class takes no argument classes or num_classes",
    ("--network", "net.py:Raises"): "--network net.py:Raises: ValueError: of no use",
    ("--network", "net.py:Narrow"): "does not take images of 32×32",
    ("--network", "net.py:Nothing"): "is no torch.nn.Module with parameters",
    ("--network", "net.py:Net", "--wrn_depth", "10"): "--wrn_depth is not a flag of --network net.py:Net",
    ("--loss", "loss"): "does not have the form FILE.py:CLASS",
    ("--loss", "loss.py:Same2"): "defines no class Same2; did you mean 'Same'?",
    ("--loss", "loss.py:Hits"): "a finite scalar that depends on the logits is wanted",
    ("--loss", "loss.py:OfTwo"): "--loss loss.py:OfTwo: RuntimeError: weight tensor",
    ("--loss", "loss.py:Learnt"): "has parameters, which nothing would train",
    ("--loss", "loss.py:Number"): "cannot be called with logits and labels",
    ("--loss", "loss.py:Logits"): "needs a teacher, so it goes with student mode",
}


@pytest.mark.parametrize("flags", WRONG)
def test_what_is_refused(own, capsys, flags):
    """In one line, before anything is written."""
    (own / "broken.py").write_text("class Net(:\n")
    before = sorted(own.rglob("*"))
    assert WRONG[flags] in refused(capsys, main.main, "digits", "teacher", "-t", "x", "--train_size", "64", *flags)[1]
    assert sorted(own.rglob("*")) == before
