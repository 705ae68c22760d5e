"""Callbacks and losses by name: which a configuration chooses, in which order, and flags of newly registered ones."""

import subprocess
import sys

import pytest
import torch
from small_runs import ROOT

from cli import options
from cli.flags import training_parser
from distill import Distill, Supervised
from models.build import build
from record.identity import differences
from system.arguments import Flag, number
from system.errors import RequestError
from training import registry
from training.callbacks import ClipGradient, DropPath
from training.registry import Entry

TEACHER = ["digits", "teacher", "-t", "x"]
STUDENT = ["digits", "student", "-t", "x", "-s", "y"]


def resolve(*flags):
    return options.training([*TEACHER, *flags])


def test_built_in_callbacks_are_in_order():
    darts = ("--network", "DARTS")
    drop_path, clip = registry.callbacks(resolve(*darts))
    assert isinstance(drop_path, DropPath) and isinstance(clip, ClipGradient)
    assert (drop_path.probability, clip.norm) == (0.2, 5.0)
    assert [type(each) for each in registry.callbacks(resolve(*darts, "--drop_path_prob", "0"))] == [ClipGradient]
    assert registry.callbacks(resolve()) == []


def test_the_loss_follows_the_mode():
    assert type(registry.criterion(resolve())) is Supervised
    request = options.training([*STUDENT, "--alpha", "0.5", "--beta", "2", "--temperature", "3"])
    loss = registry.criterion(request, torch.nn.Linear(2, 2))
    assert type(loss) is Distill and (loss.alpha, loss.beta, loss.temperature) == (0.5, 2.0, 3.0)
    unused = resolve("--alpha", "0.", "--beta", "1e3")  # as the published commands give them to networks alone too
    assert [unused[flag] for flag in ("temperature", "alpha", "beta", "cache_teacher")] == [None] * 4


@pytest.fixture
def toys():
    """Register a callback and two losses with flags of their own; undo it."""
    every = Flag("--toy_every", number(int, 1, 100), "steps between two cuts", default=10)
    registry.register_callback(Entry("toy", "toys:Toy", (Flag("--toy_cut", number(float, 0, 1), "share"), every)))
    registry.register_loss(
        Entry("smooth", "distill:Supervised", (Flag("--toy_smooth", number(float, 0, 1), "share"),), give=lambda _: {})
    )
    registry.register_loss(
        Entry("hint", "distill:Distill", (Flag("--toy_hint", number(float, 0, 1), "weight"),), needs_teacher=True)
    )
    yield
    del registry.CALLBACKS["toy"], registry.LOSSES["smooth"], registry.LOSSES["hint"]


def test_a_new_callback_has_flags_that_are_part_of_the_run(toys, monkeypatch):
    before = {key: value for key, value in resolve().items() if not key.startswith("toy_")}
    off, on = resolve(), resolve("--toy_cut", "0.5")
    assert (off.toy_cut, off.toy_every) == (None, None) and registry.callbacks(off) == []
    assert (on.toy_cut, on.toy_every) == (0.5, 10)
    assert differences(before, dict(off)) == []  # a run recorded before the flags existed goes on
    assert len(differences(before, dict(on))) == 2
    assert "\ntoy:\n  --toy_cut" in training_parser().format_help()
    built = type("toys", (), {"Toy": staticmethod(lambda **arguments: arguments)})
    monkeypatch.setitem(sys.modules, "toys", built)
    assert registry.callbacks(on) == [{"toy_cut": 0.5, "toy_every": 10}]
    with pytest.raises(RequestError, match="'2' is not a number of at least 0 and at most 1"):
        resolve("--toy_cut", "2")


def test_the_last_loss_that_is_chosen_wins(toys):
    assert registry.loss_of(resolve("--toy_smooth", "0.1")).name == "smooth"
    with pytest.raises(RequestError, match="--toy_smooth: the loss 'smooth' has no use for a teacher"):
        options.training([*STUDENT, "--toy_smooth", "0.1"])
    assert registry.loss_of(options.training(STUDENT)).name == "distill"
    assert registry.loss_of(options.training([*STUDENT, "--toy_smooth", "0.1", "--toy_hint", "1"])).name == "hint"
    with pytest.raises(RequestError, match="--toy_hint: the loss 'hint' needs a teacher, so it goes with student mode"):
        resolve("--toy_hint", "0.5")


def test_names_and_flags_are_taken_once(toys):
    with pytest.raises(ValueError, match="there is a 'toy' already"):
        registry.register_callback(Entry("toy", "toys:Toy"))
    with pytest.raises(ValueError, match="declares flags of another entry: .*--clip_grad"):
        registry.register_loss(Entry("other", "toys:Toy", (Flag("--clip_grad", float),)))


def test_registries_import_no_torch():
    code = "import sys, training.registry, models.registry, cli.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_every_target_exists():
    from pkgutil import resolve_name

    from models.registry import NETWORKS

    for entry in (*registry.entries(), *NETWORKS.values()):
        assert callable(resolve_name(entry.target))
    assert all(callable(resolve_name(each.read_size)) for each in NETWORKS.values() if each.read_size)
    assert build(resolve()).swappable()
