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
from record import lock, reader
from record.checkpoint import digest
from record.paths import RUNS
from schedules import collate, remove, rename
from system.errors import RequestError

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


CHANGES = ("os.replace", "os.rename", "os.unlink", "os.rmdir")


def killed_at(monkeypatch, step: int, program, arguments) -> int:
    """The exit status of a process that is killed before its change number `step` to the file system."""
    if (child := os.fork()) == 0:
        left = step

        def dying(change):
            def changed(*positional, **keywords):
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                return change(*positional, **keywords)

            return changed

        for name in CHANGES:
            monkeypatch.setattr(name, dying(getattr(os, name.removeprefix("os."))))
        os._exit(program.main(arguments))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(
    "program, arguments", [(rename, ["t", "new"]), (remove, ["t", "n", "s", "--yes"])], ids=["rename", "remove"]
)
def test_killed_anywhere_the_same_command_finishes(program, arguments, lineage, monkeypatch, tmp_path_factory, capsys):
    """Each change to the file system is the last of one process; what ends the work leaves the same as one that is not killed."""
    start, step = tmp_path_factory.mktemp("start") / "copy", 0
    shutil.copytree(lineage, start)

    def state():
        return {
            str(path): path.read_text() if path.suffix in (".json", ".yaml") else path.suffix == ".pt" and saved(lineage, path.stem)["config"]
            for root in ("runs", "checkpoints")
            for path in sorted(Path(root).rglob("*"))
        }  # fmt: skip

    assert program.main(arguments) == 0
    wanted = state()
    while True:
        for root in ("runs", "checkpoints"):
            shutil.rmtree(root)
            shutil.copytree(start / root, root)
        if killed_at(monkeypatch, step, program, arguments) == 0:
            break
        if (RUNS / ".unfinished.json").exists():
            other = [remove, "n", "--yes"] if program is rename else [rename, "n", "m"]
            with pytest.raises(RequestError, match="an earlier command was killed: first repeat python -m schedules"):
                other[0].main(other[1:])
        assert program.main(arguments) == 0
        assert state() == wanted, step
        step += 3 if program is rename else 1
    assert step > 10 and state() == wanted
