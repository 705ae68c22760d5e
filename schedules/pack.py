"""Pack runs into one file for a colleague, and open such a file: checkpoints and records, checked on arrival.

    python -m schedules.pack digits.student --with_teachers -o student.tar
    python -m schedules.pack --open student.tar

A pack holds the last checkpoint and the record of each run. Opened in another folder, its runs are resumed, tested, taught by, and
collated as where they were made. Of a pack that is refused nothing is left; after a kill the same command goes on.
"""

import sys
from pathlib import Path

if not __package__:  # started as a file: its imports lie in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from cli import command
from cli.command import Parser
from record import lock, reader, unfinished
from record.identity import ORIGINS, differences, name_of
from record.paths import CHECKPOINTS, RUNS, checkpoint_path
from schedules import lineage, packed
from schedules.remove import remove
from system import arguments as system_arguments
from system.configuration import Configuration
from system.errors import Busy, MachineFault, RequestError, first_line
from system.files import file_identity
from system.user_code import files_of
from weights.needs import ROLES
from weights.needs import needs as all_needs
from weights.sources import is_file

OPENING = ".opening"  # the folder in runs/ and in checkpoints/ into which a pack is opened first
OPEN = "pack --open"


def options(arguments: Sequence[str] | None = None) -> Configuration:
    """Return the request; its `output` has a value where runs are packed."""
    parser = Parser(prog="python -m schedules.pack", description="Pack runs into one file, or open such a file here.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a run, or runs/NAME as a shell's * gives it")
    parser.add_argument(
        "-o", "--output", type=system_arguments.filename, metavar="FILE", help="what to write (default: NAME.pack.tar)"
    )
    parser.add_argument(
        "--with_teachers", action="store_true", help="also the runs that these need: teachers, and those of --init_from"
    )
    parser.add_argument("--open", type=system_arguments.filename, metavar="FILE", help="open a pack in this folder")
    given = vars(parser.parse_args(arguments))
    if given["open"]:
        for key, flag in (("names", "NAME"), ("output", "-o"), ("with_teachers", "--with_teachers")):
            if given[key]:
                raise RequestError(f"{flag} does not go with --open, which opens all that is in {given['open']}")
    elif not given["names"]:
        raise RequestError("there is nothing to do: give the NAME of a run to pack, or --open FILE")
    names = lineage.named(given["names"])
    return Configuration(
        {**given, "names": names, "output": given["output"] or (f"{names[0]}.pack.tar" if names else None)}
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    request = options(arguments)
    if request.open:
        return unpack(request.open)
    unfinished.check_finished()
    for name in request.names:
        lineage.check_exists(name)
    names = with_teachers(request.names) if request.with_teachers else request.names
    _check_output(request.output)
    before = _stamps(names)
    for name in names:
        if process := lock.holder(RUNS / name):
            lock.refuse(name, process)
    configs = {name: checked(name, checkpoint_path(name), RUNS / name) for name in names}
    with lineage.locked(names):
        if _stamps(names) != before:
            raise Busy("a run has gone on in the meantime: repeat the command")
        files = [path for name in names for path in (checkpoint_path(name), *_record(RUNS / name))]
        size = packed.write(Path(request.output), {name: needs(config) for name, config in configs.items()}, files)
    print(f"{request.output}: {lineage.listed(names)}, {size:,} bytes")
    for line in notes(configs, names):
        print(line)
    return 0


def _stamps(names: Sequence[str]) -> list[tuple | None]:
    """Return what changes when a run goes on."""
    return [file_identity(path) for name in names for path in (checkpoint_path(name), RUNS / name / "metrics.jsonl")]


def needs(config: Mapping) -> dict[str, str]:
    """Return the runs without which a run of this configuration does not go on, by the keys that name them."""
    return {key: name for key, name in all_needs(config).items() if key in ORIGINS}


def with_teachers(names: Sequence[str]) -> list[str]:
    """Return runs and all that they need, each once. Raise RequestError where one of those is not here."""
    found = list(names)
    for name in found:  # which grows
        for key, origin in needs(lineage.config_of(name)).items():
            if origin not in found:
                if not checkpoint_path(origin).exists():
                    raise RequestError(
                        f"{name} needs {origin} ({ROLES[key]}), which is not here: leave --with_teachers out"
                    )
                found.append(origin)
    return found


def _check_output(output: str) -> None:
    """Raise RequestError where there is such a file: a pack may be the only copy of its runs."""
    if os.path.lexists(output):
        raise RequestError(f"{output} exists, and is left as it is: choose another -o, or delete it")


def _record(folder: Path) -> list[Path]:
    """Return the files of a run's record that are packed: not its lock, and not its log, which says where it ran."""
    return sorted(path for path in folder.iterdir() if packed.OF_RECORD.fullmatch(path.name) and path.is_file())


def checked(name: str, checkpoint: Path, folder: Path) -> dict:
    """Return the configuration of a run whose checkpoint and record are whole and agree. Raise RequestError otherwise."""
    from record.checkpoint import load_file

    if not checkpoint.exists():
        raise RequestError(f"{name} has no checkpoint: nothing of it has been trained")
    saved = load_file(checkpoint, f"run {name!r}")
    config, record = saved["config"], reader.read(folder)
    if name_of(config) != name:
        raise RequestError(f"the checkpoint of {name} is one of the run {name_of(config)!r}")
    if record is None or not record.config or record.fault:
        raise RequestError(
            f"{name} has no record that can be read" + (f": {record.fault}" if record and record.fault else "")
        )
    if different := differences(record.config, config):
        raise RequestError(
            f"the record of {name} is of another run than its checkpoint ({lineage.listed(different, 3)})"
        )
    if (folder / "metrics.jsonl").read_text() != "".join(json.dumps(row) + "\n" for row in saved["rows"]):
        raise RequestError(f"the metrics of {name} are not those of its checkpoint: resume it, which writes them again")
    return config


def notes(configs: Mapping[str, Mapping], inside: Iterable[str]) -> Iterator[str]:
    """Yield a line for what runs need and a pack does not hold: other runs, and files of --module."""
    for name, config in configs.items():
        for key, origin in needs(config).items():
            if origin not in inside:
                yield f"note: {name} needs {origin} ({ROLES[key]}), which is not in the pack: --with_teachers adds it"
        yield from (
            f"note: {name} needs the file {file}, which no pack holds: hand it over too"
            for file in files_needed(config)
        )


def files_needed(config: Mapping) -> list[str]:
    """Return the files that a run of this configuration reads beside the images: of the user's classes, weights of other tools."""
    keys = [key for key in ORIGINS if key != "teacher_checkpoint" or config.get("mode") == "student"]
    weights = [config[key] for key in keys if config.get(key) and is_file(config[key]) and key not in needs(config)]
    return [*files_of(config).values(), *weights]


def unpack(path: str) -> int:
    """Open a pack in this folder. Return the exit status."""
    begun = unfinished.read()
    if begun is None or begun.names != [path]:
        unfinished.check_finished()
    unfinished.check_finished(but=OPEN)
    with packed.opened(path) as pack:
        if begun is None:
            _check_free(pack)
        if (room := shutil.disk_usage(".").free) < pack.bytes:
            raise MachineFault(f"{path} needs {pack.bytes:,} bytes, {room:,} are free here: nothing of it was kept")
        with _aside() as (checkpoints, runs):
            configs = _arrived(pack, checkpoints, runs)
            with unfinished.noted(OPEN, [path]):
                for name in pack.runs if begun else ():  # what a killed command had moved already
                    _check_own(pack, name)
                    remove(name)
                for name in pack.runs:
                    os.rename(runs / name, RUNS / name)
                    os.rename(checkpoints / f"{name}.pt", checkpoint_path(name))
    print(f"{path}: {lineage.listed(list(pack.runs))} {'is' if len(pack.runs) == 1 else 'are'} here now")
    for line in lacking(configs):
        print(line)
    return 0


def _check_free(pack: packed.Pack) -> None:
    """Raise RequestError where the name of a run is taken here."""
    taken = {each.lower(): each for each in [*lineage.names(), *(path.name for path in RUNS.glob("*"))]}
    if clash := [taken[name.lower()] for name in pack.runs if name.lower() in taken]:
        way = "rename or remove it (schedules.rename, schedules.remove), or open the pack in another folder"
        raise RequestError(f"{pack.path} is refused, there is a run {clash[0]!r} here: {way}")


def _check_own(pack: packed.Pack, name: str) -> None:
    """Raise RequestError where there is a run that a killed command has not taken from this pack."""
    for path in (checkpoint_path(name), RUNS / name / "config.json"):
        if path.exists() and packed.digest_of(path) != pack.files[path.as_posix()]["sha256"]:
            raise RequestError(f"there is another run {name!r} here now: rename or remove it, then open the pack again")


@contextmanager
def _aside() -> Iterator[tuple[Path, Path]]:
    """Yield two empty folders beside the checkpoints and the runs, held by this process alone. Nothing of them is left after it."""
    made = [folder for folder in (CHECKPOINTS, RUNS) if not folder.exists()]
    folders = (CHECKPOINTS / OPENING, RUNS / OPENING)
    try:
        held = lock.take(OPENING)
    except Busy:
        raise Busy("another pack is being opened here at this moment: repeat the command when that is done")
    with held:
        try:
            for folder in folders:
                shutil.rmtree(folder / "new", ignore_errors=True)
                (folder / "new").mkdir(parents=True)
            yield folders[0] / "new", folders[1] / "new"
        except OSError as error:
            raise MachineFault(
                f"{error.filename or RUNS} cannot be written ({first_line(error)}): nothing of the pack was kept"
            )
        finally:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
            for folder in made:
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()


def _arrived(pack: packed.Pack, checkpoints: Path, runs: Path) -> dict[str, dict]:
    """Extract a pack and return the configurations of its runs. Raise RequestError where one is not what the pack says it is."""
    pack.extract(checkpoints, runs)
    configs = {}
    for name in pack.runs:
        try:
            check_stored(checkpoints / f"{name}.pt")
            config = configs[name] = checked(name, checkpoints / f"{name}.pt", runs / name)
            if needs(config) != pack.runs[name]:
                raise RequestError(f"its manifest is wrong about what {name} needs")
        except OSError:
            raise
        except (
            Exception
        ) as error:  # whatever a record or a configuration that somebody has made up makes their readers raise
            raise pack.refused(first_line(error))
    return configs


def check_stored(path: Path) -> None:
    """Raise RequestError where a checkpoint would become larger as it is read: torch.save compresses nothing."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(each.compress_type for each in entries) or sum(each.file_size for each in entries) > path.stat().st_size:
        raise RequestError(f"{path.name} is compressed, as no checkpoint is")


def lacking(configs: Mapping[str, Mapping]) -> Iterator[str]:
    """Yield a line for each run that opened runs need, and that is not here or has other weights."""
    from record.checkpoint import digest, load_file

    for name, config in configs.items():
        for key, origin in needs(config).items():
            if not checkpoint_path(origin).exists():
                yield f"note: {name} needs {origin} ({ROLES[key]}), which is not here: to resume it, have that packed too"
            elif digest(load_file(checkpoint_path(origin), f"run {origin!r}")["model"]) != config.get(ORIGINS[key]):
                yield f"warning: {name} comes from another {origin} than the run here, whose weights are others: it cannot be resumed"
        yield from (f"note: {name} needs the file {file}, which no pack holds" for file in files_needed(config))


if __name__ == "__main__":
    sys.exit(command.run(main))
