"""Runs on digits as jobs of a real SLURM of two nodes (cluster.sh), as root with the packages slurm-wlm and munge:

python -m pytest tests/slurm
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import pytest
from results import rows_of, same_run, saved
from small_runs import ROOT, TINY, process

from schedules.launchers import Task, slurm
from system.errors import MachineFault, RequestError

pytest.importorskip("submitit")
for program in ("slurmctld", "slurmd", "munged"):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed", allow_module_level=True)
if os.getuid() != 0:
    pytest.skip("only root can start a SLURM of its own", allow_module_level=True)

CLUSTER = Path(__file__).with_name("cluster.sh")
LONG = "45"  # epochs of about a second: more than what SLURM gives a job of one minute before it warns


@pytest.fixture(scope="module", autouse=True)
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="slurm."))  # munged wants no locked folder above its own, as pytest's is
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("DATA_DIR", raising=False)
        patch.setattr(slurm, "LOOK_EVERY", 0.5)
        patch.setattr(slurm, "PATIENCE", 2.0)
        try:
            subprocess.run([CLUSTER, "start", folder], check=True)
            yield
        finally:
            subprocess.run([CLUSTER, "stop", folder], check=True)
            shutil.rmtree(folder)


@pytest.fixture(scope="module", autouse=True)
def limited(cluster, tmp_path_factory):
    """A run that needs more than its minute, beside all tests here; and the same run without a limit."""
    folder, whole = tmp_path_factory.mktemp("limited"), tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        launcher = launch(time_limit=1)
        launcher.start([task("r", LONG)])
    twin = process(*task("r", LONG).argv[2:], cwd=whole)
    yield launcher, folder, twin, whole
    twin.kill()
    twin.communicate()


def launch(**options) -> slurm.Slurm:
    """Return a launcher for the current folder."""
    usual = {"job_cpus": 1, "job_gpus": None, "time_limit": None, "partition": None, "account": None, "sbatch": {}}
    return slurm.Slurm(Namespace(**usual | {"slots": None} | options))


def task(name: str, epochs: str = "2", *flags: str) -> Task:
    tiny = ["--wrn_depth", "10", "--wrn_width", "0.25", "--epochs", epochs, *flags]
    argv = [sys.executable, str(ROOT / "main.py"), "digits", "teacher", "-t", name, *tiny, "--resume"]
    return Task(name, argv, Path(f"runs/{name}/log"))


def ends(launcher: slurm.Slurm, number: int, timeout: float = 120) -> dict[str, int | None]:
    """Return how the next tasks end."""
    found: dict[str, int | None] = {}
    until(lambda: found.update(launcher.ended()) or len(found) >= number, timeout)
    return found


def until(condition, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.1)


def trains(folder: Path, name: str) -> bool:
    """Return whether the run has finished an epoch."""
    return (folder / f"runs/{name}/metrics.jsonl").exists() and bool(rows_of(folder, name))


def test_an_array_ends_with_the_exit_status_of_each(workplace):
    launcher = launch()
    wrong = task("wrong", "2", "--conv", "Nonsense")
    launcher.start([task("a"), wrong, task("b")])
    assert len({job.partition("_")[0] for job in launcher.jobs.values()}) == 1
    assert ends(launcher, 3) == {"a": 0, "wrong": 2, "b": 0}
    assert "unknown conv 'Nonsense'" in wrong.log.read_text()
    assert [saved(workplace, name)["epoch"] for name in "ab"] == [2, 2]
    assert not launcher.jobs and launcher.ended() == []


def test_a_stop_leaves_checkpoints_and_drops_what_waits(workplace):
    launcher, tasks = launch(slots=2), [task("x", "5"), task("y", "5"), task("z", "1")]
    launcher.start(tasks)
    until(lambda: trains(workplace, "x") and trains(workplace, "y"))
    launcher.stop()
    assert ends(launcher, 2) == {"x": 143, "y": 143} and not launcher.jobs
    done = [saved(workplace, name)["epoch"] for name in "xy"]
    assert all(1 <= epochs < 5 for epochs in done), done
    assert not (workplace / "runs/z").exists()
    launcher.start(tasks)
    assert ends(launcher, 3) == {"x": 0, "y": 0, "z": 0}
    assert [len(rows_of(workplace, name)) for name in "xyz"] == [5, 5, 1]


def test_jobs_outlive_their_launcher_and_a_cancelled_one_is_lost(workplace):
    tasks = [task("m", "6"), task("n", "30")]
    launch().start(tasks)
    later = launch()
    later.start(tasks)
    assert len(later._live()) == 2 and sorted(later.jobs.values()) == sorted(later._live())
    until(lambda: trains(workplace, "n"))
    subprocess.run(["scancel", later.jobs["n"]], check=True)
    assert ends(later, 2) == {"m": 0, "n": None}
    assert len(rows_of(workplace, "m")) == 6
    assert saved(workplace, "n")["epoch"] < 30  # SLURM's SIGTERM has reached it, and it was not queued again


def test_two_thousand_are_two_arrays_and_seconds(workplace, monkeypatch):
    launcher, calls, run = launch(slots=2, sbatch={"hold": ""}), [], subprocess.Popen.__init__

    def noted(self, command, *arguments, **keywords):
        calls.append(command[0])
        run(self, command, *arguments, **keywords)

    monkeypatch.setattr(subprocess.Popen, "__init__", noted)
    begun = time.monotonic()
    launcher.start([Task(f"t{number}", ["true"], Path("log")) for number in range(2000)])
    assert time.monotonic() - begun < 10
    assert calls == ["squeue", "sbatch", "sbatch"]  # SLURM's usual MaxArraySize is 1001
    assert launcher.ended() == [] and len(launcher.jobs) == 2000
    launcher.stop()
    assert launcher._live() == {}


def test_what_slurm_does_not_take_or_answer_is_said_in_one_line(workplace, monkeypatch):
    with pytest.raises(RequestError, match="sbatch refused: .*nvalid partition"):
        launch(partition="nowhere").start([task("a")])
    with pytest.raises(RequestError, match="--array of sbatch cannot be chosen"):
        launch(sbatch={"array": "1-3"})
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(workplace))
        with pytest.raises(RequestError, match="needs SLURM's sbatch"):
            launch()
    launcher = launch()
    monkeypatch.setattr(slurm, "RESTART", 0)
    monkeypatch.setattr(slurm, "ANSWER", 0.5)
    monkeypatch.setenv("SLURM_CONF", str(workplace / "none"))
    with pytest.raises(RequestError, match="SLURM does not answer"):
        launch()
    for asked in (launcher.stop, lambda: launcher.start([task("a")])):
        with pytest.raises(MachineFault, match="SLURM does not answer"):
            asked()


def test_a_study_goes_on_when_its_launcher_was_killed(workplace, monkeypatch):
    student = ["student", "-t", "s.teacher", "-s", "s.student", "--conv", "Sep", *TINY]
    study = [["python", "main.py", "digits", *each] for each in (["teacher", "-t", "s.teacher", *TINY], student)]
    Path("study.json").write_text(json.dumps(study))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, "-m", "schedules.run", "study.json", "--launcher", "slurm"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as first:
        until(lambda: trains(workplace, "s.teacher"))
        first.kill()
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 0, second.stdout + second.stderr
    assert [len(rows_of(workplace, name)) for name in ("s.teacher", "s.student")] == [2, 2]
    assert (workplace / "runs/s.teacher/log").read_text().count("nothing to resume") == 1


def test_a_time_limit_is_met_again_and_again_and_changes_nothing(limited):
    launcher, folder, twin, whole = limited
    log = folder / "runs/r/log"
    until(lambda: log.exists() and log.read_text().count("stopped by SIGUSR1") > 1, 150)
    enough = ["scontrol", "update", f"JobId={launcher.jobs['r']}", "TimeLimit=60"]  # refused while it is queued again
    until(lambda: "Error@1" in log.read_text() or subprocess.run(enough, capture_output=True).returncode == 0)
    assert ends(launcher, 1, 240) == {"r": 0}
    assert twin.communicate()[1] == "" and twin.returncode == 0
    assert same_run(folder, whole, "r")
