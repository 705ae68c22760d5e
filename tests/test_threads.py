"""Threads: as many as this process's share of the machine, waiting without burning CPUs; what the user set stays."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

import launch
import threads
from errors import RequestError


@pytest.fixture
def environment(monkeypatch):
    """None of the variables that decide about threads and processes."""
    for name in (*threads.WAITING, "OMP_NUM_THREADS", *launch.NEEDED, "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def group(environment, folder, **files):
    """The control group of this process, with these files, as the only one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        (folder / name.replace("__", ".")).write_text(contents)
    version = "v2" if "cpu__max" in files else "v1"
    environment.setattr(threads, "_groups", lambda: [(version, folder)])


@pytest.mark.parametrize(
    "files, share",
    [
        ({}, 8),
        ({"cpu__max": "max 100000\n"}, 8),
        ({"cpu__max": "250000 100000\n"}, 2),
        ({"cpu__max": "50000 100000\n"}, 1),
        ({"cpu__max": "9900000 100000\n"}, 8),
        ({"cpu__cfs_quota_us": "-1\n", "cpu__cfs_period_us": "100000\n"}, 8),
        ({"cpu__cfs_quota_us": "300000\n", "cpu__cfs_period_us": "100000\n"}, 3),
        ({"cpu__max": "what"}, 8),
    ],
)
def test_the_share_of_a_control_group(files, share, environment, tmp_path):
    environment.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    environment.setattr(threads, "CGROUPS", tmp_path)
    group(environment, tmp_path / "slice" / "job", **files)
    assert threads.cpus() == share
    if "cpu__max" in files:  # a group above limits too
        (tmp_path / "slice" / "cpu.max").write_text("100000 100000")
        assert threads.cpus() == 1


def test_configure(environment, tmp_path):
    environment.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    group(environment, tmp_path, cpu__max="200000 100000")
    threads.configure()
    assert os.environ["OMP_NUM_THREADS"] == "2" and os.environ[threads.CHOSEN[0]] == threads.CHOSEN[1]
    kept = {"OMP_NUM_THREADS": "5", "OMP_WAIT_POLICY": "ACTIVE"}
    for name in threads.WAITING:
        environment.delenv(name, raising=False)
    for name, value in kept.items():
        environment.setenv(name, value)
    threads.configure()
    assert {name: os.environ[name] for name in kept} == kept and "GOMP_SPINCOUNT" not in os.environ


def test_main_sets_them_before_torch_is_loaded(workplace):
    """OpenMP says what it was given, when it is loaded."""
    command = [sys.executable, ROOT / "main.py", "digits", "teacher", "-t", "t", "--evaluate"]
    environment = {name: value for name, value in os.environ.items() if name not in threads.WAITING}
    told = subprocess.run(command, env=environment | {"OMP_DISPLAY_ENV": "VERBOSE"}, capture_output=True, text=True)
    assert told.returncode == 2 and "no run 't'" in told.stderr
    name, value = threads.CHOSEN
    assert f"{name} = '{value}'" in told.stderr


BAD = [
    ({"RANK": "x"}, "RANK='x', which is not a whole number"),
    ({"LOCAL_RANK": "-1"}, "LOCAL_RANK='-1', which is not a whole number"),
    ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0, 1 to"),
    ({"RANK": "1"}, "RANK=1, 0 to 0 is allowed"),
    ({"WORLD_SIZE": "2", "RANK": " "}, "WORLD_SIZE=2, but no RANK, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT"),
    ({"WORLD_SIZE": "2", "RANK": "abc"}, "RANK='abc', which is not a whole number"),
    ({"WORLD_SIZE": "2", "RANK": "1"}, "WORLD_SIZE=2, but no LOCAL_RANK"),
    ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": "1"}, "but no MASTER_ADDR"),
    ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a"}, "but no MASTER_PORT"),
    ({"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
     "RANK=2, 0 to 1 is allowed"),
    ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "99999"},
     "MASTER_PORT=99999, 1 to 65535"),
]  # fmt: skip


@pytest.mark.parametrize("variables, message", BAD)
def test_variables_of_processes_that_contradict_each_other(variables, message, environment):
    for name, value in variables.items():
        environment.setenv(name, value)
    with pytest.raises(RequestError, match=message):
        launch.check()


@pytest.mark.parametrize("variables", [{}, dict.fromkeys(("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"), ""), {"WORLD_SIZE": "1"}])
def test_one_process(variables, environment):
    """A job script's templates that were left empty are as if they were not there."""
    for name, value in variables.items():
        environment.setenv(name, value)
    launch.check()
    assert (launch.rank(), launch.count(), launch.local_rank(), launch.local_count()) == (0, 1, 0, 1)
