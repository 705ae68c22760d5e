"""--cache_teacher: the same losses, the teacher is asked once, and a resumed run is the unbroken one to the bit."""

import copy
from contextlib import nullcontext
from itertools import islice

import pytest
import torch
from photo_samples import photographs
from results import refused, rows_of, same, saved
from samples import write_folder
from small_runs import TINY
from torch import nn

import main
from distill import Distill
from input import places
from input.augment import Augmentation
from input.batches import BatchPlan
from input.datasets import DATASETS
from input.memory import Data
from input.photos.loader import Photos
from models.build import plain as build
from models.output import Output
from system import memory
from system.errors import MachineFault
from training.device import to_device
from training.loop import Progress, fit
from training.optim import sgd
from training.rates import Cosine
from training.step import TrainStep
from training.teacher_cache import fill, reserve

STILL = Augmentation(crop=False, flip=False, cutout=0)


@pytest.fixture(scope="module")
def digits():
    """100 images in batches of 32, of which the last has 4."""
    data = Data(
        places.find("digits", None).read(1),
        DATASETS["digits"],
        BatchPlan(STILL, 32, seed=0, train_size=100, val_size=9),
    )
    data.test = data.test.head(8)
    return data


def wrn(seed):
    torch.manual_seed(seed)
    network = build({"network": "WideResNet", "wrn_depth": 10, "wrn_width": 0.25, "AT_split": 1}, classes=10)
    return to_device(network, torch.device("cpu"))


def train(data, cached, resumed=None):
    """Train for two epochs in parts; return every moment, and how often the teacher was asked."""
    teacher, student, calls = wrn(1), wrn(2), []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    optimizer = sgd(student, [], 0.1, 0.9, 1e-3, 1.0)
    step = TrainStep(student, Distill(teacher, 0.5, 1000.0, 4.0), optimizer, parts=3)
    if cached:
        step.criterion.cache = reserve(step.criterion, data, nullcontext)
        fill(step, data)
    moments = fit(step, data, Cosine(0.1), 2, resumed, checkpoint_every=2)
    return [Progress(row, copy.deepcopy(state)) for row, state in moments], len(calls)


def test_the_same_losses_and_to_the_bit_from_every_moment(digits):
    (plain, often), (whole, once) = train(digits, False), train(digits, True)
    assert (often, once) == (2 * 4 * 3, 1 + 4 * 3)  # one image tells the sizes
    rows = [[moment.row for moment in run if moment.row] for run in (plain, whole)]
    assert same(rows[0][0], rows[1][0])  # the batches of the first epoch are those that the teacher was asked about
    for name in ("loss", "loss_attention", "loss_distillation", "loss_cross_entropy"):
        assert rows[1][1][f"train_{name}"] == pytest.approx(rows[0][1][f"train_{name}"], rel=1e-5)
    assert len(whole) == 4
    for number, moment in enumerate(whole[:-1]):
        rest, asked = train(digits, True, moment.state)
        assert asked == once and len(rest) == len(whole) - number - 1
        assert same(rest[-1].state, whole[-1].state) and same(rest[-1].row, whole[-1].row)


def test_what_it_keeps_is_what_the_teacher_says(digits):
    criterion = Distill(wrn(1), 0.5, 1000.0, 4.0)
    step = TrainStep(wrn(2), criterion, sgd(wrn(2), [], 0.1, 0.9, 0.0, 1.0))
    criterion.cache = cache = reserve(criterion, digits, nullcontext)
    fill(step, digits)
    batch = next(digits.train(1))  # in another order
    for kept, said in zip(cache(batch.numbers).tensors(), criterion.ask(batch.x).tensors(), strict=True):
        torch.testing.assert_close(kept, said, rtol=1e-5, atol=1e-6)
    size = 4 * 100 * (10 + sum(tap.shape[2] * tap.shape[3] for tap in criterion.teacher(batch.x).taps))
    assert cache.kept.bytes() == size and f"take {size / 1e6:.1f} MB of memory on cpu" in cache.line()


class Tapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 1000, 8, 8)

    def forward(self, x):
        feature = self.convolution(x)
        return Output(feature.mean((2, 3)), [feature])


def test_photographs_that_are_left_out(tmp_path):
    """Whole batches and parts of them; one that comes back later is a fault, and no wrong answer."""
    write_folder(tmp_path / "imagenet", photographs(2))
    index = places.find("imagenet", tmp_path).read(1)
    plan = BatchPlan(STILL, 2, seed=0)
    first, *_, last = index.train.order(0, 0).split(2)
    lost = [*first.tolist(), last[0].item()]
    paths = [tmp_path / "imagenet" / index.train.name(number) for number in lost]
    kept = paths[0].read_bytes()
    for path in paths:
        path.unlink()

    def run(cached):
        photos = Photos(index, DATASETS["imagenet"], plan, side=32)
        torch.manual_seed(0)
        teacher, student = Tapped(), Tapped()
        step = TrainStep(student, Distill(teacher, 0.5, 10.0, 4.0), sgd(student, [], 0.1, 0.9, 0.0, 1.0), parts=2)
        if cached:
            step.criterion.cache = reserve(step.criterion, photos, nullcontext)
            fill(step, photos)
        return [step(batch).sums() for epoch in range(2) for batch in photos.train(epoch)], step, photos

    (plain, _, _), (losses, step, photos) = run(False), run(True)
    for found, expected in zip(losses, plain, strict=True):
        assert found == pytest.approx(expected, rel=1e-5)
    assert [each["images"] for each in losses[:3]] == [0, 2, 1]
    paths[0].write_bytes(kept)
    with pytest.raises(MachineFault, match=f"training image {lost[0]} can be read now, but could not when the teacher"):
        for batch in photos.train(0):
            step(batch)


def test_a_run_with_it(teacher, workplace, capsys, monkeypatch):
    """It is no part of what a run is; a run that is stopped goes on to the same end; where memory is short it is refused."""
    for path in ("checkpoints/t.pt", "runs/t/config.json"):
        (workplace / path).parent.mkdir(parents=True, exist_ok=True)
        (workplace / path).write_bytes((teacher / path).read_bytes())
    still = ["--augment", "none", "--train_size", "100", "--batch_size", "32", "--checkpoint_every", "3"]
    flags = ["digits", "student", "-t", "t", *TINY, *still]
    for name, cached in (("plain", []), ("a", ["--cache_teacher"])):
        assert main.main([*flags, "-s", name, *cached]) == 0
    assert "teacher: its answers for 100 training images are computed once and take" in capsys.readouterr().out
    for row, other in zip(rows_of(workplace, "a"), rows_of(workplace, "plain"), strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
    flags += ["-s", "b", "--cache_teacher"]
    with monkeypatch.context() as patch:
        patch.setattr(main, "fit", lambda *arguments, **keywords: islice(fit(*arguments, **keywords), 3))
        assert main.main(flags) == 0  # after an epoch and three steps
    assert main.main([*flags, "--resume", "--dry_run"]) == 0 and main.main([*flags, "--resume"]) == 0
    assert same(saved(workplace, "a")["model"], saved(workplace, "b")["model"]) and len(rows_of(workplace, "b")) == 2
    monkeypatch.setattr(memory, "free", lambda: 1000)
    told = r"--cache_teacher: the teacher's answers for 100 images take 0.5 MB, more than half of the free memory, which is"
    assert told in refused(capsys, main.main, *flags[:-2], "c", "--cache_teacher")[1]


def test_the_memory_that_is_free(tmp_path, monkeypatch):
    """The least of what the machine and the control groups leave; what makes no sense sets no limit."""
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "groups")
    assert memory.free() > 1e6  # all memory: the system says nothing
    own = tmp_path / "groups/user/job"
    for folder in (tmp_path / "proc/self", own):
        folder.mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("1:cpu:/else\n0::/user/job\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:  5000 kB\n")
    for folder, limit in ((own, "max"), (own.parent, "4000000")):
        for name, text in (("max", limit), ("current", "3000000"), ("stat", "anon 1\ninactive_file 500000\n")):
            (folder / f"memory.{name}").write_text(text)
    assert memory.free() == 1_500_000
    (own.parent / "memory.max").write_text("9000000")
    assert memory.free() == 5000 * 1024
