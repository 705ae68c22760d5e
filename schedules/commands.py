"""The commands of a study: the argv of each job, with the setting that it is of.

    for argv, setting in commands(STUDIES["digits"], request, settings):
        print(argv)                               # ["python", "main.py", "digits", "teacher", "-t", …]

`request` is what schedules.generate was asked for: flags, seeds, name, tag, dataset, teacher, only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from schedules.studies import DENSE, Study
from system.configuration import Configuration
from training import registry


@dataclass(frozen=True)
class Setting:
    """A compressed network of a study: its flags, their name in the names of runs, and the budget that it meets."""

    flags: tuple[str, ...]
    name: str
    budget: int | None = None


def commands(study: Study, request: Configuration, chosen: Sequence[Setting]) -> list[tuple[list[str], Setting | None]]:
    """Return the argv of each job with its setting (None of the teacher).

    The teacher comes first, then for each setting and seed the student and the same network alone. Flags that say how a
    teacher teaches go to students alone. A study without a teacher has each of its networks as it is, then with each setting.
    """
    tail = f".{request.tag}" if request.tag else ""
    if study.settings:
        return _of_networks(study, request)
    name_of_teacher = request.teacher or f"{request.name}.teacher{tail}"
    argvs = [] if request.teacher else [(teacher(study, request, name_of_teacher), None)]
    for setting in chosen:
        for seed in range(request.seeds):
            of_seed = ["--seed", str(seed)] if request.seeds > 1 else []
            suffix = (f".seed{seed}" if of_seed else "") + tail
            flags = [*study.flags.split(), *request.flags, *setting.flags, *of_seed]  # the last one wins
            name = f"{request.name}.{setting.name}"
            taught = ["student", "-t", name_of_teacher, "-s", f"{name}.student{suffix}", *flags]
            alone = ["teacher", "-t", f"{name}{suffix}", *without_teaching(flags)]
            for kind, job in (("taught", taught), ("alone", alone)):
                if request.only in (None, kind):
                    argvs.append((["python", "main.py", request.dataset or study.dataset, *job], setting))
    return argvs


def without_teaching(flags: Sequence[str]) -> list[str]:
    """Return the words of a command line without the flags that say how a teacher teaches, and without their values."""
    takes_value = {flag.name: flag.action is None for flag in registry.teaching_flags()}
    left: list[str] = []
    words = iter(flags)
    for word in words:
        name, joined, _ = word.partition("=")
        if name not in takes_value:
            left.append(word)
        elif takes_value[name] and not joined:
            next(words, None)
    return left


def _of_networks(study: Study, request: Configuration) -> list[tuple[list[str], Setting | None]]:
    """Return the argv of each job of a study without a teacher: each network as it is (setting None), then with each setting.

    A setting that goes on from another starts from the run of the same network and seed with that one.
    """
    pairs: list[tuple[list[str], Setting | None]] = []
    tail = f".{request.tag}" if request.tag else ""
    settings = [None, *(Setting(tuple(flags.split()), name) for name, flags in study.settings.items())]
    for network, of_network in study.networks.items():
        for setting in settings:
            for seed in range(request.seeds):
                of_seed = ["--seed", str(seed)] if request.seeds > 1 else []
                suffix = (f".seed{seed}" if of_seed else "") + tail
                name = setting.name if setting else DENSE
                before = study.after.get(name)
                start = ["--init_from", f"{request.name}.{network}.{before}{suffix}"] if before else []
                own = setting.flags if setting else ()
                flags = [*of_network.split(), *study.flags.split(), *request.flags, *own, *start, *of_seed]
                run = ["teacher", "-t", f"{request.name}.{network}.{name}{suffix}"]
                pairs.append((["python", "main.py", request.dataset or study.dataset, *run, *flags], setting))
    return pairs


def teacher(study: Study, request: Configuration, name: str) -> list[str]:
    """Return the argv of the study's teacher."""
    flags = without_teaching([*study.flags.split(), *request.flags])
    return ["python", "main.py", request.dataset or study.dataset, "teacher", "-t", name, *flags]
