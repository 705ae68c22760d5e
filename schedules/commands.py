"""The commands of a study: the argv of each job, with the setting that it is of.

    for argv, setting in commands(STUDIES["digits"], request, settings):
        print(argv)                               # ["python", "main.py", "digits", "teacher", "-t", …]

`request` is what schedules.generate was asked for: flags, seeds, name, tag, dataset, teacher, only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cli.flags import training_parser
from cli.words import SETTING
from schedules.studies import DENSE, Flags, Study, words_of
from system.configuration import Configuration
from training import registry


@dataclass(frozen=True)
class Setting:
    """A compressed network of a study: its flags, their name in the names of runs, and the budget that it meets.

    conv: those of its flags that choose the conv or the width, where others vary too; None: all of them.
    """

    flags: tuple[str, ...]
    name: str
    budget: int | None = None
    conv: tuple[str, ...] | None = None


def commands(study: Study, request: Configuration, chosen: Sequence[Setting]) -> list[tuple[list[str], Setting | None]]:
    """Return the argv of each job with its setting (None of the teacher).

    The teacher comes first, then for each setting and seed the student and the same network alone, which is trained once
    for settings that differ in how the teacher teaches: flags that say so go to students alone. A study without a teacher
    has networks alone; one with `settings` has each of its networks as it is, then with each setting.
    """
    tail = f".{request.tag}" if request.tag else ""
    if study.settings:
        return _of_networks(study, request)
    name_of_teacher = request.teacher or study.taught_by or f"{request.name}.teacher{tail}"
    is_made = study.has_teacher and not (request.teacher or study.taught_by)
    argvs = [(teacher(study, request, name_of_teacher), None)] if is_made else []
    dataset, trained_alone = request.dataset or study.dataset, set()
    for setting in chosen:
        for seed in range(request.seeds):
            of_seed = ["--seed", str(seed)] if request.seeds > 1 else []
            suffix = (f".seed{seed}" if of_seed else "") + tail
            flags = [*words_of(study.flags), *request.flags, *setting.flags, *of_seed]  # the last one wins
            name, own = f"{request.name}.{setting.name}", without_teaching(flags)
            jobs = {
                "taught": ["student", "-t", name_of_teacher, "-s", f"{name}.student{suffix}", *flags],
                "alone": ["teacher", "-t", f"{name}{suffix}", *own],
            }
            for kind, job in jobs.items():
                if (request.only or study.only) not in (None, kind) or kind == "alone" and tuple(own) in trained_alone:
                    continue
                argvs.append((["python", "main.py", dataset, *job], setting))
            trained_alone.add(tuple(own))
    return argvs


def without_teaching(flags: Sequence[str]) -> list[str]:
    """Return the words of a command line without those that say how a teacher teaches, flags with their values and key=value."""
    parser, teaching = training_parser(), {flag.dest for flag in registry.teaching_flags()}
    left: list[str] = []
    words = iter(flags)
    for word in words:
        value = [each] if parser.takes_next(word) and (each := next(words, None)) is not None else []
        setting = SETTING.fullmatch(word)
        key = setting[1].removesuffix("._").replace(".", "_") if setting else word.partition("=")[0].removeprefix("--")
        if key not in teaching or not (setting or word.startswith("--")):
            left += [word, *value]
    return left


def _of_networks(study: Study, request: Configuration) -> list[tuple[list[str], Setting | None]]:
    """Return the argv of each job of a study without a teacher: each network as it is (setting None), then with each setting.

    A setting that goes on from another starts from the run of the same network and seed with that one.
    """
    pairs: list[tuple[list[str], Setting | None]] = []
    tail = f".{request.tag}" if request.tag else ""
    settings = [None, *(Setting(tuple(words_of(flags)), name) for name, flags in study.settings.items())]
    for network, of_network in study.networks.items():
        for setting in settings:
            for seed in range(request.seeds):
                of_seed = ["--seed", str(seed)] if request.seeds > 1 else []
                suffix = (f".seed{seed}" if of_seed else "") + tail
                name = setting.name if setting else DENSE
                before = study.after.get(name)
                start = ["--init_from", f"{request.name}.{network}.{before}{suffix}"] if before else []
                own = setting.flags if setting else ()
                flags = [*words_of(of_network), *words_of(study.flags), *request.flags, *own, *start, *of_seed]
                run = ["teacher", "-t", f"{request.name}.{network}.{name}{suffix}"]
                pairs.append((["python", "main.py", request.dataset or study.dataset, *run, *flags], setting))
    return pairs


def teacher(study: Study, request: Configuration, name: str) -> list[str]:
    """Return the argv of the study's teacher."""
    own: Flags = study.flags if study.teacher is None else study.teacher
    flags = without_teaching([*words_of(own), *request.flags])
    return ["python", "main.py", request.dataset or study.dataset, "teacher", "-t", name, *flags]
