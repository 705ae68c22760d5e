"""schedules.pack: what is packed here goes on elsewhere; what somebody has made up is refused, and nothing is left of it."""

import hashlib
import io
import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from results import points, refused, rows_of, same_run, snapshot
from run_folders import table, told
from small_runs import TINY

import main
from record import lock
from schedules import collate, pack, rename
from schedules.packed import MANIFEST

STUDENT = ["digits", "student", "-t", "t", "-s", "s", *TINY, "--train_size", "64"]


@pytest.fixture(scope="module")
def made(teacher, tmp_path_factory):
    """The tiny teacher t, its student s of 1 of 2 epochs, and s.tar, in which both are; alone.tar has s alone."""
    folder = tmp_path_factory.mktemp("pack") / "made"
    shutil.copytree(teacher, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main.main([*STUDENT, "--until", "1"]) == 0
        assert pack.main(["s", "--with_teachers", "-o", "s.tar"]) == pack.main(["runs/s/", "-o", "alone.tar"]) == 0
    return folder


def test_a_pack_goes_on_in_another_folder(made, workplace, capsys, monkeypatch):
    shutil.copy(made / "s.tar", workplace)
    assert pack.main(["--open", "s.tar"]) == 0 and capsys.readouterr().out == "s.tar: s, t are here now\n"
    assert {path.name for path in workplace.rglob("*") if path.name.startswith(".")} == set()
    for name in ("s", "t"):
        assert rows_of(workplace, name) == rows_of(made, name) and points(workplace, name) == points(made, name)
    assert main.main([*STUDENT, "--resume"]) == 0
    there = workplace / "there"
    shutil.copytree(made, there)
    monkeypatch.chdir(there)
    assert main.main([*STUDENT, "--resume"]) == 0
    monkeypatch.chdir(workplace)
    assert same_run(there, workplace, "s")  # to the bit what it becomes where it was made
    assert main.main([*STUDENT, "--evaluate"]) == 0
    assert main.main([*STUDENT[:5], "second", *STUDENT[6:], "--epochs", "1"]) == 0  # t teaches
    assert told(capsys, collate.main, "-o", "study")[0] == 0 and [*table()[0]] == ["s", "second", "t"]
    assert "there is a run 's' here: rename or remove it" in refused(capsys, pack.main, "--open", "s.tar")[1]


def test_without_its_teacher(made, workplace, capsys):
    shutil.copy(made / "alone.tar", workplace)
    assert pack.main(["--open", "alone.tar"]) == 0
    assert "note: s needs t (its teacher), which is not here" in capsys.readouterr().out
    assert refused(capsys, pack.main, "s", "--with_teachers")[1].startswith(
        "error: s needs t (its teacher), which is not here"
    )
    assert (
        pack.main(["s"]) == 0 and "note: s needs t (its teacher), which is not in the pack" in capsys.readouterr().out
    )
    shutil.rmtree(workplace / "runs"), shutil.rmtree(workplace / "checkpoints")
    assert main.main(["digits", "teacher", "-t", "t", *TINY, "--seed", "1", "--epochs", "1"]) == 0
    assert pack.main(["--open", "s.pack.tar"]) == 0  # a pack of what was opened is a pack
    assert "warning: s comes from another t than the run here" in capsys.readouterr().out


def test_what_is_not_packed(made, workplace, capsys):
    shutil.copytree(made, workplace, dirs_exist_ok=True)

    def says(*arguments):
        return refused(capsys, pack.main, *arguments)[1].removeprefix("error: ")

    assert says("q") == "there is no run 'q'" and says().startswith("there is nothing to do")
    assert says("--open", "s.tar", "s").startswith("NAME does not go with --open") and "-o does not" in says(
        "--open", "x", "-o", "y"
    )
    assert (
        says("--open", "s.ta") == "s.ta does not exist; did you mean 's.tar'?"
        and says("--open", "runs") == "runs is no file"
    )
    Path("notes.tar").write_text("mine")
    assert says("s", "-o", "notes.tar").startswith("notes.tar exists, and is left as it is")
    with lock.take("s"):
        assert "the run 's' is being trained at this moment" in says("s")
    with Path("runs/s/metrics.jsonl").open("a") as file:
        file.write('{"epoch": 1, "test_top1_error": 0.0}\n')
    assert says("s").startswith("the metrics of s are not those of its checkpoint")
    Path("checkpoints/t.pt").write_bytes(Path("checkpoints/t.pt").read_bytes()[:-9])
    assert told(capsys, pack.main, "t")[0] == 4 and not Path("t.pack.tar").exists()


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def write(members, manifest=None):
    """Write evil.tar of (name or TarInfo, bytes); `manifest` changes the one that describes them rightly."""
    plain = [(each if isinstance(each, str) else each.name, data) for each, data in members]
    said = {"format": 1, "made": "", "runs": {"s": {"teacher_checkpoint": "t"}}, "files": {}}
    said["files"] = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in plain}
    said = manifest(said) if manifest else said
    with tarfile.open("evil.tar", "w") as archive:
        for each, data in [(MANIFEST, said if isinstance(said, bytes) else json.dumps(said).encode()), *members]:
            member = each if isinstance(each, tarfile.TarInfo) else tarfile.TarInfo(each)
            member.size = len(data) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(data))


def special(name, kind, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("it_ran"),)


def checkpoint(document, **how) -> bytes:
    file = io.BytesIO()
    torch.save(document, file)
    if how:
        with (
            zipfile.ZipFile(file) as plain,
            zipfile.ZipFile(packing := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for name in plain.namelist():
                archive.writestr(name, plain.read(name))
        file = packing
    return file.getvalue() + f"sha256 {hashlib.sha256(file.getvalue()).hexdigest()}\n".encode()


def changed(key, value):
    return lambda said: {**said, key: value(said[key]) if callable(value) else value}


def sized(name, **about):
    return changed("files", lambda files: {**files, name: {**files[name], **about}})


CONFIG, PT = "runs/s/config.json", "checkpoints/s.pt"
ATTACKS = {
    "a path upwards": (lambda good: [*good, ("../escaped", b"x")], None, "is no file of one of its runs"),
    "an absolute path": (lambda good: [*good, ("/tmp/escaped", b"x")], None, "is no file of one of its runs"),
    "a path upwards in a run": (lambda good: [*good, ("runs/../escaped", b"x")], None, "is no file of one of its runs"),
    "not in the manifest": (lambda good: [*good, ("main.py", b"x")], changed("files", lambda of: {k: v for k, v in of.items() if k != "main.py"}), "'main.py', which its manifest does not name"),
    "a link": (lambda good: [(special("runs/s/end.json", tarfile.SYMTYPE, "/etc/passwd"), b""), *good], None, "no plain file"),
    "a hard link": (lambda good: [*good, (special("runs/s/end.json", tarfile.LNKTYPE, PT), b"")], None, "no plain file"),
    "a device": (lambda good: [*good, (special("runs/s/end.json", tarfile.CHRTYPE), b"")], None, "no plain file"),
    "twice": (lambda good: [*good, good[-1]], None, "twice"),
    "larger than it says": (lambda good: good, sized(CONFIG, bytes=3), "its manifest says 3"),
    "a bomb": (lambda good: good, sized(CONFIG, bytes=10**15), "its files have 1,000,000,"),
    "another digest": (lambda good: good, sized(CONFIG, sha256="0" * 64), "SHA-256 is not the one in the manifest"),
    "no checkpoint": (lambda good: good[1:], None, "its manifest is wrong: checkpoints/s.pt is missing"),
    "less than it says": (lambda good: good, lambda said: {**said, "files": {**said["files"], "runs/s/end.json": {"bytes": 0, "sha256": "0" * 64}}}, "runs/s/end.json is missing"),
    "a later format": (lambda good: good, changed("format", 2), "has format '2'; this version of swapconv reads format 1"),
    "another name": (lambda good: good, changed("runs", {"s": {}, "../x": {}}), "a run of the pack '../x'"),
    "needs that it has not": (lambda good: good, changed("runs", {"s": {}}), "its manifest is wrong about what s needs"),
    "a name of this program's own": (lambda good: good, changed("runs", {".opening": {}}), "'.opening': a run's name does not begin with a dot"),
    "a record that no run has": (lambda good: [(name, data if name != CONFIG else json.dumps({**json.loads(data), "resumed": [1]}).encode()) for name, data in good], None, "its resumed is no list of objects"),
    "no JSON": (lambda good: good, lambda said: b"[" * 99_999, "no pack of schedules.pack, or it is damaged"),
    "a pickle": (lambda good: [(PT, checkpoint(Evil())), *good[1:]], None, "holds no checkpoint"),
    "a compressed checkpoint": (lambda good: [(PT, checkpoint({}, deflated=True)), *good[1:]], None, "is compressed"),
    "made-up contents": (lambda good: [*good[:-1], ("runs/s/metrics.jsonl", b"\xff\xfe[")], None, "is refused"),
    "another run's checkpoint": (lambda good: [(PT, good[-1][1]), *good[1:-1], ("runs/s/metrics.jsonl", b"")], None, "is refused"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_pack(name, made, workplace, capsys):
    change, manifest, words = ATTACKS[name]
    there = contents(made / "alone.tar")
    order = [PT, CONFIG, *sorted({*there} - {PT, CONFIG, MANIFEST, "runs/s/metrics.jsonl"}), "runs/s/metrics.jsonl"]
    good = [(each, there[each]) for each in order if each != "runs/s/end.json"]
    members = change(good)
    if name == "another run's checkpoint":
        members[0] = (PT, contents(made / "s.tar")["checkpoints/t.pt"])
    write(members, manifest)
    assert words in refused(capsys, pack.main, "--open", "evil.tar")[1]
    assert [path.name for path in workplace.iterdir()] == ["evil.tar"]
    write(good)
    assert pack.main(["--open", "evil.tar"]) == 0  # without the attack the same file opens


def test_damage_and_other_files(made, workplace, capsys):
    whole = (made / "alone.tar").read_bytes()
    for name, data in {
        "cut": whole[: len(whole) // 2],
        "start": whole[:700],
        "gz": b"\x1f\x8b" + whole,
        "empty": b"",
    }.items():
        Path(name).write_bytes(data)
        said = refused(capsys, pack.main, "--open", name)[1]
        assert "pack" in said or "is refused" in said


def test_killed_while_it_moves(made, workplace, capsys, monkeypatch):
    shutil.copy(made / "s.tar", workplace)

    if (child := os.fork()) == 0:
        moved, move = [], os.rename
        monkeypatch.setattr(os, "rename", lambda *names: moved.append(move(*names)) if len(moved) < 2 else os._exit(9))
        os._exit(pack.main(["--open", "s.tar"]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert Path("checkpoints/s.pt").exists() and not Path("checkpoints/t.pt").exists()
    assert "first repeat python -m schedules.pack --open s.tar" in refused(capsys, rename.main, "s", "x")[1]
    assert pack.main(["--open", "s.tar"]) == 0
    assert not [*Path("runs").glob(".*"), *Path("checkpoints").glob(".*")]
    before = snapshot(workplace)
    assert main.main(["digits", "teacher", "-t", "t", *TINY, "--resume"]) == 0 and snapshot(workplace) == before
