"""The record of a run: what it holds, whose a name is, who is training it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from children import Child
from results import points, rows_of, same_run, saved
from small_runs import TINY
from tensorboardX.event_file_writer import EventsWriter

import main
from cli import command as cli_command
from record import checkpoint, outcome
from record import run as record_run
from system.errors import Diverged, Interrupted, MachineFault, RequestError
from training import report

DIGITS = ["digits", "teacher", "-t", "t", *TINY]


def test_what_a_run_leaves(teacher, monkeypatch):
    assert sorted(p.name for p in (teacher / "checkpoints").iterdir()) == ["t.pt", "t.pt.previous"]
    document = json.loads((teacher / "runs/t/config.json").read_text())
    assert document["config"]["wrn_width"] == 0.25 and document["config"]["epoch_step"] is None
    assert {"params", "mult_adds", "mult_adds_exact", "crs_ratio", "stored_bytes"} <= set(document["counts"])
    assert {"python", "torch", "git_commit"} == set(document["versions"]) and "argv" in document
    assert {"instructions", "threads"} == set(document["machine"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"the GPU {device.index}")
    assert report.machine(torch.device("cuda", 1))["gpu"] == "the GPU 1"
    rows = rows_of(teacher, "t")
    assert [row["epoch"] for row in rows] == [0, 1]
    for row in rows:
        assert {
            "lr", "images_per_second", "seconds", "train_loss", "train_loss_cross_entropy", "train_top1_error",
            "train_top5_error", "test_loss", "test_top1_error", "test_top5_error", "best_test_top1_error",
            "gradient_norm", "gradient_norm_max",
        } <= set(row)  # fmt: skip
        assert 0 < row["gradient_norm"] <= row["gradient_norm_max"]
    state = saved(teacher, "t")
    assert state["rows"] == rows and (state["epoch"], state["step"]) == (2, 0)
    assert state["format"] == 3 and {"model", "optimizer", "rng", "config", "callbacks", "meter"} <= set(state)


def test_a_finished_run_has_nothing_left_to_do(teacher, workplace, capsys):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    (workplace / "checkpoints/t.pt.partial").touch(), (workplace / "checkpoints/t.pt.link").touch()  # of a kill
    before = (workplace / "checkpoints/t.pt").read_bytes()
    assert main.main([*DIGITS, "--resume"]) == 0
    assert "t is finished, nothing is left to do" in capsys.readouterr().out
    assert (workplace / "checkpoints/t.pt").read_bytes() == before
    assert same_run(teacher, workplace, "t")
    assert sorted(p.name for p in (workplace / "checkpoints").iterdir()) == ["t.pt", "t.pt.previous"]
    assert {("lr", 1), ("train/loss", 1), ("test/top1_error", 2)} <= {point[:2] for point in points(workplace, "t")}


def digests(folder):
    """Of every file and folder: contents, and when it was changed."""
    files = {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}
    return {path: (contents, path.stat().st_mtime_ns, path.stat().st_ino) for path, contents in files.items()}


def test_showing_a_finished_run_changes_nothing(teacher, workplace, capsys):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    before = digests(workplace)
    for _ in range(2):
        assert main.main([*DIGITS, "--resume"]) == 0
        out = capsys.readouterr().out
        assert "t is finished, nothing is left to do" in out and "Error@1" in out
    assert digests(workplace) == before


@pytest.mark.parametrize("damage", ["metrics.jsonl", "config.json", "events", "events cut", "metrics changed", "lock"])
def test_what_a_finished_run_lacks_is_written_again(teacher, workplace, damage):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    folder = workplace / "runs/t"
    (written,) = folder.glob("events.out.tfevents.*")
    if damage == "events cut":
        written.write_bytes(written.read_bytes()[:-30])
    elif damage == "metrics changed":
        (folder / "metrics.jsonl").write_text((folder / "metrics.jsonl").read_text().replace("epoch", "epcoh", 1))
    else:
        (written if damage == "events" else folder / damage).unlink()
    before = digests(workplace)
    assert main.main([*DIGITS, "--resume"]) == 0
    assert same_run(teacher, workplace, "t") and (folder / "config.json").exists()
    if damage == "lock":
        assert digests(workplace) == before
    else:
        whole = digests(workplace)
        assert main.main([*DIGITS, "--resume"]) == 0 and digests(workplace) == whole


def test_a_finished_run_that_another_process_holds(teacher, workplace):
    from record import lock

    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    config = saved(workplace, "t")["config"]
    with lock.take("t"), pytest.raises(RequestError, match="is being trained at this moment"):
        record_run.Run("t", config, {}, record_run.find("t"), resume=True)


def test_how_a_run_ended_is_noted_until_it_goes_on(workplace):
    def ended(error):
        with pytest.raises(type(error)):
            with record_run.Run("t", {"epochs": 3}, {}, record_run.find("t"), resume=True):
                assert outcome.read(Path("runs/t")) is None
                raise error
        said = outcome.read(Path("runs/t"))
        return said["status"], said["reason"]

    assert ended(Diverged("loss is nan")) == (3, "loss is nan")
    assert ended(MachineFault("disk full")) == (4, "disk full")
    assert ended(Interrupted("stopped by Ctrl-C", 130)) == (130, "stopped by Ctrl-C")
    assert ended(KeyError("a bug")) == (1, "'a bug'")
    with record_run.Run("t", {"epochs": 3}, {}, record_run.find("t"), resume=True):
        pass
    assert outcome.read(Path("runs/t")) is None


@pytest.mark.parametrize("damage", [None, b"", b"PK\x03\x04" * 100])
def test_a_lost_checkpoint_is_replaced_by_the_one_before(teacher, workplace, damage, capsys):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    (workplace / "checkpoints/t.pt").unlink()
    if damage is not None:
        (workplace / "checkpoints/t.pt").write_bytes(damage)
    assert main.main([*DIGITS, "--resume"]) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.endswith("the one before it is used, of epoch 1")
    assert same_run(teacher, workplace, "t")


def test_a_name_in_use(teacher, workplace):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in workplace.rglob("*")}
    with pytest.raises(RequestError, match="is finished: show its result with --resume or choose another"):
        main.main(DIGITS)
    with pytest.raises(RequestError, match=r"another configuration \(epochs was 2, is 3; lr was 0.1, is 0.2\)"):
        main.main([*DIGITS[:-1], "3", "--lr", "0.2", "--resume"])
    with pytest.raises(RequestError, match="'T' differs from the existing run 't' in case alone"):
        main.main(["digits", "teacher", "-t", "T", *TINY])
    assert before == {path: path.stat().st_mtime_ns for path in workplace.rglob("*")}


@pytest.mark.parametrize("text", ["[]", "{}", "{", "", '{"config": 3}'])
def test_a_damaged_record(workplace, text):
    (workplace / "runs/t").mkdir(parents=True)
    (workplace / "runs/t/config.json").write_text(text)
    with pytest.raises(MachineFault, match="config.json cannot be read .* delete runs/t to start again"):
        main.main(DIGITS)


def test_what_is_in_the_way_is_noticed_before_training(workplace, capsys):
    def told():
        status = cli_command.run(lambda: main.main(DIGITS))
        out, err = capsys.readouterr()
        assert status == 4 and "epoch 1" not in out and len(err.splitlines()) == 1
        return err

    (workplace / "checkpoints").write_text("a file, where a folder is needed")
    assert "error: checkpoints cannot be written: File exists" in told()
    shutil.rmtree("runs"), Path("checkpoints").unlink()
    (workplace / "runs").mkdir()
    (workplace / "runs/t").write_text("a file too")
    assert "error: runs/t/lock cannot be written: File exists" in told()


def test_a_record_of_before_a_flag_was_added(workplace):
    with record_run.Run("t", {"epochs": 3}, {}, record_run.find("t"), resume=False):
        pass
    found = record_run.find("t")
    record_run.refuse("t", {"epochs": 3, "new": False, "newer": None, "newest": 0}, found, resume=True)
    with pytest.raises(RequestError, match="(new was not given, is True)"):
        record_run.refuse("t", {"epochs": 3, "new": True}, found, resume=True)


def test_where_a_run_is_done_is_not_part_of_it(teacher, workplace):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    where = ["--print_freq", "3", "--workers", "1", "--device", "cpu", "--data_dir", "else", "--checkpoint_every", "9"]
    assert main.main([*DIGITS, "--resume", *where]) == 0


def test_a_record_without_its_checkpoint(teacher, workplace):
    """Of epochs that are recorded none is thrown away; before the first one the record holds the name."""
    shutil.copytree(teacher / "runs", workplace / "runs")
    (workplace / "checkpoints").mkdir()
    for link in (False, True):
        if link:
            (workplace / "checkpoints/t.pt").symlink_to("nowhere")
        for flags in ([], ["--resume"]):
            with pytest.raises(MachineFault, match="checkpoints/t.pt is missing"):
                main.main([*DIGITS, *flags])
    assert len(rows_of(workplace, "t")) == 2
    (workplace / "checkpoints/t.pt").unlink(), (workplace / "runs/t/metrics.jsonl").write_text("")
    with pytest.raises(RequestError, match="exists, with 0 of 2 epochs done"):
        main.main(DIGITS)
    with pytest.raises(RequestError, match="another configuration"):
        main.main([*DIGITS, "--seed", "5", "--resume"])


def test_a_folder_of_somebody_else(workplace):
    (workplace / "runs/t").mkdir(parents=True)
    (workplace / "runs/t/events.out.tfevents.1.other").write_text("theirs")
    with pytest.raises(
        RequestError, match="runs/t holds 'events.out.tfevents.1.other', which no run of swapconv has written"
    ):
        main.main(DIGITS)
    assert [path.name for path in workplace.rglob("*")] == ["runs", "t", "events.out.tfevents.1.other"]


def test_damage_and_then_a_kill(teacher, workplace):
    """The good one of two is not replaced by the damaged one, whenever the resumed run is killed."""
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    whole = (workplace / "checkpoints/t.pt").read_bytes()
    (workplace / "checkpoints/t.pt").write_bytes(whole[:3000] + bytes([whole[3000] ^ 1]) + whole[3001:])
    for stage in ("record", "checkpoint half written", "checkpoint renamed"):
        child = Child(*DIGITS, "--resume", cwd=workplace, pause=(stage, 0))
        assert child.reaches_pause()
        child.kill()
        assert torch.load(workplace / "checkpoints/t.pt.previous", weights_only=True)["epoch"] == 1
    assert Child(*DIGITS, "--resume", cwd=workplace).wait() == 0
    assert same_run(teacher, workplace, "t")
    assert sorted(path.name for path in Path("checkpoints").iterdir()) == ["t.pt", "t.pt.damaged", "t.pt.previous"]


def test_how_a_run_went_on_is_recorded(workplace):
    child = Child(*DIGITS, cwd=workplace, pause=("step", 19))
    assert child.reaches_pause()
    child.kill()
    first = json.loads(Path("runs/t/config.json").read_text())
    for flags in (["--print_freq", "7"], []):
        assert Child(*DIGITS, "--resume", *flags, cwd=workplace).wait() == 0
    last = json.loads(Path("runs/t/config.json").read_text())
    (resumed,) = last.pop("resumed")  # the second found it finished, and wrote nothing
    assert last["config"].pop("print_freq") == 7 and first["config"].pop("print_freq") == 10
    assert last == first and resumed["argv"] == ["main.py", *DIGITS, "--resume", "--print_freq", "7"]
    assert resumed["after"] == "1 of 2 epochs" and resumed["versions"] == first["versions"]


def test_one_process_at_a_time(workplace):
    first = Child(*DIGITS, cwd=workplace, pause=("step", 19))
    assert first.reaches_pause()
    for flags in ([], ["--resume"], ["--resume", "--dry_run"]):
        second = Child(*DIGITS, *flags, cwd=workplace)
        assert second.wait() == 2 and len(second.stderr.splitlines()) == 1
        told = f"is being trained at this moment, by process {first.pid} on " if flags else "exists, with"
        assert told in second.stderr
    first.kill()
    assert (workplace / "runs/t/lock").exists()  # of a dead process: it holds nobody up
    again = Child(*DIGITS, "--resume", cwd=workplace)
    assert again.wait() == 0 and "resuming after 1 of 2 epochs" in again.stdout


def test_a_lock_that_somebody_deletes(workplace):
    """What the other one then begins is not trodden on: the first stops at its next checkpoint."""
    first = Child(*DIGITS, cwd=workplace, pause=("step", 5, 1.0))
    assert first.reaches_pause()
    Path("runs/t/lock").unlink()
    second = Child(*DIGITS, "--resume", cwd=workplace, output="second")
    assert first.wait() == 4 and "runs/t/lock was deleted or replaced" in first.stderr
    assert second.wait() == 0 and len(rows_of(workplace, "t")) == 2


def test_a_run_that_another_process_has_just_finished_is_read_anew(teacher, workplace):
    """What was found before the lock was taken no longer holds."""
    stale = record_run.find("t")
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    config = saved(workplace, "t")["config"]
    with pytest.raises(RequestError, match="is finished"):
        record_run.Run("t", config, {}, stale, resume=False)
    with record_run.Run("t", config, {}, stale, resume=True) as run:
        assert len(run.rows) == 2 and run.is_finished()


@pytest.mark.parametrize("owner, name", [(EventsWriter, "write_event"), (json, "dumps")])
def test_a_log_that_cannot_be_written_costs_no_epoch(workplace, teacher, capsys, monkeypatch, owner, name):
    """The checkpoint of the epoch is there; its row and its points are written at the next resume."""
    original = getattr(owner, name)

    def full(*arguments, **keywords):
        if Path("checkpoints/t.pt").exists() and not Path("checkpoints/t.pt.previous").exists():
            raise OSError(28, "No space left on device")
        return original(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        assert cli_command.run(lambda: main.main(DIGITS)) == 4
    assert "runs/t cannot be written: No space left on device; 1 of 2 epochs are kept" in capsys.readouterr().err
    assert main.main([*DIGITS, "--resume"]) == 0
    assert same_run(teacher, workplace, "t")


def test_a_checkpoint_that_does_not_fit_its_network(teacher, workplace, capsys):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    good = saved(workplace, "t") | {"epoch": 1}
    for part, value in (
        ("model", {}), ("optimizer", {}), ("callbacks", [{}]), ("rng", {}), ("rng", good["rng"] | {"python": [3]}),
        ("rng", good["rng"] | {"torch": torch.zeros(3)}), ("meter", {"sums": 3}),
    ):  # fmt: skip
        checkpoint.save(Path("checkpoints/t.pt"), good | {part: value})
        assert cli_command.run(lambda: main.main([*DIGITS, "--resume"])) == 4, part
        assert "does not fit this run" in capsys.readouterr().err
