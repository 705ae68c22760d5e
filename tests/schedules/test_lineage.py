"""schedules.remove and schedules.rename: a lineage stays whole, whatever is killed when."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from results import refused, rows_of, same, saved, snapshot, write_schedule
from run_folders import table, told
from small_runs import TINY

import main
import schedules.list
from cli import command
from record import lock, reader, unfinished
from record.checkpoint import digest
from record.found import check_needs, find
from record.paths import RUNS
from schedules import collate, remove, rename
from system.errors import Busy, RequestError

SHORT = [*TINY, "--train_size", "64"]
STUDENT = ["digits", "student", "-s", "s", *SHORT]


def trained(monkeypatch, *arguments):
    with monkeypatch.context() as patch:
        patch.setattr("sys.argv", ["main.py", *arguments])
        assert main.main([*arguments]) == 0


@pytest.fixture(scope="module")
def made(teacher, tmp_path_factory):
    """The tiny teacher t; s, which it teaches, of 1 of 2 epochs; n, which started from it, by a path and a file of --config."""
    folder = tmp_path_factory.mktemp("lineage") / "made"
    shutil.copytree(teacher, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        trained(patch, *STUDENT, "-t", "t", "--until", "1")
        Path("base.yaml").write_text("teacher_checkpoint: n\ninit_from: checkpoints/t.pt\n")
        trained(patch, "--config", "base.yaml", "digits", "teacher", *SHORT, "--until", "1")
    return folder


@pytest.fixture
def lineage(made, workplace):
    shutil.copytree(made, workplace, dirs_exist_ok=True)
    return workplace


def test_a_renamed_teacher_has_its_students(lineage, capsys, monkeypatch):
    write_schedule([["python", "main.py", "digits", "teacher", "-t", "t"]], "jobs.json")
    before = saved(lineage, "t"), saved(lineage, "s")
    assert rename.main(["t", "teacher.of.all"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("t is teacher.of.all now, also for n, s\nnote: jobs.json still names t")
    assert not lineage.joinpath("runs/t").exists() and not list(lineage.glob("checkpoints/t.pt*"))
    assert not (RUNS / ".unfinished.json").exists()
    renamed = saved(lineage, "teacher.of.all")
    assert same({**renamed, "config": 0}, {**before[0], "config": 0}) and digest(renamed["model"]) == digest(
        before[0]["model"]
    )
    assert renamed["config"] == {**before[0]["config"], "teacher_checkpoint": "teacher.of.all"}
    assert "'t'" not in repr([json.loads(path.read_text()) for path in lineage.glob("runs/*/config.json")])
    commands = {name: schedules.list.repeat(reader.read(RUNS / name)) for name in ("s", "n")}
    assert "-t teacher.of.all" in commands["s"] and commands["n"].endswith(
        "init_from=checkpoints/teacher.of.all.pt --resume"
    )
    resolved = yaml.safe_load(Path("runs/n/config.yaml").read_text())
    assert (resolved["init_from"], resolved["teacher_checkpoint"]) == ("checkpoints/teacher.of.all.pt", "n")
    assert "# The run teacher.of.all: " in Path("runs/teacher.of.all/config.yaml").read_text()
    kept = snapshot(lineage)
    trained(monkeypatch, "digits", "teacher", "-t", "teacher.of.all", *TINY, "--resume")  # finished: not a byte changes
    assert snapshot(lineage) == kept
    trained(monkeypatch, *commands["s"].split()[2:])
    trained(monkeypatch, *commands["n"].split()[2:])
    assert len(rows_of(lineage, "s")) == len(rows_of(lineage, "n")) == 2
    trained(monkeypatch, *STUDENT, "-t", "teacher.of.all", "--evaluate")
    assert told(capsys, collate.main, "-o", "study")[0] == 0
    rows = table()[0]
    assert rows["s"]["teacher_checkpoint"] == "teacher.of.all" and rows["s"]["teacher_digest"] == digest(
        before[0]["model"]
    )


def test_refusals(lineage, capsys):
    def says(program, *arguments):
        return refused(capsys, program.main, *arguments)[1].removeprefix("error: ")

    assert "the run 't' is needed by n (its --init_from), s (its teacher)" in says(remove, "t", "--yes")
    assert "name it too to remove all of it: s" in says(remove, "t", "n", "--yes")
    assert says(remove, "s") == "to remove 's' without being asked, give --yes too"
    assert says(remove, "tt", "--yes").startswith("there is no run 'tt'") and "path/x" in says(
        remove, "path/x", "--yes"
    )
    assert says(rename, "s", "N") == "the name 'N' is taken by 'n', in another case"
    assert says(rename, "s", "t") == "the name 't' is taken" and "OLD and NEW are both" in says(rename, "s", "s")
    assert "does not begin with a dot" in says(rename, "s", ".s") and "with a dot" in says(remove, ".opening", "--yes")
    assert says(rename, "q", "r").startswith("there is no run 'q'") and says(rename, "s", "a b").startswith("NEW 'a b'")
    write_schedule([["python", "main.py", "digits", "student", "-t", "s", "-s", "other"]])
    assert "still needed by job 1 of study.json (other: its teacher)" in says(remove, "s", "--yes")
    assert "still needed by job 1 of study.json" in says(rename, "s", "r")
    Path("study.json").unlink()
    with lock.take("s"):
        for program, arguments in ((remove, ["s", "--yes"]), (rename, ["s", "r"]), (rename, ["t", "r"])):
            assert "the run 's' is being trained at this moment" in says(program, *arguments)
    (RUNS / "notes").mkdir()
    (RUNS / "notes/mine.txt").write_text("keep")
    assert says(remove, "notes", "--yes").startswith("there is no run 'notes'")
    Path("elsewhere").mkdir()
    (RUNS / "link").symlink_to(Path("elsewhere").absolute())
    assert "runs/link is a link" in says(remove, "runs/link/", "--yes")


def test_remove(lineage, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    before = snapshot(lineage)
    monkeypatch.setattr("builtins.input", lambda question: "")
    assert (
        remove.main(["runs/s/"]) == 0
        and "nothing was removed" in capsys.readouterr().out
        and snapshot(lineage) == before
    )
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert remove.main(["t", "runs/n", "s"]) == 0
    said = capsys.readouterr().out
    assert "  s: incomplete, 1 of 2 epochs, " in said and said.endswith("n is removed\ns is removed\nt is removed\n")
    assert [*Path("checkpoints").iterdir()] == [*RUNS.iterdir()] == []


CHANGES = ("replace", "rename", "link", "unlink", "rmdir")


class Killed(BaseException):
    """Stands for the end of a process: from then on nothing changes any more."""


def killed_at(monkeypatch, step: int, program, arguments) -> bool:
    """Return whether a command was stopped before its change number `step` to the file system."""
    left = step

    def dying(change):
        def changed(*positional, **keywords):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return change(*positional, **keywords)

        return changed

    with monkeypatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, dying(getattr(os, name)))
        try:
            assert program.main(arguments) == 0
        except Killed:
            return True
    return False


@pytest.mark.parametrize(
    "program, arguments", [(rename, ["t", "new"]), (remove, ["t", "n", "s", "--yes"])], ids=["rename", "remove"]
)
def test_killed_anywhere_the_same_command_finishes(program, arguments, lineage, monkeypatch, tmp_path_factory, capsys):
    """Each change to the file system is the last of one process; what ends the work leaves the same as one that is not killed."""
    start, step = tmp_path_factory.mktemp("start") / "copy", 0
    shutil.copytree(lineage, start)
    monkeypatch.setattr(os, "fsync", lambda file: None)  # no power is cut here

    def state():
        return {
            str(path): path.read_text() if path.suffix in (".json", ".yaml") else path.suffix == ".pt" and saved(lineage, path.stem)["config"]
            for root in ("runs", "checkpoints")
            for path in sorted(Path(root).rglob("*"))
        }  # fmt: skip

    def restore():
        for root in ("runs", "checkpoints"):
            shutil.rmtree(root)
            shutil.copytree(start / root, root)

    assert program.main(arguments) == 0
    wanted = state()
    restore()
    while killed_at(monkeypatch, step, program, arguments):
        if (RUNS / ".unfinished.json").exists():
            other = [remove, "n", "--yes"] if program is rename else [rename, "n", "m"]
            with pytest.raises(RequestError, match="an earlier command was killed: first repeat python -m schedules"):
                other[0].main(other[1:])
            with pytest.raises(RequestError, match="if that was killed, first repeat python -m schedules"):
                find("t")
        assert program.main(arguments) == 0
        assert state() == wanted, step
        restore()
        step += 1
    assert step > 10 and state() == wanted


def trained_by_an_older_version(monkeypatch, name, *more):
    """Train a run that the note of a killed rename names; this version refuses that."""
    note = (RUNS / ".unfinished.json").read_bytes()
    (RUNS / ".unfinished.json").unlink()
    trained(monkeypatch, "digits", "teacher", "-t", name, *SHORT, "--epochs", "1", *more)
    (RUNS / ".unfinished.json").write_bytes(note)


def test_a_killed_rename_takes_no_name_of_another_run(lineage, monkeypatch, capsys):
    step = 0
    while saved(lineage, "s")["config"]["teacher_checkpoint"] == "t":  # killed once its students have the new name
        assert killed_at(monkeypatch, step, rename, ["t", "tt"])
        step += 1
    assert Path("checkpoints/t.pt").exists()
    said = refused(capsys, main.main, "digits", "teacher", "-t", "tt", *SHORT, "--seed", "5")[1]
    assert "the run 'tt' is being renamed: if that was killed, first repeat python -m schedules.rename t tt" in said
    trained_by_an_older_version(monkeypatch, "tt", "--seed", "5")
    before = snapshot(lineage)
    said = refused(capsys, rename.main, "t", "tt")[1]
    assert "checkpoints/tt.pt is of another run 'tt', nothing was changed: remove it (python -m" in said
    assert "an earlier command was killed" in refused(capsys, remove.main, "t", "tt", "--yes")[1]
    assert snapshot(lineage) == before
    config, document = saved(lineage, "n")["config"], json.loads(Path("runs/n/config.json").read_text())
    Path("runs/n/config.json").write_text(
        json.dumps({**document, "config": {**config, "init_from": "tt", "init_digest": "1"}})
    )
    assert "the run 'tt' is needed by n (its --init_from)" in refused(capsys, remove.main, "tt", "--yes")[1]  # not by s
    Path("runs/n/config.json").write_text(json.dumps(document))
    assert killed_at(monkeypatch, 3, remove, ["tt", "--yes"])
    assert "first repeat python -m schedules.remove tt" in refused(capsys, rename.main, "t", "tt")[1]
    assert "first repeat python -m schedules.remove tt" in refused(capsys, remove.main, "t", "--yes")[1]
    assert remove.main(["tt", "--yes"]) == rename.main(["t", "tt"]) == 0
    assert not (RUNS / ".unfinished.json").exists() and saved(lineage, "tt")["config"]["seed"] == 0
    assert "tt" in json.loads(Path("runs/s/config.json").read_text())["argv"]


def test_a_run_that_begins_while_its_teacher_goes(lineage, monkeypatch, capsys):
    student = [*STUDENT[:3], "late", *SHORT, "-t", "t", "--until", "1"]
    with lock.take("late"):  # it has read its teacher, and has no record yet
        for program, arguments in ((remove, ["t", "n", "s", "--yes"]), (rename, ["t", "tt"])):
            assert "the run 'late' begins at this moment" in refused(capsys, program.main, *arguments)[1]
    assert not (RUNS / ".unfinished.json").exists()
    shutil.rmtree("runs/late")
    take = lock.take

    def taken(name):
        held = take(name)
        if name == "late":
            with unfinished.noted("remove", ["t"]):
                pytest.raises(RequestError, check_needs, "late", ["t"]).match("late needs the run 't' is being removed")
            os.unlink("checkpoints/t.pt")
        return held

    monkeypatch.setattr(lock, "take", taken)
    assert command.run(lambda: main.main(student)) == 2
    said = capsys.readouterr().err
    assert said == "error: late needs the run 't', which was removed or renamed in the meantime\n"
    assert not Path("runs/late/config.json").exists() and not Path("checkpoints/late.pt").exists()


def test_what_a_damaged_run_needs(lineage, capsys):
    Path("runs/s/config.json").write_text("{")
    os.rename("checkpoints/s.pt", "checkpoints/s.pt.previous")
    assert "the run 't' is needed by s (its teacher)" in refused(capsys, remove.main, "t", "n", "--yes")[1]
    Path("checkpoints/s.pt.previous").write_bytes(b"damaged")
    for program, arguments in ((remove, ["t", "n", "--yes"]), (rename, ["t", "tt"])):
        assert (
            "what the run 's' needs cannot be read (its record is damaged: "
            in refused(capsys, program.main, *arguments)[1]
        )
    assert remove.main(["s", "--yes"]) == remove.main(["t", "n", "--yes"]) == 0


def test_names_on_command_lines(workplace):
    def changed(*words):
        return rename.renamed_argv(["main.py", *words], "t", "new", {"teacher_checkpoint": "new"})[1:]

    assert changed("-tt", "-s", "t") == ["-tnew", "-s", "new"]
    assert changed("-rt", "t", "--tag=t") == ["-rt", "new", "--tag=t"]
    assert changed("--latency", "-t=t", "--where", "t") == ["--latency", "-t=new", "--where", "t"]
    assert changed("--config", "newest.yaml", "-s", "snew") == [
        "--config",
        "newest.yaml",
        "-s",
        "snew",
        "teacher_checkpoint=new",
    ]
    assert changed("teacher_checkpoint=t", "init_from=checkpoints/t.pt") == [
        "teacher_checkpoint=new",
        "init_from=checkpoints/new.pt",
    ]
    job = ["python", "main.py", "digits", "student", "-tt", "-s", "s"]
    assert rename.is_named("t", Path(write_schedule([job], "a.json"))) and not rename.is_named("digits", Path("a.json"))
    Path("b.yaml").write_text("init_from: checkpoints/t.pt\n")
    write_schedule([[*job[:4], "-t", "q", "-s", "s", "--config", "b.yaml"], ["no job"]], "a.json")
    assert rename.is_named("t", Path("a.json")) and not rename.is_named("other", Path("a.json"))


def test_a_lock_on_a_removed_file_keeps_nobody_out(workplace, monkeypatch):
    lock_now, times = lock._lock, []

    def removed_meanwhile(file, kind):
        if not times:
            times.append(os.unlink(file.name))
        return lock_now(file, kind)

    monkeypatch.setattr(lock, "_lock", removed_meanwhile)
    with lock.take("r"), pytest.raises(Busy):
        lock.take("r")
