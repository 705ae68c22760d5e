"""Files that survive: atomic writes, the one before, damage of every byte, hostile pickles."""

import io
import os
import random

import pytest
import torch
from children import Child
from small_runs import TINY

from record import checkpoint
from system import files
from system.errors import MachineFault, RequestError

DIGITS = ["digits", "teacher", "-t", "t", *TINY]


def contents(**some):
    return {part: kind() for part, kind in checkpoint.PARTS.items() if part != "format"} | some


def sealed(path, value):
    """A file with a right digest, whatever is in it."""
    stream = io.BytesIO()
    torch.save(value, stream)
    hashing = checkpoint._Hashing(io.BytesIO())
    hashing.write(stream.getvalue())
    path.write_bytes(stream.getvalue() + f"sha256 {hashing.sha256.hexdigest()}\n".encode())


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.pt"
    checkpoint.save(path, contents(epoch=1))

    def full(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    def interrupted(file):
        file.write(b"half")
        raise KeyboardInterrupt

    for write, error in ((full, MachineFault), (interrupted, KeyboardInterrupt)):
        with pytest.raises(error):
            files.write_atomically(path, write)
        assert checkpoint.load(path)[0]["epoch"] == 1 and [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_what_torch_says_of_a_full_disk_is_translated(tmp_path, monkeypatch):
    def write(self, data):
        self.error = OSError(28, "No space left on device")
        raise self.error

    monkeypatch.setattr(checkpoint._Hashing, "write", write)
    with pytest.raises(MachineFault, match="a.pt cannot be written: No space left on device$"):
        checkpoint.save(tmp_path / "a.pt", contents(model={"w": torch.ones(5)}))
    assert list(tmp_path.iterdir()) == []


def test_the_one_before_is_kept_and_used(tmp_path, capsys):
    path = tmp_path / "a.pt"
    for epoch in (1, 2, 3):
        checkpoint.save(path, contents(epoch=epoch, step=epoch - 1, model={"w": torch.ones(1000)}))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "a.pt.previous"]
    assert checkpoint.load(path)[0]["epoch"] == 3
    whole = path.read_bytes()
    for damaged in (whole[:700], b"", whole[:2000] + b"\xff" + whole[2001:], None):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        assert checkpoint.load(path)[0]["epoch"] == 2
        err = capsys.readouterr().err
        assert "a.pt is damaged" in err if damaged is not None else "a.pt is missing" in err
        assert len(err.splitlines()) == 1 and err.endswith(": the one before it is used, of epoch 2, step 1\n")
    sealed(path, {"format": checkpoint.FORMAT})
    assert checkpoint.load(path)[0]["epoch"] == 2 and "its 'epoch' is NoneType" in capsys.readouterr().err
    (tmp_path / "a.pt.previous").write_bytes(b"")
    path.write_bytes(b"x")
    with pytest.raises(MachineFault) as error:
        checkpoint.load(path)
    told = str(error.value)
    assert "a.pt is damaged (it has 1 bytes), a.pt.previous is damaged (it has 0 bytes): put a copy" in told
    path.unlink()
    path.mkdir()
    with pytest.raises(MachineFault, match=r"a.pt cannot be read \(Is a directory\)"):
        checkpoint.load(path)


def test_2000_damages_are_all_noticed(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    checkpoint.save(path, contents(model={f"layer{n}": torch.randn(50, n + 1) for n in range(10)}))
    whole, draw = path.read_bytes(), random.Random(0)
    unpickled = []
    monkeypatch.setattr(checkpoint.torch, "load", lambda *arguments, **keywords: unpickled.append(1))
    for number in range(2000):
        damaged = bytearray(whole)
        if number % 4 == 0:
            del damaged[draw.randrange(len(whole)) :]
        else:
            damaged[draw.randrange(len(whole))] ^= draw.randrange(1, 256)
        path.write_bytes(damaged)
        with pytest.raises(MachineFault, match="is damaged"):
            checkpoint.load(path)
    assert not unpickled  # nothing looked into a damaged file


def test_a_newer_format_is_refused(tmp_path):
    sealed(tmp_path / "a.pt", {"format": checkpoint.FORMAT + 1})
    with pytest.raises(RequestError, match=f"has format {checkpoint.FORMAT + 1}; .* reads up to {checkpoint.FORMAT}"):
        checkpoint.load(tmp_path / "a.pt")


@pytest.mark.parametrize("value", [[], {}, 3, {"format": "2"}, {"format": 2}, {"format": True}])
def test_what_is_no_checkpoint(tmp_path, value):
    sealed(tmp_path / "a.pt", value)
    with pytest.raises(MachineFault, match="a.pt is damaged"):
        checkpoint.load(tmp_path / "a.pt")


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_a_hostile_pickle_runs_nothing(workplace):
    """As the run that is resumed, the teacher, the run to start from; with a digest as if it were ours, and without."""
    (workplace / "checkpoints").mkdir()
    student = ["digits", "student", "-t", "t", "-s", "s", *DIGITS[4:]]
    start = ["digits", "teacher", "-t", "s", "--init_from", "t", *DIGITS[4:]]
    commands = [*DIGITS, "--resume"], student, start

    def unsealed(path, value):
        torch.save(value, path)

    for seal, tried in ((sealed, commands), (unsealed, commands[:1])):  # without a digest none of them gets further
        seal(workplace / "checkpoints/t.pt", contents(format=checkpoint.FORMAT, epoch=Hostile()))
        for command in tried:
            child = Child(*command, cwd=workplace)
            assert (child.wait(), child.stdout) == (4, "")
            assert len(child.stderr.splitlines()) == 1 and "t.pt is damaged" in child.stderr
    assert [path.name for path in workplace.rglob("*")] == ["checkpoints", "t.pt"]


def test_without_hard_links_the_one_before_is_copied(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", link)
    for epoch in (1, 2, 3):
        checkpoint.save(tmp_path / "a.pt", contents(epoch=epoch))
    (tmp_path / "a.pt").unlink()
    assert checkpoint.load(tmp_path / "a.pt")[0]["epoch"] == 2


def test_views_are_stored_alone(tmp_path):
    checkpoint.save(tmp_path / "a.pt", contents(model={"w": torch.zeros(1_000_000)[:10]}))
    assert (tmp_path / "a.pt").stat().st_size < 3000


def test_other_tools_read_it(tmp_path):
    """The last line disturbs neither torch nor zip."""
    import zipfile

    checkpoint.save(tmp_path / "a.pt", contents(epoch=7))
    assert torch.load(tmp_path / "a.pt", weights_only=True)["epoch"] == 7
    assert zipfile.ZipFile(tmp_path / "a.pt").testzip() is None


def test_room(tmp_path):
    path = tmp_path / "checkpoints" / "a.pt"
    needed, free = checkpoint.room(path, 1000)
    assert needed == 3000 and free > 0
    path.parent.mkdir()
    path.write_bytes(b"x" * 900)
    assert checkpoint.room(path, 1000)[0] == 2100
    files.previous(path).write_bytes(b"x" * 9000)
    assert checkpoint.room(path, 1000)[0] == 1000
