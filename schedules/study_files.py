"""Read a study from a file of YAML, whose flags are keys as those of --config are, and the values of --vary.

    study = read("mine.yaml")                  # a Study, as those of studies.py
    varied("lr=0.03,0.1")                      # ("lr", {"0.03": ("--lr", "0.03"), "0.1": ("--lr", "0.1")})

    title: rates of two convs
    base: {dataset: digits, wrn: {depth: 10, width: 1}, epochs: 2}
    grid: {conv: [Sep, ACDC_4], lr: [null, 0.3], seed: [0, 1]}
    names: '{conv}.{lr}.s{seed}'
    teacher: {epochs: 8}                       # or true, or the name of a trained network; without it all train alone

Every value passes through the parser of its flag. What is wrong is a RequestError with file and line.
"""

import re
import zlib
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.config_files import ConfigFiles, Entry, Text, Value
from cli.flags import training_parser
from cli.layers import SWITCHED, Keys, keys_of
from layers.mixed import in_file_names, several
from schedules.flags import as_words, teaching_keys
from schedules.settings import NOT_GIVEN, budgets, canonical_conv, check_template, families_of
from schedules.studies import Study
from system.errors import RequestError, did_you_mean
from weights.sources import check_source

BUDGETS = ("budgets", "budgets_mult_adds")
OWN = ("title", "base", "grid", "convs", *BUDGETS, "families", "names", "teacher")  # keys of a study; others are flags
GROUPS = ("base", "grid", "teacher")
OF_JOBS = ("teacher_checkpoint", "student_checkpoint", "resume", "dry_run", "json", "evaluate", "allocate")
LETTERS = 40  # of a value in a name; a longer one ends in a digest
SUFFIXES = (".yaml", ".yml")


def is_file(text: str) -> bool:
    """Return whether a study is meant as a file: its name has a slash or ends as that of one of YAML."""
    return "/" in text or text.endswith(SUFFIXES)


def read(path: str) -> Study:
    """Return the study of a file. Raise RequestError with file and line for what is wrong."""
    entries = ConfigFiles(_take).read(path)
    base = {key.removeprefix("base_"): each for key, each in entries.items() if key.startswith("base_")}
    grid = {key.removeprefix("grid_"): each for key, each in entries.items() if key.startswith("grid_")}
    base, grid = ({key: each for key, each in of.items() if each.value is not None} for of in (base, grid))
    if "convs" in entries and entries["convs"].value is not None:
        if "conv" in grid:
            raise RequestError(f"{entries['convs'].where}: convs and {grid['conv'].where}, conv of grid: keep one")
        grid = {"conv": entries["convs"]} | grid
    met = _budgets(entries, grid)
    if "dataset" not in base:
        raise RequestError(f"{path}: base has no dataset: give it one, as `base: {{dataset: digits}}`")
    teacher = _teacher(entries, base)
    only = _only(base, teacher is not None)
    for key, each in [*base.items(), *grid.items()] if teacher is None else []:
        if key in teaching_keys():
            raise RequestError(f"{each.where}: {key!r} says how a teacher teaches: the study has no `teacher`")
    names = entries.get("names", Value(None, path))
    convs = grid.pop("conv", Value((), path))
    if names.value:
        try:
            check_template(names.value, [*["conv"] * bool(convs.value or met), *grid])
        except RequestError as error:
            raise RequestError(f"{names.where}: names {error}")
    varied_keys = [*grid, *["conv"] * bool(convs.value or met)]
    varies = {key: each for key, each in base.items() if key in varied_keys}  # the teacher's: students have the grid's
    shared = {key: each for key, each in base.items() if key not in varies and key not in ("dataset", "mode")}
    return Study(
        title=(entries["title"].value if "title" in entries else None) or Path(path).stem,
        dataset=base["dataset"].value,
        flags=_words(shared),
        convs=tuple(convs.value),
        **met,
        grid={key: choices(key, each.value, each.where) for key, each in grid.items()},
        template=names.value or "",
        template_at=f"{names.where}: names ",
        teacher=None if teacher is None or isinstance(teacher, str) else _words(shared | varies, teacher),
        taught_by=teacher if isinstance(teacher, str) else "",
        only=only,
    )


def _budgets(entries: Mapping[str, Value], grid: Mapping[str, Value]) -> dict[str, tuple]:
    """Return the budgets of a study and the families that meet them; {} where it has convs or neither."""
    given = {key: entries[key] for key in BUDGETS if key in entries and entries[key].value is not None}
    families = entries.get("families", Value(None, ""))
    if families.value is not None and not given:
        raise RequestError(f"{families.where}: families meet budgets: give it `budgets: [3e5, 1e6]` too")
    if len(both := [*given.items(), *([("convs", grid["conv"])] if given and "conv" in grid else [])]) > 1:
        raise RequestError(f"{both[0][1].where}: {both[0][0]} and {both[1][1].where}, {both[1][0]}: keep one")
    found: dict[str, tuple] = {key: tuple(_amounts(each)) for key, each in given.items()}
    names = tuple(_texts(families, "families", "SepHashed")) if families.value is not None else ()
    try:
        families_of(names, "")
    except RequestError as error:
        raise RequestError(f"{families.where}: {error}")
    return found | ({"families": names} if names else {})


def _texts(each: Value, key: str, example: str) -> list[str]:
    """Return the texts of a list that may be written as one text; raise RequestError where it is none."""
    texts = several(each.value) if isinstance(each.value, str) else each.value
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise RequestError(f"{each.where}: {key} takes a list, as `{key}: [{example}]`")
    return texts


def _amounts(each: Value) -> list[int]:
    try:
        return budgets(",".join(_texts(each, "budgets", "3e5, 1e6")))
    except ArgumentTypeError as error:
        raise RequestError(f"{each.where}: budgets: {error}")


def _teacher(entries: Mapping[str, Value], base: Mapping[str, Value]) -> dict[str, Value] | str | None:
    """Return the flags of a teacher beside those of all jobs, the name of a trained one, or None where there is none."""
    own = {key.removeprefix("teacher_"): each for key, each in entries.items() if key.startswith("teacher_")}
    named = entries.get("teacher")
    if named is None:
        return own or None
    if named.value is None or SWITCHED.get(named.value.lower()) is False:
        return None
    if named.value.lower() in SWITCHED:
        return own
    if own:
        raise RequestError(f"{named.where}: teacher is either a trained network or flags of one to train, not both")
    return named.value


def _only(base: Mapping[str, Value], has_teacher: bool) -> str | None:
    """Return which kind of networks the mode of a study asks for; None for both."""
    mode = base.get("mode")
    if mode is None:
        return None if has_teacher else "alone"
    if (mode.value == "student") != has_teacher:
        way = "say which one below `teacher:`" if mode.value == "student" else "take `mode` or `teacher` out"
        raise RequestError(f"{mode.where}: mode {mode.value} {'with' if has_teacher else 'needs'} a teacher: {way}")
    return "taught" if has_teacher else "alone"


def _take(key: str, entry: Entry) -> dict[str, Value]:
    """Return what stands at a key of a study, texts that have been checked. Raise RequestError where it is wrong."""
    text, where = entry
    group, _, flag = key.partition("_")
    if key in ("title", "names", "teacher"):
        if isinstance(text, list):
            raise RequestError(f"{where}: {key} is one text, no list")
        if key == "teacher" and text and text.lower() not in SWITCHED:
            check_source(text, f"{where}: teacher")
    elif key in (*BUDGETS, "families"):
        pass  # read together, by _budgets
    elif key == "convs" or group == "grid" and flag:
        _check_grid("conv" if key == "convs" else flag, text, where)
    elif group in GROUPS and flag:
        _check_flag(flag, text, where, group)
    elif key in GROUPS:
        raise RequestError(
            f"{where}: {key} holds flags with values, as `{key}: {{lr: {'[0.1]' * (key == 'grid') or 0.1}}}`"
        )
    elif key in keys_of(training_parser()):
        raise RequestError(f"{where}: {key!r} is a flag: write it below `base:`, which is for all jobs, or `grid:`")
    else:
        raise RequestError(f"{where}: unknown key {key!r}{did_you_mean(key, OWN)} (a study has: {', '.join(OWN)})")
    return {key: Value(text, where)}


def _check_flag(key: str, text: Text, where: str, group: str) -> Any:
    """Return the value of a flag. Raise RequestError where it is wrong, or no flag of a study."""
    if key in OF_JOBS:
        raise RequestError(f"{where}: {group}: {key!r} cannot be given: {_reason(key)}")
    if key in ("import", "config"):
        raise RequestError(
            f"{where}: {group}: no file of flags here; give it behind the command, as `-- --config FILE`"
        )
    if group == "teacher" and key in ("dataset", "mode"):
        raise RequestError(f"{where}: teacher: {key!r} cannot be given: it is that of the study")
    value = Keys(training_parser()).take(key, Entry(text, where)).get(key)
    return value and value.value


def _reason(key: str) -> str:
    if key.endswith("_checkpoint"):
        return "`names` gives the runs theirs, `teacher` says who teaches"
    return "it finds numbers for a network of its own; add such jobs by hand" if key == "allocate" else "no run has it"


def _check_grid(key: str, texts: Text, where: str) -> None:
    """Raise RequestError unless a grid gives a flag a list of different values, each of which the flag takes."""
    if texts is None:
        return
    if key in ("dataset", "mode"):
        raise RequestError(f"{where}: grid: {key!r} cannot vary: a study has one")
    if not isinstance(texts, list):
        raise RequestError(f"{where}: grid: {key!r} takes a list of values, as `{key}: [{texts}]`; one is for `base:`")
    if not texts:
        raise RequestError(f"{where}: grid: {key!r} has no value: give it some, or take it out")
    choices(key, texts, where)


def choices(key: str, texts: Sequence[Text], where: str) -> dict[str, tuple[str, ...]]:
    """Return the flags of each value of a key by what names call it. Raise RequestError where a value is wrong or given twice."""
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        value = _check_flag(key, text, where, "grid")
        name = _name(key, value)
        if name in found:
            shown = "null" if text is None else text
            raise RequestError(f"{where}: {key!r} has two values that are called {name!r} in names, one is {shown!r}")
        found[name] = as_words(key, text)
    return found


def varied(text: str) -> tuple[str, dict[str, tuple[str, ...]]]:
    """Take KEY=VALUE,VALUE…, with semicolons between values that have commas: a key with its choices."""
    key, equals, values = text.partition("=")
    key = key.replace(".", "_")
    texts = [each.strip() for each in values.split(";" if ";" in values or values[:1] == "[" else ",")]
    if not key or not equals or not all(texts):
        raise ArgumentTypeError(f"{text!r} is not KEY=VALUE,VALUE…, such as lr=0.03,0.1")
    if key in ("conv", "dataset", "mode"):
        raise ArgumentTypeError(f"{text!r}: {key} does not vary so: give {'--convs' if key == 'conv' else 'one'}")
    try:
        return key, choices(key, [None if each == "null" else each for each in texts], text)
    except RequestError as error:
        raise ArgumentTypeError(str(error))


def _words(*of: Mapping[str, Value]) -> tuple[str, ...]:
    """Return flags as words of a command line; what is null in a later mapping takes the flag out."""
    merged = {key: each.value for mapping in of for key, each in mapping.items()}
    return tuple(word for key, text in merged.items() for word in as_words(key, text))


def _name(key: str, value: Any) -> str:
    """Return what a value is called in names of runs, the same however it was written."""
    if value is None:
        return NOT_GIVEN
    if key == "conv":
        return in_file_names(canonical_conv(value, may_be_open=True))
    if isinstance(value, float):
        value = int(value) if value.is_integer() and value < 1e15 else value
    text = re.sub(r"[^A-Za-z0-9._+-]+", "_", str(value)).strip("_").lower()
    return (text if len(text) <= LETTERS else f"{text[: LETTERS - 9]}_{zlib.crc32(text.encode()):08x}") or "none"
