"""Classes of a user's own Python files, which stay outside of this tree: `--module FILE`, `--network FILE:CLASS`.

    path, name = parts("mine.py:Net")            # ("mine.py", "Net")
    class_of("--network", "mine.py:Net")         # the class; its file is run once for each of its contents

Imports no torch.
"""

import inspect
import os
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from system import files
from system.errors import RequestError, did_you_mean, first_line

SUFFIX = ".py"
MODULES = "user_module_"  # how the names of the modules begin that hold a user's classes
FLAGS = ("module", "network", "loss")  # whose value may be, or name, a Python file


def is_of_file(text: object) -> bool:
    """Return whether a text has the form FILE.py:CLASS."""
    path, colon, name = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    return bool(colon) and path.endswith(SUFFIX) and name.isidentifier()


def parts(text: str) -> tuple[str, str]:
    """Return the file and the class of FILE.py:CLASS."""
    path, _, name = text.rpartition(":")
    return path, name


def check_form(what: str, text: str) -> str:
    """Return a text of the form FILE.py:CLASS. Raise RequestError for another one; `what` names what it should be."""
    if is_of_file(text):
        return text
    path, _, name = text.rpartition(":")
    if text.endswith(SUFFIX):
        raise RequestError(f"{what} {text!r}: name its class too, as {text}:CLASS")
    if path.endswith(SUFFIX):
        raise RequestError(f"{what} {text!r}: {name!r} is not the name of a class")
    raise RequestError(f"{what} {text!r} does not have the form FILE.py:CLASS, as mine.py:Mine")


def files_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the user's Python files that a configuration names, by flag."""
    of_classes = {flag: parts(config[flag])[0] for flag in FLAGS if is_of_file(config.get(flag))}
    return of_classes | ({"module": config["module"]} if config.get("module") else {})


def digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of these files by the keys that a run records them by. Raise RequestError where one cannot be read."""
    return {f"{flag}_digest": digest(flag, path) for flag, path in files_of(config).items()}


def digest(flag: str, path: str) -> str:
    """Return the digest of a user's file. Raise RequestError, which names the flag, where it cannot be read."""
    try:
        return files.file_digest(path)
    except RequestError as error:
        raise RequestError(f"--{flag} {error}")


def elsewhere(value: str, path: str) -> str:
    """Return the value of a flag, a file or FILE.py:CLASS, with another path to the file."""
    return f"{path}:{parts(value)[1]}" if is_of_file(value) else path


def located(value: str, digest: str | None, nearby: Iterable[str] = ()) -> str:
    """Return the value of a flag with the path where a file of this digest lies.

    That is the path of the value itself, one of `nearby`, or that of its name in the current folder. The value is returned as it is
    where none of them holds such a file.
    """
    path = parts(value)[0] if is_of_file(value) else value
    places = (path, *nearby, os.path.basename(path))
    return next((elsewhere(value, place) for place in places if holds(place, digest)), value)


def holds(path: str, digest: str | None) -> bool:
    """Return whether there is a file with the contents of a digest."""
    return bool(digest) and os.path.isfile(path) and files.file_digest(path) == digest


def are_one(one: str, other: str) -> bool:
    """Return whether two names of networks are equal, or name the same class of files of the same contents."""
    if one == other or not (is_of_file(one) and is_same(one, other)):
        return one == other
    path, there = parts(one)[0], parts(other)[0]
    return os.path.isfile(path) and holds(there, files.file_digest(path))


def without_folders(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration whose user's files have no folder: their digests say which they are."""
    return {
        **config,
        **{flag: elsewhere(config[flag], os.path.basename(path)) for flag, path in files_of(config).items()},
    }


def is_same(one: str, other: str) -> bool:
    """Return whether two values of a flag name the same class, or none, of their files."""
    return is_of_file(one) == is_of_file(other) and (not is_of_file(one) or parts(one)[1] == parts(other)[1])


def module_of(flag: str, path: str) -> ModuleType:
    """Return a user's file as a module. Raise RequestError where it cannot be read or run; `flag` as --network."""
    name = MODULES + digest(flag.lstrip("-"), path)
    if name in sys.modules:
        return sys.modules[name]
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = path
    try:
        exec(compile(files.read_file(path), path, "exec"), vars(module))
    except (Exception, SystemExit) as error:  # whatever a user's file may raise while it is read
        del sys.modules[name]
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise RequestError(f"{flag} {path}{where}: {type(error).__name__}: {first_line(error)}")
    return module


def class_of(flag: str, text: str) -> type:
    """Return the class that FILE.py:CLASS names. Raise RequestError where its file does not define it."""
    path, name = parts(text)
    module = module_of(flag, path)
    found = getattr(module, name, None)
    if not isinstance(found, type):
        own = [key for key, each in vars(module).items() if getattr(each, "__module__", "") == module.__name__]
        raise RequestError(f"{flag} {path} defines no class {name}{did_you_mean(name, own)}")
    return found


def called(flag: str, text: str, given: Mapping[str, Any], **needed: tuple[str, ...]) -> Any:
    """Return an instance of the class that FILE.py:CLASS names, called with those of the `given` arguments that it takes.

    Args: needed: names of one argument, of which the class must take one; it is given by the first that it takes.
    Raise RequestError where it takes none of them, or cannot be called.
    """
    kind = class_of(flag, text)
    try:
        parameters = inspect.signature(kind).parameters
        takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
        arguments = {name: value for name, value in given.items() if name in parameters}
        for value_of, names in needed.items():
            name = next((each for each in names if each in parameters), names[0] if takes_all else None)
            if name is None:
                raise RequestError(f"{flag} {text}: the class takes no argument {' or '.join(names)}")
            arguments[name] = given[value_of]
        return kind(**arguments)
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f"{flag} {text}: {type(error).__name__}: {first_line(error)}")
