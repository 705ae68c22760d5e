"""The dry run of a study: what each distinct job takes, measured by main.py, and the sums."""

import json
import re
from pathlib import Path

import pytest
from results import snapshot
from small_runs import TINY

from cli import command
from schedules import run
from schedules.estimate import Measured, _step, report
from schedules.job_queue import Queue
from schedules.schedule import parse
from system.configuration import Configuration
from system.errors import RequestError


def jobs(*lines):
    found, faults = parse([["python", "main.py", *line.split(), *TINY] for line in lines])
    assert not faults
    return found


SAID = {
    "params": 1000, "train_seconds": 0.1, "peak_bytes": 2e9, "epoch_seconds": 1800.0, "start_seconds": 0.0, "device": "cuda:0",
    "memory_bytes": 8e9, "disk_bytes": 1e6, "free_disk_bytes": 1e9,
}  # fmt: skip


def places(*lines):
    return [*Queue(jobs(*lines), 0).places.values()]


def test_sums(workplace):
    two = places("digits teacher -t a", "digits teacher -t b --seed 1")
    (one,) = places("digits teacher -t c --conv ACDC_3")
    Path("runs/a").mkdir(parents=True)  # of two epochs, one is done
    Path("runs/a/config.json").write_text(json.dumps({"config": {"epochs": 2}}))
    Path("runs/a/metrics.jsonl").write_text('{"epoch": 0}\n')
    text = report([Measured(two, SAID, "")], 2, 3.0)
    first = text.splitlines()[2]
    assert re.split(r"\s{2,}", first) == ["a", "2", "1,000", "0.1 s", "2.00", "60 min", "90 min", "yes"]
    assert "\n1.5 GPU-hours are left, 4.50 at 3 an hour: 45 min on 2 slots; 0.002 GB of checkpoints" in text
    assert "1.67 GPU-hours" in report([Measured(two, SAID | {"start_seconds": 300.0}, "")], 2, None)
    assert "1.2 GB of checkpoints, but 1 GB are free" in report(
        [Measured(two, SAID | {"disk_bytes": 6e8}, "")], 2, None
    )


def test_jobs_that_cannot_be_run_are_listed(workplace):
    two = places("digits teacher -t a", "digits teacher -t c --conv ACDC_3")
    with pytest.raises(RequestError, match="1 of 2 kinds of job cannot be run") as error:
        report([Measured(two[:1], SAID, ""), Measured(two[1:], {}, "out of memory on cuda:0")], 1, None)
    told = error.value.__notes__
    assert re.split(r"\s{2,}", told[3].strip()) == ["c", "1", "no: see below"]
    assert told[4].startswith("at least 1 GPU-hours") and told[5] == "c: out of memory on cuda:0"


@pytest.mark.parametrize("said, slots, fits", [
    ({}, 4, "yes"), ({"device": "cpu"}, 3, "yes"), ({"device": "cpu"}, 4, "no"), ({"disk_bytes": 2e9}, 1, "no"),
    ({"peak_bytes": 9e9}, 1, "no"),
])  # fmt: skip
def test_what_fits(workplace, said, slots, fits):
    """On a CPU all slots share the memory; on GPUs each job has its own."""
    text = report([Measured(places("digits teacher -t a"), SAID | said, "")], slots, None)
    assert text.splitlines()[2].split()[-1] == fits


def test_jobs_that_take_the_same_are_measured_once(workplace):
    found = jobs(
        "digits teacher -t t", "digits teacher -t u --seed 1 --lr 0.2", "digits teacher -t v --grad_accum 2",
        "digits student -t t -s a", "digits student -t u -s b --nocrswd", "digits student -t t -s c --beta 0",
        "digits teacher -t w --conv ACDC_3", "digits student -t w -s d",
    )  # fmt: skip
    made = {job.name: job for job in found}
    kinds = [_step(job, made) for job in found]
    assert [kinds.index(each) for each in kinds] == [0, 0, 2, 3, 3, 5, 6, 7]


@pytest.mark.long
def test_of_real_jobs(workplace, capsys, monkeypatch):
    """A student is measured before its teacher is trained, and nothing is left of the measurement."""
    argvs = [job.argv for job in jobs("digits teacher -t t", "digits student -t t -s s", "cifar10 teacher -t c")]
    Path("study.json").write_text(json.dumps(argvs))
    before = snapshot(workplace)
    assert command.run(lambda: run.main(["study.json", "--dry_run", "--slots", "2", "--price", "2"])) == 2
    _, out = capsys.readouterr()
    t, s, c = (next(line for line in out.splitlines() if line.startswith(f"{name} ")) for name in "tsc")
    assert t.split()[-1] == s.split()[-1] == "yes" and c.endswith("no: see below")
    assert (
        "--download fetches it" in out and "at least " in out and "slot-hours are left" in out and "at 2 an hour" in out
    )
    assert snapshot(workplace) == before  # tests/run_docs.py has a study of which every job can run


def test_price_goes_with_a_dry_run(workplace, capsys):
    assert command.run(lambda: run.main(["study.json", "--price", "2"])) == 2
    assert "--price 2 goes with --dry_run" in capsys.readouterr().err


def test_options_of_another_launcher(workplace, capsys):
    for flags, says in (
        (["--time_limit", "5"], "--time_limit goes with --launcher slurm, not local"),
        (["--launcher", "slurm", "--address", "x"], "--address goes with --launcher ray, not slurm"),
        (["--launcher", "rey"], "did you mean 'ray'?"),
        (["--slots", "0"], "'0' is not a whole number of at least 1"),
        (["--sbatch", "x"], "'x' is not KEY=VALUE"),
    ):
        assert command.run(lambda flags=flags: run.main(["study.json", *flags])) == 2
        assert says in capsys.readouterr().err
    request = run.options(["study.json", "--launcher", "slurm", "--sbatch", "qos=a=b"])
    assert isinstance(request, Configuration) and request.sbatch == {"qos": "a=b"}
