"""Several processes that train one network: the same numbers as one process, one writer, and an end in common."""

import copy
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from children import Child
from ranks import Ranks
from results import rows_of, same_run, saved
from small_runs import ROOT, TINY
from torch import nn

import main
from cli import command as cli_command
from distill import Supervised
from input.batches import Batch, Share
from models.output import Output
from training.optim import sgd
from training.step import TrainStep

DIGITS = ["digits", "teacher", "-t", "r", *TINY]
SMOOTH = [
    "--wrn_depth",
    "10",
    "--wrn_width",
    "1",
    "--epochs",
    "1",
    "--sync_bn",
    "--lr",
    "0.0002",
    "--batch_size",
    "250",
    "--train_size",
    "500",
]
CONVS = "groups.0=ACDC_2,groups.1=TensorTrain_0.5,.*=SepHashed_0.5"
STUDENT = ["digits", "student", "-t", "t", "-s", "r", "--conv", CONVS, "--alpha", "0.3", *SMOOTH]
LOSSES = ("train_loss", "train_loss_cross_entropy", "train_loss_distillation", "train_loss_attention", "test_loss")


@pytest.fixture(scope="module")
def one_process(tmp_path_factory, teacher):
    """What a single process makes of the student."""
    folder = tmp_path_factory.mktemp("one") / "run"
    shutil.copytree(teacher, folder)
    assert Child(*STUDENT, cwd=folder).wait() == 0
    return rows_of(folder, "r")[0]


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.long)])
def test_the_losses_are_those_of_one_process(count, teacher, workplace, one_process):
    """A student with attention transfer and distillation, two batches of 250 images: 125 + 125, 84 + 83 + 83."""
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    ranks = Ranks(count, *STUDENT, cwd=workplace)
    assert ranks.wait() == [0] * count and ranks.told == []
    (row,) = rows_of(workplace, "r")
    for loss in LOSSES:
        assert row[loss] == pytest.approx(one_process[loss], rel=1e-5), loss
    for split in ("train", "test"):
        for error in ("top1_error", "top5_error"):
            assert row[f"{split}_{error}"] == one_process[f"{split}_{error}"]
    assert ranks.stdout.count("epoch 1/1") == 1 and ranks.stdout.count("\nError@1") == 1


def test_each_test_image_is_counted_once(teacher, workplace, one_process):
    """By any number of processes: 297 images, batches of 64, of which the last has 41."""
    printed = set()
    for count in (1, 2, 3):
        shutil.copytree(teacher, workplace / str(count))
        ranks = Ranks(count, "digits", "teacher", "-t", "t", "--evaluate", cwd=workplace / str(count))
        assert ranks.wait() == [0] * count
        printed.add(ranks.stdout.splitlines()[-1])
    (line,) = printed
    last = rows_of(teacher, "t")[-1]
    assert line == f"Error@1 {last['test_top1_error']:.2f} Error@5 {last['test_top5_error']:.2f}"


def test_a_lost_process_ends_the_others_and_the_run_goes_on(workplace):
    ranks = Ranks(2, *DIGITS, cwd=workplace, pause=("step", 22, 0.3))
    ranks.reach_pause()
    began = time.monotonic()
    ranks.children[1].kill()
    assert ranks.wait(60) == [4, -signal.SIGKILL] and time.monotonic() - began < 60
    (told,) = ranks.told
    assert told.startswith("error: another process of this run was lost, so process 0 on ")
    assert saved(workplace, "r")["epoch"] == 1 and len(rows_of(workplace, "r")) == 1
    for count in (1, 3):
        shutil.copytree(workplace, folder := workplace.with_name(f"{workplace.name}.{count}"))
        ranks = Ranks(count, *DIGITS, "--resume", cwd=folder)
        assert ranks.wait() == [0] * count and "resuming after 1 of 2 epochs" in ranks.stdout
        assert len(rows_of(folder, "r")) == 2


@pytest.mark.long
def test_a_stopped_process_is_lost_too(workplace):
    """A machine that hangs says nothing: the others do not wait for it for ever."""
    long = [*DIGITS[:-1], "50"]
    ranks = Ranks(2, *long, cwd=workplace, pause=("step", 3, 0.3), prepare=[be_impatient, be_impatient])
    ranks.reach_pause()
    ranks.send(signal.SIGSTOP, to=1)
    try:
        assert ranks.children[0].wait(30) == 4
    finally:
        ranks.children[1].kill()


def be_impatient() -> None:
    from distributed import heartbeat

    heartbeat.LOST, heartbeat.GRACE = 3.0, 1.0


@pytest.mark.parametrize("receiver", [1, pytest.param(0, marks=pytest.mark.long)])
def test_a_signal_to_one_stops_both_and_they_go_on_to_the_same_end(receiver, workplace, tmp_path_factory):
    """With pruning in the last epoch, whose masks are the same in both."""
    whole, pruned = (
        tmp_path_factory.mktemp("whole") / "run",
        [*DIGITS, "--prune", "TopK_0.2", "--prune_at", "1", "--gate", "Naive_0.5"],
    )
    whole.mkdir()
    assert Ranks(2, *pruned, cwd=whole, prepare=[keep_masks] * 2).wait() == [0, 0]
    one, other = (torch.load(whole / f"masks.{rank}") for rank in "01")
    assert one and all(map(torch.equal, one, other)) and rows_of(whole, "r")[-1]["active_fraction"] < 0.2
    ranks = Ranks(2, *pruned, cwd=workplace, pause=("step", 22, 0.5), prepare=[ask_at_every_step] * 2)
    ranks.reach_pause()
    ranks.send(signal.SIGTERM, to=receiver)
    assert ranks.wait() == [143, 143]
    (told,) = ranks.told
    assert told.startswith("stopped by SIGTERM; 1 of 2 epochs and 10 steps are kept")
    assert len(saved(workplace, "r")["rng"]["others"]) == 1
    assert Ranks(2, *pruned, "--resume", cwd=workplace).wait() == [0, 0]
    assert same_run(whole, workplace, "r")


def keep_masks() -> None:
    """Save the masks of this process when it has pruned."""
    from sparsity.prune import Prune

    apply = Prune._apply

    def _apply(self, step, masks):
        apply(self, step, masks)
        torch.save(masks, f"masks.{os.environ['RANK']}")

    Prune._apply = _apply


def ask_at_every_step() -> None:
    from distributed import stop

    stop.MOST = 1


def test_what_ends_all_is_told_once(teacher, workplace):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    for arguments, others, status, words in (
        (["digits", "teacher", "-t", "t", *TINY], [], 2, "error: the run 't' is finished"),
        ([*DIGITS, "--lr", "1e30"], [], 3, "error: the loss is not finite in step"),
        ([*DIGITS, "--batch_size", "1"], [], 2, "error: --batch_size 1: 2 processes need an image each"),
        ([*DIGITS, "--conv", "Sepp"], [], 2, "error: "),
        (DIGITS, ["--seed", "1"], 2, "error: process 1 is given another run than process 0: seed was 0, is 1"),
    ):
        ranks = Ranks(2, *arguments, cwd=workplace, others=others)
        assert ranks.wait() == [status, status]
        (told,) = ranks.told
        assert told.startswith(words)
        shutil.rmtree(workplace / "runs/r", ignore_errors=True)


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_fault_of_one_ends_the_other_in_silence(rank, workplace):
    """It could not save, or has no memory left."""
    prepare = [be_impatient, be_impatient]
    prepare[rank] = lose_the_disk if rank == 0 else lose_the_memory
    ranks = Ranks(2, *DIGITS, cwd=workplace, prepare=prepare)
    assert ranks.wait() == [4, 4]
    (told,) = ranks.told
    assert ("disk is full; 0 of 2 epochs are kept" if rank == 0 else "out of memory on cpu") in told
    assert (workplace / "runs/r/end.json").exists()


def lose_the_disk() -> None:
    from record import run
    from system.errors import MachineFault

    def save(*arguments):
        raise MachineFault("the disk is full")

    run.save = save


def lose_the_memory() -> None:
    from training import step as training_step

    def step(*arguments):
        raise MemoryError

    training_step.TrainStep.__call__ = step


@pytest.mark.long
def test_one_process_for_each_gpu_by_itself(workplace):
    """As `--GPU 0,1` starts them; on the CPU they take no GPU."""
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from cli import command; from distributed import launch;"
        f"sys.argv = [{str(ROOT / 'main.py')!r}, *sys.argv[1:]]; sys.exit(command.run(lambda: launch.start_on_each([0, 1])))"
    )
    start = lambda *flags: subprocess.Popen(  # noqa: E731
        [sys.executable, "-c", script, *DIGITS, *flags], cwd=workplace, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    first = start("--batch_size", "400")
    out, err = first.communicate(timeout=100)
    assert first.returncode == 0 and err == "" and out.count("epoch 2/2") == 1 and "on 2 processes" in out
    refused = start("--conv", "Nonsense")
    out, err = refused.communicate(timeout=60)
    assert refused.returncode == 2 and len(err.splitlines()) == 1


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(12, 10)

    def forward(self, x):
        return Output(self.linear(x.flatten(1)), [])


@pytest.mark.parametrize("parts", [2, 3, 50])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(parts):
    batch = Batch(torch.randn(7, 3, 2, 2), torch.randint(10, (7,)), 7, 7)
    whole, model = Plain(), Plain()
    model.load_state_dict(whole.state_dict())
    measured = []
    for network, count in ((whole, 1), (model, parts)):
        step = TrainStep(network, Supervised(), sgd(network, [], 0.1, 0.9, 0.0, 1.0), [], parts=count)
        measured.append(step(batch))
    assert measured[0].sums() == pytest.approx(measured[1].sums(), rel=1e-5)
    assert torch.allclose(measured[0].gradient_norm, measured[1].gradient_norm, rtol=1e-5)
    for a, b in zip(whole.parameters(), model.parameters()):
        assert torch.allclose(a, b, atol=1e-6) and torch.allclose(a.grad, b.grad, atol=1e-6)


def test_images_that_are_left_out_or_only_stand_in_do_not_count():
    x, y, model = torch.randn(3, 3, 2, 2), torch.randint(10, (3,)), Plain()

    def gradient(batch):
        network = copy.deepcopy(model)
        measured = TrainStep(network, Supervised(), sgd(network, [], 0.1, 0.9, 0.0, 1.0))(batch)
        return network.linear.weight.grad, measured

    full, _ = gradient(Batch(x, y, 3, 3))
    of_six, measured = gradient(Batch(x, y, 3, 6))
    assert torch.allclose(of_six, full / 2, atol=1e-7) and measured.images == 3
    none, measured = gradient(Batch(x[:1], y[:1], 0, 6))
    assert not none.any() and not any(measured.sums().values())


def test_shares_are_a_partition():
    numbers = torch.arange(28)
    shares = [Share(rank, 3).take(numbers) for rank in range(3)]
    assert sorted(torch.cat(shares).tolist()) == list(range(28)) and [len(share) for share in shares] == [10, 9, 9]


@pytest.mark.long
def test_torchrun_starts_a_run_again_that_lost_a_process(workplace):
    """torchrun itself, and its --max-restarts: the second start goes on from the checkpoint, by --resume."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--max-restarts=1"]
    command = [*command, str(ROOT / "main.py"), *DIGITS[:-1], "6", "--resume"]
    with (workplace / "log").open("w") as log:
        started = subprocess.Popen(command, cwd=workplace, stdout=log, stderr=log)
    metrics, deadline = workplace / "runs/r/metrics.jsonl", time.monotonic() + 60
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 2):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = subprocess.run(["pgrep", "-P", str(started.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    assert started.wait(100) == 0
    text = (workplace / "log").read_text()
    assert "resuming after " in text and len(rows_of(workplace, "r")) == 6


def test_other_data_in_another_process_is_noticed(workplace):
    """As on a machine that has its own copy: here one of them finds fewer images."""
    ranks = Ranks(2, *DIGITS, cwd=workplace, prepare=[None, lose_images])
    assert ranks.wait() == [2, 2]
    assert ranks.told == ["error: the processes do not find the same digits in scikit-learn's digits"]


def lose_images() -> None:
    from input.arrays import Images
    from input.source import Source

    read = Source.read

    def fewer(self, workers, keep=True):
        found = read(self, workers, keep)
        return Images(found.train[1:], found.train_labels[1:], found.test, found.test_labels)

    Source.read = fewer


def test_who_waits_for_the_others_can_be_stopped(workplace):
    """Torch waits where no handler of Python's is heard."""
    alone = Child(*DIGITS, cwd=workplace, prepare=wait_for_another)
    alone.until(lambda: (workplace / "waits").exists(), 30)
    time.sleep(1)
    alone.send(signal.SIGTERM)
    assert alone.wait(10) == -signal.SIGTERM and list(workplace.iterdir()) == [workplace / "waits"]


def wait_for_another() -> None:
    from pathlib import Path

    from ranks import free_port, member

    member(0, 2, free_port())
    Path("waits").touch()


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--batch_size", "1499"], "1 are in a batch"),
        (["--batch_size", "2", "--grad_accum", "2"], "2 are in a batch"),
    ],
)
def test_an_auxiliary_head_needs_two_images(flags, told, workplace, capsys):
    command = ["digits", "teacher", "-t", "r", "--network", "DARTS", *flags]
    assert cli_command.run(lambda: main.main(command)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line and "an auxiliary head needs two" in line and list(workplace.iterdir()) == []
