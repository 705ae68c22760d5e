"""Files of safetensors: sorted names, other types, damage, and the package missing."""

import json
import pathlib
import struct
import sys

import pytest
import safetensors.torch
import torch
from foreigners import config, small

from system.errors import RequestError
from weights import origin, pretrained


def read(source):
    return pretrained.read(source, "digits")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_safetensors(prefix, workplace):
    """Sorted by name, with a network whose names are not ours."""
    state = {prefix + name: each.half() if name.startswith("fc") else each for name, each in small().items()}
    safetensors.torch.save_file(state, "w.safetensors", metadata={"format": "pt"})
    found = read("w.safetensors")
    assert same(found, {name: each.float() if each.is_floating_point() else each for name, each in sorted(
        (name.removeprefix(prefix), each) for name, each in state.items())})  # fmt: skip
    torch.save({name.removeprefix(prefix): each for name, each in state.items()}, "w.pt")
    origins = [origin.origin(each, config(), "run") for each in ("w.pt", "./w.safetensors")]
    assert origins[0].digest == origins[1].digest and origins[0].config == origins[1].config


def header(entries, data=b"", length=None):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


WHOLE = safetensors.torch.save(small())
UNWHOLE = {
    "cut": WHOLE[:-100],
    "cut in its header": WHOLE[:300],
    "a few bytes": WHOLE[:5],
    "a huge header": header({"a": entry([1], 0, 4)}, bytes(4), length=2**63),
    "a long header": header({"a": entry([1], 0, 4)}, bytes(4), length=10**9),
    "no JSON": header(b'{"a": ', bytes(4)),
    "a list": header(b'{"a": [1]}', bytes(4)),
    "overlapping": header({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)),
    "a hole": header({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)),
    "beyond its end": header({"a": entry([2], 0, 8)}, bytes(4)),
    "backwards": header({"a": entry([1], 4, 0)}, bytes(4)),
    "another size": header({"a": entry([3], 0, 8)}, bytes(8)),
    "an unknown type": header({"a": entry([1], 0, 4, "F99")}, bytes(4)),
    "more behind": WHOLE + b"more",
}


@pytest.mark.parametrize("case", UNWHOLE)
def test_safetensors_that_are_not_whole(case, workplace):
    pathlib.Path("w.safetensors").write_bytes(UNWHOLE[case])
    with pytest.raises(RequestError, match="^w.safetensors is no whole safetensors file") as error:
        read("w.safetensors")
    assert "damaged" not in str(error.value) and str(error.value).endswith("fetch or copy it again")


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.uint8, torch.float8_e4m3fn])
def test_safetensors_of_other_numbers(dtype, workplace):
    safetensors.torch.save_file({"a.weight": torch.ones(2, 2).to(dtype), "b.weight": torch.ones(2)}, "w.bin")
    with pytest.raises(RequestError, match=f"w.bin: a.weight is no weight, but a tensor of {dtype}"):
        read("w.bin")


def test_without_safetensors(workplace, monkeypatch):
    safetensors.torch.save_file(small(), "w.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(
        RequestError, match="safetensors format.*pip install safetensors, or save its tensors by torch.save"
    ):
        read("w.safetensors")
