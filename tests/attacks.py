"""Attacks on runs on digits, after each of which they must end as if nothing had been: to the bit, no epoch lost.

    python tests/attacks.py kills [60] [seed]
    python tests/attacks.py disk [20]           # as root: it mounts small file systems
    python tests/attacks.py race [50]
    python tests/attacks.py search [20] [seed]

Each SIGKILL comes at a stage of a running process: at its start, as it loads, in a step, in the evaluation, at each stage
of writing a checkpoint (slowed there, so that it is hit), or at a random moment. Of a search, the launcher is killed at random moments. pytest runs short forms of all.
"""

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / "helpers")]

from children import STAGES, Child
from results import rows_of, same_run, saved
from small_runs import process

from record import checkpoint

SMALL = ["--wrn_depth", "10", "--wrn_width", "0.25", "--epochs", "3"]
STUDENT = ["digits", "student", "-t", "t", "-s", "r"]
VARIATIONAL = "digits teacher -t r --conv GroupVD --optimizer adam --checkpoint_every 7 --train_size 400".split()
RUNS = {
    "teacher": ["digits", "teacher", "-t", "r", *SMALL],
    "student": [*STUDENT, *SMALL, "--conv", "SepHashed_0.5"],
    "distilled, clipped, held out": [*STUDENT, *SMALL, "--alpha", "0.3", "--clip_grad", "1", "--val_size", "100"],
    "pruned": ["digits", "teacher", "-t", "r", *SMALL, "--prune", "Gradual_0.2", "--checkpoint_every", "7"],
    "gated": [
        "digits",
        "teacher",
        "-t",
        "r",
        *SMALL,
        "--gate",
        "Naive_0.5",
        "--gate_warmup",
        "1",
        "--checkpoint_every",
        "7",
    ],
    "variational": [*VARIATIONAL, *SMALL],
    "checkpoints within epochs": [*"digits teacher -t r --conv ACDC_3 --checkpoint_every 7".split(), *SMALL],
}
ALL = ["start", *STAGES, "random moment"]
FAILURES = (
    "lost epochs",
    "different ends",
    "damaged or left over",
    "unclear",
    "other ends",
    "more than one epoch recorded",
)


def kept(folder: Path) -> tuple[int, int]:
    """Epochs and steps of the run's last whole checkpoint."""
    if not (folder / "checkpoints/r.pt").exists():
        return 0, 0
    state = saved(folder, "r")
    return state["epoch"], state["step"]


def whole(path: Path) -> bool:
    """Whether it is one of the two files that are kept, and as it was written."""
    try:
        checkpoint._read(path)
    except checkpoint._Damaged:
        return False
    return path.suffix in (".pt", ".previous")


def kill_once(command: list[str], folder: Path, stage: str, draw: random.Random) -> tuple[bool, int]:
    """Starts the run and kills it at a stage. Returns whether it was alive until then, and the epochs that it lost."""
    before = kept(folder)[0]
    if stage == "start":
        victim = process(*command, cwd=folder)
        time.sleep(draw.uniform(0, 2))  # torch is imported
        victim.kill()
        victim.communicate()
        return victim.returncode == -9, max(0, before - kept(folder)[0])
    if stage == "random moment":
        child = Child(*command, cwd=folder)
        time.sleep(draw.uniform(0, 2))
    else:
        often = draw.randrange(20) if stage == "step" else 0 if stage in ("loading", "record") else draw.randrange(2)
        child = Child(*command, cwd=folder, pause=(stage, often))
        child.reaches_pause()
    child.kill()
    lines = [line for line in child.stdout.splitlines() if line.startswith("epoch ")]
    announced = max([before, *(int(line.split()[1].split("/")[0]) for line in lines)])
    return child.process.exitcode == -9, max(0, announced - kept(folder)[0])


def sweep(place: Path, teacher: Path, kills: int, seed: int = 0, runs: dict[str, list[str]] = RUNS) -> Counter:
    """Kills runs until there were so many. `teacher` is a folder with a trained teacher `t`. Returns how many there were
    at each stage, and how many of the FAILURES."""
    draw, counts, waiting = random.Random(seed), Counter(), []
    unbroken: dict[str, Path] = {}
    number = 0
    while sum(counts[f"killed: {stage}"] for stage in ALL) < kills:
        name, command = list(runs.items())[number % len(runs)]
        folder = place / f"killed{number}"
        shutil.copytree(teacher, folder)
        if name not in unbroken:
            unbroken[name] = place / f"whole{number}"
            shutil.copytree(teacher, unbroken[name])
            assert Child(*command, cwd=unbroken[name]).wait() == 0
        alive = True
        while alive and sum(counts[f"killed: {stage}"] for stage in ALL) < kills:
            waiting = waiting or draw.sample(ALL, len(ALL))
            stage = waiting.pop()
            alive, lost = kill_once([*command, "--resume"], folder, stage, draw)
            counts[f"killed: {stage}"] += alive
            counts["lost epochs"] += lost
            if not alive:
                waiting.append(stage)  # it had ended before: again with another run
        last = Child(*command, "--resume", cwd=folder)
        assert last.wait() == 0, last.stderr
        counts["resumed to the end"] += 1
        counts["different ends"] += not same_run(unbroken[name], folder, "r")
        counts["damaged or left over"] += [whole(path) for path in sorted((folder / "checkpoints").glob("r.*"))] != [
            True,
            True,
        ]
        number += 1
    return counts


def race(place: Path, times: int) -> Counter:
    """Two processes of one command at once, with --resume every other time. Counts how often exactly one trained and the
    other one was refused, or found it finished."""
    counts: Counter = Counter()
    for number in range(times):
        name, flags = f"race{number}", ["--resume"] if number % 2 else []
        command = ["digits", "teacher", "-t", name, *SMALL[:-1], "1", "--batch_size", "500", *flags]
        children = [Child(*command, cwd=place, output=each) for each in "ab"]
        ends = sorted((child.wait(), "epoch 1/1" in child.stdout, len(child.stderr.splitlines())) for child in children)
        refused, finished = ends == [(0, True, 0), (2, False, 1)], bool(flags) and ends == [(0, False, 0), (0, True, 0)]
        counts["one trained, the other was refused in one line"] += refused
        counts["one trained, the other found it finished"] += finished
        counts["other ends"] += not (refused or finished)
        counts["more than one epoch recorded"] += len(rows_of(place, name)) != 1
    return counts


KILLS_OF_ONE = 5  # search, before it may come to its end
SPACE = """
base: digits teacher --wrn_depth 10 --wrn_width 0.25 --train_size 96 --val_size 100 --batch_size 16
R: 9
eta: 3
seed: 9
name: s
space:
  lr: {choice: [0.2, 0.1, 0.05, 0.02, 0.01, 1e9]}
  momentum: {uniform: [0.5, 0.95]}
  module: {choice: [null, own.py, plain.py]}
"""
OWN = {
    "plain.py": "from torch.nn import Conv2d\nclass Conv(Conv2d): pass\n",
    "own.py": """
from torch import nn
class Conv(nn.Conv2d):
    def forward(self, x):
        if self.training and x.device.type != "meta":
            raise ValueError("it fails on purpose, in its first step")
        return super().forward(x)
""",
}


def searched(folder: Path) -> bytes:
    """Write a search in which runs diverge and others fail, with the table of a launcher that ends by itself."""
    _prepare(folder)
    done = _search(folder).communicate()
    assert (folder / "s.brackets.csv").exists(), done
    return (folder / "s.brackets.csv").read_bytes()


def _prepare(folder: Path) -> None:
    folder.mkdir()
    for name, text in {"space.yaml": SPACE, **OWN}.items():
        (folder / name).write_text(text)


def _search(folder: Path) -> subprocess.Popen:
    return process("space.yaml", "--slots", "2", "--retries", "0", cwd=folder, program="schedules/hyperband.py")


def search_kills(place: Path, kills: int, seed: int = 0) -> Counter:
    """Kill the launcher of searches at random moments, then let them come to their ends.

    Count whether the table, with the winner and its test error, is that of a search which nobody killed.
    """
    draw, counts = random.Random(seed), Counter()
    began = time.monotonic()
    whole = searched(place / "unbroken")
    seconds = time.monotonic() - began
    assert b"diverged" in whole and b",failed," in whole
    number = 0
    while counts["launchers killed"] < kills:
        folder = place / f"search{number}"
        _prepare(folder)
        alive, before = True, counts["launchers killed"]
        while alive and counts["launchers killed"] < min(kills, before + KILLS_OF_ONE):
            victim = _search(folder)
            time.sleep(draw.uniform(2, max(3, 0.6 * seconds)))
            victim.kill()
            victim.communicate()
            alive = victim.returncode == -9
            counts["launchers killed"] += alive
        said, fault = _search(folder).communicate()
        table = folder / "s.brackets.csv"
        counts["searches to the end"] += 1
        same = table.exists() and table.read_bytes() == whole
        counts["different ends"] += not same
        if not same:
            print(said, fault, table.read_text() if table.exists() else "no table", whole.decode(), sep="\n")
        number += 1
    return counts


def full_disk(place: Path, teacher: Path, sizes: list[int], flags: Sequence[str] = ()) -> Counter:
    """A student in a file system of so many KiB, which says nothing of its limit (as with a quota): it has to end in
    one line, with all that it announced still there, and to end as if nothing had happened when there is room."""
    counts: Counter = Counter()
    command, whole = [*STUDENT, *SMALL, "--conv", "SepHashed_0.5", *flags, "--resume"], place / "roomy"
    shutil.copytree(teacher, whole)
    assert Child(*command, cwd=whole).wait() == 0
    for size in sizes:
        disk = place / f"disk{size}"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", str(disk)], capture_output=True
        )
        if mounted.returncode:
            raise PermissionError(mounted.stderr.decode())
        try:
            (disk / "checkpoints").mkdir()
            (disk / "checkpoints/t.pt").symlink_to(teacher / "checkpoints/t.pt")
            child = Child(*command, cwd=disk, prepare=_say_nothing_of_room)
            status, lines = child.wait(), child.stderr.splitlines()
            announced = sum(line.startswith("epoch ") for line in child.stdout.splitlines())
            clear = len(lines) == 1 and lines[0].startswith("error: ") and "No space left on device" in lines[0]
            counts[
                "ended in one clear line" if status == 4 and clear else "had room" if status == 0 else "unclear"
            ] += 1
            counts["epochs announced"] += announced
            counts["lost epochs"] += max(0, announced - kept(disk)[0])
            subprocess.run(["mount", "-o", "remount,size=9m", str(disk)], check=True)
            again = Child(*command, cwd=disk)
            assert again.wait() == 0, again.stderr
            counts["went on when there was room"] += 1
            counts["different ends"] += not same_run(whole, disk, "r")
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    return counts


def _say_nothing_of_room() -> None:
    from record import checkpoint

    checkpoint.room = lambda path, size: (0, 1)


def main(attack: str = "kills", times: int | None = None, seed: int = 0) -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place, teacher = Path(folder), Path(folder) / "teacher"
        teacher.mkdir()
        assert Child("digits", "teacher", "-t", "t", *SMALL, cwd=teacher).wait() == 0
        match attack:
            case "kills":
                counts = sweep(place, teacher, times or 60, seed)
            case "disk":
                sizes = [int(4 + number * 180 / (times or 20)) for number in range(times or 20)]
                counts = full_disk(place, teacher, sizes)
            case "race":
                counts = race(place, times or 50)
            case "search":
                counts = search_kills(place, times or 20, seed)
    for what in sorted(counts, key=lambda what: (what in FAILURES, what)):
        print(f"{counts[what]:4} {what}")
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if any(counts[failure] for failure in FAILURES) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2], *map(int, sys.argv[2:])))
