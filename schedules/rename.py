"""Rename a run, in its own record and wherever other runs here name it: students of a renamed teacher go on as before.

    python -m schedules.rename digits.teacher wrn_16_1.digits

The name is changed in configurations, command lines and checkpoints; weights, metrics and digests stay as they are. After a kill the
same command goes on.
"""

import sys
from pathlib import Path

if not __package__:  # started as a file: its imports lie in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import json
import os
import re
from collections.abc import Mapping, Sequence

from cli import command
from cli.command import Parser
from cli.flags import training_parser
from cli.request import text
from cli.words import with_sizes
from record import reader, unfinished
from record.paths import CHECKPOINTS, RUNS, checkpoint_path
from schedules import lineage
from system.configuration import Configuration
from system.errors import Busy, MachineFault, RequestError, first_line
from system.files import write_atomically
from weights.needs import run_of

KEYS = ("teacher_checkpoint", "student_checkpoint", "init_from", "shrunk_from")


def options(arguments: Sequence[str] | None = None) -> Configuration:
    """Return the request."""
    parser = Parser(prog="python -m schedules.rename", description="Rename a run, wherever runs here name it.")
    parser.add_argument("old", metavar="OLD", help="a run")
    parser.add_argument("new", metavar="NEW", help="a name that is free")
    given = parser.parse_args(arguments)
    (old,), (new,) = lineage.named([given.old], "OLD", is_there=True), lineage.named([given.new], "NEW")
    if old == new:
        raise RequestError(f"OLD and NEW are both {old!r}")
    return Configuration({"old": old, "new": new})


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    request = options(arguments)
    old, new = request.old, request.new
    begun = unfinished.read()
    goes_on = begun is not None and (begun.what, begun.names) == ("rename", [old, new])
    if not goes_on:
        unfinished.check_finished()
        lineage.check_exists(old)
        check_free(old, new)
    check_apart(old, new)
    others = users(old, new)
    folders = [name for name in (old, new, *others) if (RUNS / name).is_dir()]
    lineage.check_none_begins(folders)

    def check_again() -> None:
        """Raise RequestError where a run has begun since that has the new name, or may need the old one."""
        if not goes_on:
            check_free(old, new)
        check_apart(old, new)
        lineage.check_none_begins(folders)
        if users(old, new) != others:
            raise Busy(f"another run has begun that needs {old!r}: repeat the command")

    with lineage.locked(folders):
        for name in dict.fromkeys([*(() if goes_on else [old]), *others]):
            check_whole(name)
        with unfinished.noted("rename", [old, new], check_again):
            for name in others:
                change(name, old, new)
            change(old, old, new)
            move(old, new)
    print(f"{old} is {new} now" + (f", also for {lineage.listed(others)}" if others else ""))
    for path in sorted(Path(".").glob("*.json")):
        if is_named(old, path):
            print(f"note: {path} still names {old}: schedules.run would train it again under that name, or look for it")
    return 0


def users(old: str, new: str) -> list[str]:
    """Return the other runs that need a run."""
    return list(dict.fromkeys(each.name for each in lineage.needed_by([old])[old] if each.name != new))


def check_free(old: str, new: str) -> None:
    """Raise RequestError where the new name is taken, or a job that has not begun needs the old one."""
    taken = [*lineage.names(), *(path.name for path in RUNS.glob("*"))]
    if clash := next((each for each in taken if each.lower() == new.lower() and each != old), None):
        raise RequestError(f"the name {new!r} is taken" + ("" if clash == new else f" by {clash!r}, in another case"))
    if jobs := lineage.jobs_that_need([old]):
        raise RequestError(f"{old!r} is still needed by {lineage.listed(jobs)}: run or delete the schedule first")


def check_apart(old: str, new: str) -> None:
    """Raise RequestError where something of the old name lies there under the new one too: then that is another run."""
    targets = [(path, _target(path, old, new)) for path in lineage.files_of(old)]
    both = [target for path, target in targets if os.path.lexists(target) and not _is_same(path, target)]
    if (RUNS / old).is_dir() and os.path.lexists(RUNS / new):
        both.append(RUNS / new)
    if both:
        is_whole = os.path.lexists(checkpoint_path(old))  # which is moved first: nothing of the new name is this run's
        way = f"remove it (python -m schedules.remove {new})" if is_whole else f"move {both[0]} away"
        raise RequestError(f"{both[0]} is of another run {new!r}, nothing was changed: {way}, then repeat the command")


def _target(path: Path, old: str, new: str) -> Path:
    return CHECKPOINTS / (new + path.name[len(old) :])


def _is_same(path: Path, other: Path) -> bool:
    """Return whether two paths are names of one file, as when a process was killed between its link and its removal."""
    return os.path.samestat(os.lstat(path), os.lstat(other))


def is_named(name: str, path: Path) -> bool:
    """Return whether a schedule names a run, as one of its own or as what another one needs, on a line or in a file of --config."""
    try:
        document = json.loads(path.read_bytes())
        lines = document if isinstance(document, list) else []
        argvs = [line for line in lines if isinstance(line, list) and all(isinstance(each, str) for each in line)]
        if any(renamed_argv(argv, name, "", {}) != argv for argv in argvs):
            return True
    except (OSError, ValueError, RecursionError):
        return False
    sources = [job.options.get(key) for job in lineage.jobs_of(path) for key in KEYS]
    return any(run_of(source) == name for source in sources if source)


def check_whole(name: str) -> None:
    """Raise MachineFault where the record or the checkpoint of a run cannot be read, before anything is changed."""
    for path in _documents(name):
        _document(path)
    record = reader.read(RUNS / name)
    if record is not None and record.fault:
        raise MachineFault(
            f"the run {name!r} cannot be renamed in, {record.fault}: resume that run, which writes it again"
        )
    if checkpoint_path(name).exists():
        from record.checkpoint import load_file

        load_file(checkpoint_path(name), f"run {name!r}")


def change(name: str, old: str, new: str) -> None:
    """Change a name wherever one run holds it: its checkpoints, its record, its configuration file."""
    from record.checkpoint import change_config

    for path in lineage.files_of(name):
        if path.suffix in (".pt", ".previous"):
            change_config(path, lambda config: renamed(config, old, new))
    request = RUNS / name / "config.yaml"
    if request.is_file():
        before = request.read_text()
        after = renamed_request(before, old, new)
        if after != before:
            _write(request, after)
    for path in _documents(name):  # last: by it a command that goes on finds what is left to change
        document = _document(path)
        if isinstance(document.get("config"), dict):
            changed = renamed_document(document, old, new)
            if changed != document:
                _write(path, json.dumps(changed, indent=1) + "\n")


def _documents(name: str) -> list[Path]:
    path = RUNS / name / "config.json"
    return [path] if path.is_file() else []


def _document(path: Path) -> dict:
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
        return found
    except (OSError, ValueError, RecursionError) as error:
        raise MachineFault(f"{path} cannot be read ({first_line(error)}): resume that run, which writes it again")


def _write(path: Path, contents: str) -> None:
    write_atomically(path, lambda file: file.write(contents.encode()))


def renamed(config: Mapping, old: str, new: str) -> dict:
    """Return a configuration that calls a run by its new name, by the path of its checkpoint too."""
    return {key: _source(value, old, new) if key in KEYS else value for key, value in config.items()}


def _source(value: str | None, old: str, new: str) -> str | None:
    if not isinstance(value, str) or not value or run_of(value) != old:
        return value
    return new if value == old else str(Path(value).with_name(f"{new}.pt"))


def renamed_document(document: Mapping, old: str, new: str) -> dict:
    """Return a config.json with the new name, in the command lines too."""
    config = renamed(document["config"], old, new)
    changed = {key: config[key] for key in KEYS if config.get(key) != document["config"].get(key)}

    def command_line(of: Mapping) -> dict:
        given = of.get("argv")
        return {"argv": renamed_argv(given, old, new, changed)} if isinstance(given, list) and changed else {}

    found = {**document, "config": config, **command_line(document)}
    if isinstance(document.get("resumed"), list):
        found["resumed"] = [{**each, **command_line(each)} for each in document["resumed"]]
    return found


def renamed_argv(argv: Sequence[str], old: str, new: str, changed: Mapping[str, str]) -> list[str]:
    """Return a command line with the new name; what a file of --config gave is given as KEY=VALUE behind it."""
    if argv and Path(argv[0]).name == "shrink.py":
        return [argv[0], *(_source(word, old, new) for word in argv[1:])]
    found, parser, given, awaited = list(argv), training_parser(), set(), None
    for place, word in enumerate(with_sizes(argv)):
        key, before, value = awaited, "", word
        if key is None:
            setting, equals, of_setting = word.partition("=")
            key, before, value = parser.valued(word) or (
                (setting, f"{setting}=", of_setting) if equals and setting in KEYS else ("", "", None)
            )
        awaited = key if value is None and key else None
        if value is not None and key in KEYS:
            given.add(key)
            found[place] = before + _source(value, old, new)
    return [*found, *(f"{key}={changed[key]}" for key in changed if key not in given and key != "shrunk_from")]


def renamed_request(document: str, old: str, new: str) -> str:
    """Return a config.yaml with the new name. Its values stand in one line each, as cli/request.py writes them."""

    def line(match: re.Match) -> str:
        value = json.loads(match[2]) if match[2].startswith('"') else match[2]
        return f"{match[1]}{text(_source(value, old, new))}" if run_of(value) == old else match[0]

    keys = "|".join(KEYS)
    found = re.sub(rf'^(\s*(?:{keys}): )("(?:[^"\\]|\\.)*"|\S+)', line, document, flags=re.MULTILINE)
    return found.replace(f"# The run {old}: ", f"# The run {new}: ")


def move(old: str, new: str) -> None:
    """Give the files of a run their new names, the checkpoint first and its folder last. Nothing is replaced."""
    for path in reversed(lineage.files_of(old)):
        _move(path, _target(path, old, new))
    if (RUNS / old).is_dir():
        os.rename(RUNS / old, RUNS / new)  # fails where there is a folder that holds anything


def _move(path: Path, target: Path) -> None:
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError as error:  # it exists, or the file system has no hard links
        exists = os.path.lexists(target)
        if exists and not _is_same(path, target):
            raise MachineFault(
                f"{target} was made in the meantime: repeat the command, which says what to do"
            ) from error
        if not exists:
            os.rename(path, target)
            return
    os.unlink(path)


if __name__ == "__main__":
    sys.exit(command.run(main))
