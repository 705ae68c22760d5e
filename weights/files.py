"""Read what a file of weights holds, without running anything: torch.save's files and safetensors.

    load("w.pth")                     # whatever was saved: a state dict, or a dict that holds some
    load("w.safetensors")             # a state dict, in the order of its names
    header("w.safetensors")           # the texts in its header

torch.load runs with weights_only=True. It is allowed by name to read what training scripts keep beside the weights if
that is only data (argparse's Namespace, NumPy's scalars and arrays, paths, dates). Any other file is refused with a
message that says what it is, by its first bytes, and what to do.
"""

import errno
import pathlib
import pickle
import re
import tarfile
import types
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from system.errors import MachineFault, RequestError, first_line

Read = TypeVar("Read")
TRY_AGAIN = "fetch or copy it again"
TORCH = "damaged, or nothing that torch.save wrote"
FAILING = (errno.EIO, errno.ENXIO, errno.ESTALE, errno.ETIMEDOUT)  # faults of a disk or a file server, not of a file

KINDS = (  # how other files begin, what they are, what to do
    (b"version https://git-lfs", "a pointer of Git LFS, not the weights themselves", "`git lfs pull` fetches them"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it first, by gunzip"),
    (b"BZh", "compressed by bzip2", "unpack it first, by bunzip2"),
    (b"\xfd7zXZ\0", "compressed by xz", "unpack it first, by unxz"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it first, by unzstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it, and give the file of weights in it"),
    (b"Rar!", "a RAR archive", "unpack it, and give the file of weights in it"),
    (b"\x89HDF\r\n", "an HDF5 file, as Keras writes", "save the weights by torch.save, or as safetensors"),
    (b"\x93NUMPY", "a NumPy array", "save a state dict of tensors by torch.save"),
    (b"\x04\0\0\0\x01\0\0\0", "a file of Torch 7 (Lua)", "convert it, and save a state dict by torch.save"),
    (b"%PDF", "a PDF document", "give a file of weights"),
)
HTML = re.compile(rb"\s*<(!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)
JSON = re.compile(rb"\s*[{\[]\s*[\"{\[\]}]")


def load(path: str) -> object:
    """Return what was saved, on the CPU.

    Raises RequestError where the file holds no weights or is damaged, MachineFault where the disk fails.
    """
    try:
        with open(path, "rb") as file:
            head, size = file.read(512), file.seek(0, 2)
        _check_kind(path, head)
        return _safetensors(path, head, size) if _is_safetensors(path, head) else _torch(path)
    except OSError as error:
        if error.errno in FAILING:
            raise MachineFault(f"{path} cannot be read: {first_line(error)}")
        raise RequestError(f"{path} cannot be read: {first_line(error)}")


def header(path: str) -> dict[str, str]:
    """Return the texts that the header of a safetensors file holds; none where a file is another one.

    Raises what `load` raises.
    """
    try:
        with open(path, "rb") as file:
            head, size = file.read(512), file.seek(0, 2)
        return (
            _in_safetensors(path, head, size, lambda file: file.metadata() or {}) if _is_safetensors(path, head) else {}
        )
    except OSError as error:
        if error.errno in FAILING:
            raise MachineFault(f"{path} cannot be read: {first_line(error)}")
        raise RequestError(f"{path} cannot be read: {first_line(error)}")


def _check_kind(path: str, head: bytes) -> None:
    """Raise RequestError where a file is of a known kind that cannot be read as weights here."""
    for begin, what, way in KINDS:
        if head.startswith(begin):
            raise RequestError(f"{path} is {what}: {way}")
    if HTML.match(head):
        raise RequestError(
            f"{path} is a web page, not the weights themselves: download the file that the page is about"
        )
    if JSON.match(head):
        raise RequestError(
            f"{path} is JSON text, not the weights themselves: give the file of weights that it is about"
        )
    if head.startswith(b"PK"):
        _check_zip(path)
    elif head[257:262] == b"ustar":
        _check_tar(path)
    elif path.lower().endswith(".onnx"):
        raise RequestError(
            f"{path} is an ONNX graph, without a state dict: save the network's state_dict() by torch.save"
        )


def _check_zip(path: str) -> None:
    """Raise RequestError where a zip archive is damaged or not torch.save's. torch.load does not verify checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
                way = f"save torch.jit.load({path!r}).state_dict() by torch.save"
                raise RequestError(f"{path} is a TorchScript archive, which holds a program: {way}")
            if names and not any(name.endswith("data.pkl") for name in names):
                kind = "NumPy's arrays (npz)" if all(name.endswith(".npy") for name in names) else "other files"
                listed = ", ".join(names[:3]) + ", …" * (len(names) > 3)
                ways = {"other files": "unpack it, and give a file of weights"}
                way = ways.get(kind, "save a state dict by torch.save")
                raise RequestError(f"{path} is a zip archive of {kind} ({listed}): {way}")
            if broken := archive.testzip():
                raise RequestError(f"{path} is damaged: {broken} in it has another checksum than it says: {TRY_AGAIN}")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        begins = "it begins as torch.save's zip archives do, but its end is missing or wrong"
        raise RequestError(f"{path} is damaged, or cut: {begins} ({first_line(error)}): {TRY_AGAIN}")


def _check_tar(path: str) -> None:
    """Raise RequestError that says what kind of tar archive a file is: all are refused."""
    try:
        with tarfile.open(path) as archive:
            names = [member.name for member in (archive.next() for _ in range(4)) if member is not None]
    except (tarfile.TarError, EOFError) as error:
        raise RequestError(f"{path} is a tar archive that cannot be read ({first_line(error)}): {TRY_AGAIN}")
    if {"storages", "pickle"} & set(names):
        way = "load and save it once with a torch of today: torch.save(torch.load(FILE, weights_only=False), NEW)"
        raise RequestError(f"{path} is in the tar format of torch before 0.1.10: {way}")
    listed = ", ".join(names[:3]) + ", …" * (len(names) > 3)
    raise RequestError(f"{path} is a tar archive ({listed}): unpack it, and give the file of weights in it")


def _is_safetensors(path: str, head: bytes) -> bool:
    """Return whether a file begins with a length in 8 bytes and JSON, or is called so and is not torch.save's."""
    by_content = head[6:8] == b"\0\0" and head[8:9] == b"{"
    return by_content or (path.lower().endswith(".safetensors") and not head.startswith((b"PK", b"\x80")))


def _safetensors(path: str, head: bytes, size: int) -> dict[str, Tensor]:
    """Return the tensors sorted by name: the order in which a file lists them says nothing."""
    return _in_safetensors(
        path, head, size, lambda file: {name: file.get_tensor(name).clone() for name in sorted(file.keys())}
    )


def _in_safetensors(path: str, head: bytes, size: int, read: Callable[[Any], Read]) -> Read:
    """Return what `read` makes of a file that is open. Raise RequestError where it is not whole."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        way = "pip install safetensors, or save its tensors by torch.save"
        raise RequestError(f"{path} is in the safetensors format, which needs the package of that name: {way}")
    header = int.from_bytes(head[:8], "little")
    if len(head) < 8 or header > size - 8:
        told = f"its header would have {header:,} of its {size:,} bytes" if len(head) >= 8 else f"it has {size} bytes"
        raise RequestError(f"{path} is no whole safetensors file, {told}: {TRY_AGAIN}")
    try:
        with safe_open(path, framework="pt") as file:
            return read(file)
    except OSError:
        raise
    except (SafetensorError, Exception) as error:  # whatever a wrong header makes safetensors raise
        raise RequestError(f"{path} is no whole safetensors file ({first_line(error)}): {TRY_AGAIN}")


def _torch(path: str) -> object:
    """Return what torch.save has saved."""
    try:
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        told = str(error)
        if found := re.search(r"GLOBAL ([\w.]+)|(?:but got|function) <(?:class|function)? ?'?([\w.]+)", told):
            what = found[1] or found[2]
            raise RequestError(f"{path} holds more than tensors ({what}), which could run anything: {_advice()}")
        if "Unsupported operand" in told:
            way = "torch.save(…, pickle_protocol=2) writes that"
            raise RequestError(f"{path} is {TORCH} in its default pickle protocol: {way}")
        raise RequestError(f"{path} is {TORCH}")
    except OSError as error:
        if error.errno in FAILING or isinstance(error, (PermissionError, FileNotFoundError)):
            raise
        raise RequestError(f"{path} is {TORCH} ({first_line(error)})")
    except Exception as error:  # whatever a damaged file makes pickle or torch raise
        raise RequestError(f"{path} is {TORCH} ({type(error).__name__})")


def _advice() -> str:
    """Return the advice for a file that holds more than tensors."""
    trusted = "torch.save(torch.load(FILE, weights_only=False), NEW) with ['state_dict'], or .state_dict() of a whole network, behind load(…)"
    return f"save the network's state_dict() instead, or if you trust whoever made it, its state dict alone: {trusted}"


def _harmless() -> list[Callable | tuple[Callable, str]]:
    """Return classes and functions that only make data, under the names by which pickles call them."""
    arrays = [(made.__reduce__()[0], name) for made, name in ((np.float64(), "scalar"), (np.ones(1), "_reconstruct"))]
    numpy = [(made, f"numpy.{core}.multiarray.{name}") for made, name in arrays for core in ("core", "_core")]
    dtypes = [kind for kind in vars(np.dtypes).values() if isinstance(kind, type) and issubclass(kind, np.dtype)]
    paths = [
        (pathlib.PureWindowsPath if "Windows" in name else pathlib.PurePosixPath, f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
    ]
    plain = (int, float, bool, str, list, dict, frozenset, range, slice)
    builtins = [(each, f"builtins.{each.__name__}") for each in plain]
    empty = [(_empty_dict, "collections.defaultdict"), (_empty_list, "collections.deque")]  # their contents follow
    lightning = (
        "lightning.fabric.utilities.data",
        "lightning_fabric.utilities.data",
        "pytorch_lightning.utilities.parsing",
    )
    dicts = [(dict, f"{module}.AttributeDict") for module in lightning]
    dates = [date, datetime, time, timedelta, timezone]
    own = [Namespace, types.SimpleNamespace, torch.torch_version.TorchVersion, np.ndarray, np.dtype]
    return [*own, *dates, *numpy, *dtypes, *paths, *builtins, *empty, *dicts]


def _empty_dict(*arguments) -> dict:
    return {}


def _empty_list(*arguments) -> list:
    return []
