"""Files that survive: atomic writes, the one before, what is refused, the lock."""

import io
import json
import os
import shutil
import signal
import threading

import pytest
import torch
from conftest import TINY, process

import checkpoint
import cli
import main
from errors import MachineFault, RequestError

DIGITS = ["digits", "teacher", "-t", "t", *TINY]


def contents(**some):
    return dict.fromkeys(checkpoint.REQUIRED - {"format"}) | some


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.pt"
    checkpoint.save(path, contents(epoch=1))

    def full(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(MachineFault, match="No space left"):
        checkpoint.write_atomically(path, full)
    assert checkpoint.load(path)["epoch"] == 1 and [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_the_one_before_is_kept_and_used(tmp_path, capsys):
    path = tmp_path / "a.pt"
    for epoch in (1, 2, 3):
        checkpoint.save(path, contents(epoch=epoch, model={"w": torch.ones(1000)}))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "a.pt.previous"]
    assert checkpoint.load(path)["epoch"] == 3
    whole = path.read_bytes()
    flipped = bytes([*whole[:2000], whole[2000] ^ 4, *whole[2001:]])  # in the middle of the weights
    foreign = io.BytesIO()
    torch.save({"format": 1}, foreign)
    for damaged in (whole[:700], b"", flipped, foreign.getvalue()):
        path.write_bytes(damaged)
        assert checkpoint.load(path)["epoch"] == 2
        assert "a.pt is damaged" in capsys.readouterr().err
    (tmp_path / "a.pt.previous").write_bytes(b"")
    with pytest.raises(MachineFault, match="nor the one before"):
        checkpoint.load(path)


def test_a_newer_format_is_refused(tmp_path):
    torch.save({"format": checkpoint.FORMAT + 1}, tmp_path / "a.pt")
    with pytest.raises(RequestError, match="has format 2"):
        checkpoint.load(tmp_path / "a.pt")


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_a_hostile_pickle_runs_nothing(workplace, capsys):
    torch.save({"format": 1, "epoch": Hostile()}, "a.pt")
    with pytest.raises(MachineFault):
        checkpoint.load(workplace / "a.pt")
    assert not (workplace / "pwned").exists() and "is damaged" in capsys.readouterr().err


def test_views_are_stored_alone(tmp_path):
    checkpoint.save(tmp_path / "a.pt", contents(model=torch.zeros(1_000_000)[:10]))
    assert (tmp_path / "a.pt").stat().st_size < 3000


def test_a_lost_checkpoint_is_replaced_by_the_one_before(teacher, workplace):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    (workplace / "checkpoints/t.pt").unlink()
    assert main.main([*DIGITS, "--resume"]) == 0
    ours, theirs = (torch.load(folder / "checkpoints/t.pt", weights_only=True) for folder in (workplace, teacher))
    assert all(torch.equal(ours["model"][name], weights) for name, weights in theirs["model"].items())


def test_what_a_run_leaves(teacher):
    assert sorted(p.name for p in (teacher / "checkpoints").iterdir()) == ["t.pt", "t.pt.previous"]
    record = json.loads((teacher / "runs/t/config.json").read_text())
    assert record["config"]["wrn_width"] == 0.25 and record["config"]["epoch_step"] is None
    assert {"params", "mult_adds", "mult_adds_exact", "crs_ratio", "stored_bytes"} <= set(record["counts"])
    assert {"python", "torch", "git_commit"} == set(record["versions"]) and "argv" in record
    rows = [json.loads(line) for line in (teacher / "runs/t/metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1]
    for row in rows:
        assert {
            "lr", "images_per_second", "seconds", "train_loss", "train_loss_cross_entropy", "train_top1_error",
            "train_top5_error", "test_loss", "test_top1_error", "test_top5_error", "best_test_top1_error",
        } <= set(row)  # fmt: skip
    saved = torch.load(teacher / "checkpoints/t.pt", weights_only=True)
    assert saved["rows"] == rows and saved["epoch"] == 2
    assert saved["format"] == 1 and {"model", "optimizer", "rng", "config", "companions"} <= set(saved)


def points(folder):
    """Every point of the run's event files, as TensorBoard would read them: (tag, step, value)."""
    from tensorboardX import event_file_writer  # noqa: F401  (its proto package is what reads them)
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in folder.glob("events.out.tfevents.*"):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            data = data[16 + length :]
    return found


def test_tensorboard_has_every_point_once(teacher, workplace):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    before = points(workplace / "runs/t")
    assert main.main([*DIGITS, "--resume"]) == 0
    after = points(workplace / "runs/t")
    assert sorted(before) == sorted(after) and len(set(after)) == len(after)
    assert {("lr", 1), ("train/loss", 1), ("test/top1_error", 2)} <= {(tag, step) for tag, step, _ in after}


def test_a_name_in_use(teacher, workplace):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in workplace.rglob("*")}
    with pytest.raises(RequestError, match="exists, with 2 epochs done: go on with --resume or choose another name"):
        main.main(DIGITS)
    with pytest.raises(RequestError, match=r"another configuration \(epochs was 2, is 3; lr was 0.1, is 0.2\)"):
        main.main([*DIGITS[:-1], "3", "--lr", "0.2", "--resume"])
    with pytest.raises(RequestError, match="'T' differs from the existing run 't' in case alone"):
        main.main(["digits", "teacher", "-t", "T", *TINY])
    assert before == {path: path.stat().st_mtime_ns for path in workplace.rglob("*")}


@pytest.mark.parametrize("text", ["[]", "{}", "{", ""])
def test_a_damaged_record(workplace, text):
    (workplace / "runs/t").mkdir(parents=True)
    (workplace / "runs/t/config.json").write_text(text)
    with pytest.raises(MachineFault, match="config.json cannot be read"):
        main.main(DIGITS)


def test_checkpoints_that_cannot_be_written_are_noticed_before_training(workplace, capsys):
    (workplace / "checkpoints").write_text("a file, where a folder is needed")
    assert cli.run(lambda: main.main(DIGITS)) == 4
    out, err = capsys.readouterr()
    assert "epoch" not in out.split("options")[0] and len(err.splitlines()) == 1 and "checkpoints" in err


def test_a_record_of_before_a_flag_was_added(workplace):
    with checkpoint.Run("t", {"epochs": 3}, {}, resume=False):
        pass
    assert checkpoint.refuse_or_find("t", {"epochs": 3, "new": False, "newer": None, "newest": 0}, resume=True) is None
    with pytest.raises(RequestError, match="(new was None, is True)"):
        checkpoint.refuse_or_find("t", {"epochs": 3, "new": True}, resume=True)


def test_where_a_run_is_done_is_not_part_of_it(teacher, workplace):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    assert (
        main.main(
            [*DIGITS, "--resume", "--print_freq", "3", "--workers", "1", "--device", "cpu", "--data_dir", "elsewhere"]
        )
        == 0
    )


def test_the_record_without_its_checkpoint_still_holds_the_name(teacher, workplace):
    shutil.copytree(teacher / "runs", workplace / "runs")
    with pytest.raises(RequestError, match="exists, with 0 epochs done"):
        main.main(DIGITS)
    with pytest.raises(RequestError, match="another configuration"):
        main.main([*DIGITS, "--seed", "5", "--resume"])


def test_one_process_at_a_time(workplace):
    command = ["digits", "teacher", "-t", "t", "--wrn_depth", "10", "--wrn_width", "1"]
    first = process(*command, cwd=workplace)
    try:
        assert any(line.startswith("epoch 1/") for line in first.stdout)
        for flags in ([], ["--resume"]):
            second = process(*command, *flags, cwd=workplace)
            out, err = second.communicate(timeout=60)
            assert second.returncode == 2 and len(err.splitlines()) == 1
            assert ("being trained by another process" if flags else "exists, with") in err
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    assert (workplace / "runs/t/lock").exists()  # of a dead process: it holds nobody up
    with checkpoint.Run("t", torch.load("checkpoints/t.pt", weights_only=True)["config"], {}, resume=True) as run:
        assert len(run.rows) >= 1


def test_two_threads_of_starts(workplace):
    """Many starts of one name at once: one of them gets it."""
    config, won, lost = {"epochs": 1}, [], []
    barrier, over = threading.Barrier(8), threading.Event()

    def start():
        barrier.wait()
        try:
            with checkpoint.Run("t", config, {}, resume=False):
                won.append(1)
                over.wait(10)
        except RequestError:
            lost.append(1)
            if len(lost) == 7:
                over.set()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
