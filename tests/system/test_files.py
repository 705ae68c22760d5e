"""A file that is new, written whole or not at all."""

import errno

import pytest

from system.errors import MachineFault, RequestError
from system.files import write_new


def test_a_new_file_replaces_nothing(tmp_path):
    """Of two that write one name at once, one has it, whole; what a user calls .partial stays; a fault leaves nothing."""
    path, own = tmp_path / "a.onnx", tmp_path / "a.onnx.partial"
    own.write_text("mine")

    def slowly(mine):
        mine.write_bytes(b"first")
        write_new(path, lambda other: other.write_bytes(b"second"))

    with pytest.raises(RequestError, match="was written by another program meanwhile"):
        write_new(path, slowly)
    assert path.read_bytes() == b"second" and own.read_text() == "mine"

    def full(mine):
        mine.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(MachineFault, match="b.onnx cannot be written.*No space left"):
        write_new(tmp_path / "b.onnx", full)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.onnx", "a.onnx.partial"]
