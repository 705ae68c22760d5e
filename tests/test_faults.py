"""What happens to a run from outside: signals, memory and disks that are full, data that vanishes, a clock that jumps."""

import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from children import Child
from results import rows_of, same_run, saved
from small_runs import TINY, process

DIGITS = ["digits", "teacher", "-t", "t", *TINY]
AGAIN = "repeat the command with --resume to go on"


@pytest.mark.parametrize(
    "number, name, status",
    [
        (signal.SIGINT, "Ctrl-C", 130),
        pytest.param(signal.SIGTERM, "SIGTERM", 143, marks=pytest.mark.long),
        pytest.param(signal.SIGUSR1, "SIGUSR1", 143, marks=pytest.mark.long),
    ],
)
def test_a_signal_in_a_step(teacher, workplace, number, name, status):
    child = Child(*DIGITS, cwd=workplace, pause=("step", 22, 0.5))  # the tenth of the second epoch
    assert child.reaches_pause()
    child.send(number)
    assert child.wait() == status
    told = [line for line in child.stderr.splitlines() if line and "Ctrl-C again" not in line]
    assert told == [f"stopped by {name}; 1 of 2 epochs and 10 steps are kept, {AGAIN}"]
    assert (saved(workplace, "t")["epoch"], saved(workplace, "t")["step"]) == (1, 10)
    again = Child(*DIGITS, "--resume", cwd=workplace)
    assert again.wait() == 0 and "resuming after 1 of 2 epochs and 10 steps" in again.stdout
    assert same_run(teacher, workplace, "t")


def test_a_signal_in_the_evaluation(teacher, workplace):
    child = Child(*DIGITS, cwd=workplace, pause=("evaluation", 1, 0.5))
    assert child.reaches_pause()
    child.send(signal.SIGTERM)
    assert child.wait() == 143
    assert (saved(workplace, "t")["epoch"], saved(workplace, "t")["step"]) == (1, 13)
    assert Child(*DIGITS, "--resume", cwd=workplace).wait() == 0
    assert same_run(teacher, workplace, "t")


def test_a_signal_as_the_last_checkpoint_is_written_changes_nothing(teacher, workplace):
    child = Child(*DIGITS, cwd=workplace, pause=("digest not written", 1, 0.5))
    assert child.reaches_pause()
    child.send(signal.SIGTERM)
    assert child.wait() == 0 and "Error@1" in child.stdout
    assert same_run(teacher, workplace, "t")


def test_a_second_ctrl_c_stops_at_once(workplace):
    child = Child(*DIGITS, cwd=workplace, pause=("step", 3))
    assert child.reaches_pause()
    child.send(signal.SIGINT)
    assert child.until(lambda: "Ctrl-C again stops at once" in child.stderr, 10)
    began = time.monotonic()
    child.send(signal.SIGINT)
    assert child.wait() == -signal.SIGINT and time.monotonic() - began < 2
    assert not (workplace / "checkpoints/t.pt").exists()


def test_signals_that_come_again_and_again(teacher, workplace):
    """One line, the status of the first, and the checkpoint is written all the same."""
    child = Child(*DIGITS, cwd=workplace, pause=("step", 22, 0.5))
    assert child.reaches_pause()
    with suppress(ProcessLookupError):  # it may end between a look and a signal
        while child.process.is_alive():
            child.send(signal.SIGTERM), child.send(signal.SIGUSR1)
            time.sleep(0.005)
    assert child.wait() == 143
    (told,) = child.stderr.splitlines()
    assert re.fullmatch(f"stopped by SIG(TERM|USR1); 1 of 2 epochs and 10 steps are kept, {AGAIN}", told)


def test_ctrl_c_that_nobody_hears(teacher, workplace):
    """It has ended the reader of stderr too, as in `2>&1 | tee log`: the step and the checkpoint are not lost with it."""
    child = Child(*DIGITS, cwd=workplace, pause=("step", 22, 0.5), prepare=partial(lose_the_reader_of, 2))
    assert child.reaches_pause()
    child.send(signal.SIGINT)
    assert child.wait() == 130
    assert (saved(workplace, "t")["epoch"], saved(workplace, "t")["step"]) == (1, 10)


def lose_the_reader_of(number: int) -> None:
    reader, writer = os.pipe()
    os.dup2(writer, number), os.close(reader)


def test_a_signal_before_the_first_step(workplace):
    child = Child(*DIGITS, cwd=workplace, pause=("loading", 0))
    assert child.reaches_pause()
    child.send(signal.SIGTERM)
    assert (child.wait(), child.stderr) == (143, "stopped by SIGTERM\n") and list(workplace.iterdir()) == []
    child = Child(*DIGITS, cwd=workplace, pause=("record", 0))
    assert child.reaches_pause()
    child.send(signal.SIGINT)
    assert child.wait() == 130


@pytest.mark.parametrize(
    "number, status, after",
    [(signal.SIGINT, 130, 0.0), (signal.SIGTERM, 143, 0.6), (signal.SIGUSR1, 143, 0.6), (signal.SIGHUP, 143, 0.6)],
)
def test_a_signal_as_a_process_starts(workplace, number, status, after):
    heard = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # even if these tests were started by nohup
    child = process(*DIGITS, cwd=workplace, preexec_fn=heard)
    while not catches(child.pid, signal.SIGUSR1):
        time.sleep(0.01)
    time.sleep(after)  # within the import of the flags, or of torch
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == status and len(err.splitlines()) == 1 and err.startswith("stopped by ")
    assert list(workplace.iterdir()) == []


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    (mask,) = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_nothing_that_a_run_started_survives_it(workplace):
    """Its process group is empty when it has been killed."""
    child = process(*DIGITS, "--epochs", "50", cwd=workplace, start_new_session=True)
    assert any(line.startswith("epoch 1/") for line in child.stdout)
    child.kill()
    child.communicate(timeout=60)
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)


def test_checkpoints_within_an_epoch(teacher, workplace):
    child = Child(*DIGITS, "--checkpoint_every", "4", cwd=workplace, pause=("step", 25))  # the 13th of the second epoch
    assert child.reaches_pause()
    child.kill()
    assert (saved(workplace, "t")["epoch"], saved(workplace, "t")["step"]) == (1, 12)
    assert len(rows_of(workplace, "t")) == 1
    assert Child(*DIGITS, "--resume", cwd=workplace).wait() == 0
    assert same_run(teacher, workplace, "t")


def limit_memory(extra: int) -> None:
    """So many bytes more than the process has now."""
    import resource

    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + extra,) * 2)


def test_out_of_memory_says_what_helps(workplace):
    flags = ["--wrn_width", "4", "--batch_size", "1500", "--train_size", "1500"]
    child = Child(*DIGITS, *flags, cwd=workplace, prepare=partial(limit_memory, 600_000_000))
    assert child.wait() == 4
    (told,) = child.stderr.splitlines()
    assert told == (
        "error: out of memory on cpu: a --batch_size below 1500 needs less memory, --checkpoint_activations too; "
        f"0 of 2 epochs are kept, {AGAIN}"
    )


def test_memory_that_runs_out_later_loses_no_epoch(workplace, teacher):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    longer = ["digits", "teacher", "-t", "u", *TINY]

    child = Child(*longer, cwd=workplace, prepare=fail_in_the_second_epoch)
    assert child.wait() == 4 and "out of memory on cpu" in child.stderr and "1 of 2 epochs are kept" in child.stderr
    assert Child(*longer, "--resume", cwd=workplace).wait() == 0


def fail_in_the_second_epoch() -> None:
    from training import step as training_step

    original, steps = training_step.TrainStep.__call__, []

    def step(*arguments):
        steps.append(1)
        if len(steps) == 19:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.\nSee the documentation")
        return original(*arguments)

    training_step.TrainStep.__call__ = step


def test_output_that_nobody_takes(workplace, teacher):
    """A full disk under the log, and a reader that has left: told in one line, and nothing of the run is lost."""
    child = Child(*DIGITS, cwd=workplace, prepare=fill_the_log)
    assert (child.wait(), child.stderr) == (4, "error: standard output: No space left on device\n")
    assert list(workplace.iterdir()) == []
    child = Child(*DIGITS, cwd=workplace, prepare=lose_the_reader_after_an_epoch)
    assert child.wait() == 4
    assert child.stderr == f"error: standard output: Broken pipe; 1 of 2 epochs are kept, {AGAIN}\n"
    assert Child(*DIGITS, "--resume", cwd=workplace).wait() == 0
    assert same_run(teacher, workplace, "t")


def fill_the_log() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def lose_the_reader_after_an_epoch() -> None:
    from training.report import Report

    epoch = Report.epoch
    Report.epoch = lambda *arguments: lose_the_reader_of(1) or epoch(*arguments)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and only others are refused by permissions")
def test_a_read_only_folder(workplace, teacher):
    """As a whole, and where only checkpoints cannot be written: noticed before training."""
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    command = ["digits", "teacher", "-t", "u", *TINY]
    for part, path in ((".", "runs/u/lock"), ("checkpoints", "checkpoints")):
        place = (workplace / part).resolve()
        subprocess.run(["mount", "--bind", place, place], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
            child = Child(*command, cwd=workplace)
            assert child.wait() == 4 and "epoch 1" not in child.stdout
            assert len(child.stderr.splitlines()) == 1 and f"error: {path} cannot be written: " in child.stderr
        finally:
            subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_without_room_is_noticed_before_training(workplace):
    child = Child(*DIGITS, cwd=workplace, prepare=leave_a_thousand_bytes)
    assert child.wait() == 4 and list(workplace.iterdir()) == []
    assert child.stderr.startswith("error: checkpoints/ has 1,000 bytes free, this run needs ")


def leave_a_thousand_bytes() -> None:
    from record import checkpoint

    room = checkpoint.room
    checkpoint.room = lambda path, size: (room(path, size)[0], 1000)


def test_a_clock_that_jumps(workplace, teacher):
    """Back by a day and forth by years: the same run, and times that are not negative."""
    child = Child(*DIGITS, cwd=workplace, prepare=jump)
    assert child.wait() == 0, child.stderr
    assert same_run(teacher, workplace, "t")
    assert all(0 < row["seconds"] < 60 for row in rows_of(workplace, "t"))


def jump() -> None:
    calls, now = [], time.time

    def clock():
        calls.append(1)
        return now() + (-86400, 3e8)[len(calls) % 2]

    time.time = clock


def test_a_dataset_that_vanishes(workplace):
    """It is in memory from the first step on."""
    from samples import tree, write_folder

    write_folder(workplace / "data/cifar10", tree())
    command = ["cifar10", "teacher", "-t", "t", *TINY, "--train_size", "15"]
    child = Child(*command, cwd=workplace, pause=("step", 0, 0.5))
    assert child.reaches_pause()
    shutil.rmtree(workplace / "data")
    assert child.wait() == 0
    assert "15 of CIFAR-10's 50,000 training images" in child.stdout
    child = Child(*command, "--resume", cwd=workplace)
    assert child.wait() == 2 and "no cifar10: looked for" in child.stderr
