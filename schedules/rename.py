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
from cli.request import text
from record.paths import CHECKPOINTS, RUNS, checkpoint_path
from schedules import lineage
from system.configuration import Configuration
from system.errors import MachineFault, RequestError, first_line
from system.files import write_atomically

KEYS = ("teacher_checkpoint", "student_checkpoint", "init_from", "shrunk_from")
FLAGS = re.compile(r"-[a-z]*[ts]|--(teacher_checkpoint|student_checkpoint|init_from)")  # -rt NAME is -r -t NAME


def options(arguments: Sequence[str] | None = None) -> Configuration:
    """Return the request."""
    parser = Parser(prog="python -m schedules.rename", description="Rename a run, wherever runs here name it.")
    parser.add_argument("old", metavar="OLD", help="a run")
    parser.add_argument("new", metavar="NEW", help="a name that is free")
    given = parser.parse_args(arguments)
    old, new = (lineage.named([getattr(given, key)], key.upper())[0] for key in ("old", "new"))
    if old == new:
        raise RequestError(f"OLD and NEW are both {old!r}")
    return Configuration({"old": old, "new": new})


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    request = options(arguments)
    old, new = request.old, request.new
    what, begun = lineage.unfinished()
    goes_on = (what, begun) == ("rename", [old, new])
    if not goes_on:
        lineage.check_finished()
        check(old, new)
    others = list(dict.fromkeys(each.name for each in lineage.needed_by([old])[old] if each.name != new))
    own = [name for name in (old, new) if (RUNS / name).is_dir()]
    with lineage.locked([*own, *(name for name in others if (RUNS / name).is_dir())]):
        for name in dict.fromkeys([*(() if goes_on else [old]), *others]):
            check_whole(name)
        with lineage.noted("rename", [old, new]):
            for name in others:
                change(name, old, new)
            change(old, old, new)
            move(old, new)
    print(f"{old} is {new} now" + (f", also for {lineage.listed(others)}" if others else ""))
    for path in sorted(Path(".").glob("*.json")):
        if any(job.name == old for job in lineage.jobs_of(path)):
            print(f"note: {path} still names {old}: schedules.run would train it again under that name")
    return 0


def check(old: str, new: str) -> None:
    """Raise RequestError where there is no run to rename, its new name is taken, or a job that has not begun needs the old one."""
    lineage.check_exists(old)
    taken = [*lineage.names(), *(path.name for path in RUNS.glob("*"))]
    if clash := next((each for each in taken if each.lower() == new.lower() and each != old), None):
        raise RequestError(f"the name {new!r} is taken" + ("" if clash == new else f" by {clash!r}, in another case"))
    if jobs := lineage.jobs_that_need([old]):
        raise RequestError(f"{old!r} is still needed by {lineage.listed(jobs)}: run or delete the schedule first")


def check_whole(name: str) -> None:
    """Raise MachineFault where the record or the checkpoint of a run cannot be read, before anything is changed."""
    for path in _documents(name):
        _document(path)
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
    if not isinstance(value, str) or not value or lineage.run_of(value) != old:
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
    shrunk = Path(argv[0]).name == "shrink.py" if argv else False
    found, before = [], ""
    for place, word in enumerate(argv):
        key, equals, value = word.partition("=")
        if equals and (FLAGS.fullmatch(key) or key in KEYS):
            word = f"{key}={_source(value, old, new)}"
        elif FLAGS.fullmatch(before) or (shrunk and place):
            word = _source(word, old, new)
        found.append(word)
        before = word
    lacking = [] if shrunk else [value for value in changed.values() if not any(value in word for word in found)]
    return [*found, *(f"{key}={value}" for key, value in changed.items() if value in lacking and key != "shrunk_from")]


def renamed_request(document: str, old: str, new: str) -> str:
    """Return a config.yaml with the new name. Its values stand in one line each, as cli/request.py writes them."""

    def line(match: re.Match) -> str:
        value = json.loads(match[2]) if match[2].startswith('"') else match[2]
        return f"{match[1]}{text(_source(value, old, new))}" if lineage.run_of(value) == old else match[0]

    keys = "|".join(KEYS)
    found = re.sub(rf'^(\s*(?:{keys}): )("(?:[^"\\]|\\.)*"|\S+)', line, document, flags=re.MULTILINE)
    return found.replace(f"# The run {old}: ", f"# The run {new}: ")


def move(old: str, new: str) -> None:
    """Give the files of a run their new names, its folder last."""
    for path in reversed(lineage.files_of(old)):
        os.rename(path, CHECKPOINTS / (new + path.name[len(old) :]))
    if (RUNS / old).is_dir():
        if (RUNS / new).is_dir():  # what the lock of a command that goes on has made
            raise MachineFault(f"{RUNS / new} was made in the meantime: remove it, and repeat the command")
        os.rename(RUNS / old, RUNS / new)


if __name__ == "__main__":
    sys.exit(command.run(main))
