"""Networks and losses of a user's own files: trained, taught, resumed by what the files hold, refused in one line."""

import shutil

import pytest
import torch
from results import refused, rows_of, same, saved

import main
from cli import options
from models.build import build
from record.identity import differences
from schedules.collate import collate

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


class Wide(Net):
    def __init__(self, classes):
        super().__init__(2 * classes)


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


class Attention(nn.Module):  # has a state, and the name of a part
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, logits, labels):
        self.steps += 1
        return self.steps * F.cross_entropy(logits, labels)


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
    (own / "sub").mkdir(), shutil.move(own / "net.py", own / "sub/net.py")
    of_sub = ["./sub/net.py:Net" if each == "net.py:Net" else each for each in RUN]
    assert main.main(["digits", "teacher", "-t", "whole", *of_sub]) == 0
    assert main.main(["digits", "teacher", "-t", "t", *of_sub, "--resume"]) == 0
    shutil.move(own / "sub", own / "there")  # no record says so, the commands do
    of_there = [each.replace("sub", "there") for each in of_sub]
    student = ["digits", "student", "-t", "t", "-s", "s", *of_there, "--conv", "SepHashed_0.5", "--beta", "1"]
    assert main.main(student) == 0 and "train_loss_attention" in rows_of(own, "s")[-1]
    assert main.main(["digits", "teacher", "-t", "from", *of_there, "--init_from", "t", "--conv", "Sep"]) == 0
    assert main.main(["digits", "teacher", "-t", "t", *of_there, "--evaluate"]) == 0
    shutil.copy(own / "there/net.py", own / "net.py")  # or it is in the current folder
    assert main.main(["digits", "teacher", "-t", "t", "--evaluate"]) == 0
    assert main.main([*teacher, "--seed", "1", "--until", "1", "-t", "seeded"]) == 0
    rows = {each["name"]: each for each in collate([]).rows}
    assert {each["network"] for each in rows.values()} == {"net.py:Net"} and rows["t"]["group"] == rows["seeded"][
        "group"
    ]
    assert all(torch.equal(each, saved(own, "whole")["model"][name]) for name, each in saved(own, "t")["model"].items())
    assert differences(saved(own, "t")["config"], saved(own, "whole")["config"] | {"teacher_checkpoint": "t"}) == []

    (own / "net.py").write_text(NETWORK + "\n")
    capsys.readouterr()
    changed = "the digest of --network's file was"
    assert changed in refused(capsys, main.main, *teacher, "--resume")[1]
    (own / "there/net.py").write_text(NETWORK + "\n")
    of_old = "the run 't' needs ./sub/net.py as it was when it was trained, which is neither there"
    assert of_old in refused(capsys, main.main, *["s2" if each == "s" else each for each in student])[1]


def test_loss_of_a_file(own, capsys):
    """Takes the place of the cross-entropy with the labels, alone and taught; the whole loss where it is a Criterion."""
    tiny = ["--wrn_depth", "10", "--wrn_width", "0.25", "--train_size", "128", "--epochs", "1", "--lr", "0.01"]
    for name, loss in (("plain", []), ("same", ["--loss", "loss.py:Same"]), ("smooth", ["--loss", "loss.py:Smooth"])):
        assert main.main(["digits", "teacher", "-t", name, *tiny, *loss]) == 0
    plain, equal, smooth = (rows_of(own, name)[-1] for name in ("plain", "same", "smooth"))
    assert equal["train_loss_labels"] == plain["train_loss"] and "train_loss_cross_entropy" not in equal
    assert smooth["train_loss_labels"] != equal["train_loss"] and saved(own, "smooth")["config"]["loss_digest"]
    taught = ["digits", "student", "-t", "plain", *tiny, "--conv", "Sep"]
    both = [*taught, "--loss", "loss.py:Attention", "--alpha", "0.5", "--epochs", "2"]
    assert main.main([*both, "-s", "both"]) == main.main([*both, "-s", "stopped", "--until", "1"]) == 0
    assert main.main([*both, "-s", "stopped", "--resume"]) == 0
    assert {"train_loss_labels", "train_loss_distillation", "train_loss_attention"} <= rows_of(own, "both")[-1].keys()
    assert same(*(saved(own, name)["model"] for name in ("both", "stopped")))
    assert same(rows_of(own, "both"), rows_of(own, "stopped"))
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
    ("--network", "net.py:Wide"): "--network net.py:Wide returns 1×20 for one image: 10 logits are wanted",
    ("--network", "net.py:Nothing"): "is no torch.nn.Module with parameters",
    ("--network", "net.py:Net", "--wrn_depth", "10"): "--wrn_depth is not a flag of --network net.py:Net",
    ("--loss", "loss"): "does not have the form FILE.py:CLASS",
    ("--loss", "loss.py:Same2"): "defines no class Same2; did you mean 'Same'?",
    ("--loss", "loss.py:Hits"): "that depends on the logits is wanted, not one that does not depend on them",
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
