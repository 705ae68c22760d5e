"""The commands of a study: the argv of each job, with the setting that it is of.

    for argv, setting in commands(STUDIES["digits"], request, settings):
        print(argv)                               # ["python", "main.py", "digits", "teacher", "-t", …]

`request` is what schedules.generate was asked for: behind, vary, seeds, name, tag, dataset, teacher, only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from schedules.flags import keys_in, without, without_teaching
from schedules.schedule import Job
from schedules.studies import DENSE, Flags, Study, words_of
from system.configuration import Configuration
from system.errors import RequestError


@dataclass(frozen=True)
class Setting:
    """A compressed network of a study: its flags, their name in the names of runs, and the budget that it meets.

    conv: those of its flags that choose the conv or the width, where others vary too; None: all of them. alone: the name of
    the network alone, where that of its student says how a teacher teaches; None: the same.
    """

    flags: tuple[str, ...]
    name: str
    budget: int | None = None
    conv: tuple[str, ...] | None = None
    alone: str | None = None


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
    of_all = without(words_of(study.flags), request.behind.keys | keys_that_vary(study, request))
    for setting in chosen:
        # A control gives its width once more, as in all lists that were written before: they stay the same byte for byte.
        own_keys = keys_in(setting.flags) if setting.budget else ()
        shared = without([*of_all, *request.behind.words], own_keys)
        for seed in range(request.seeds):
            of_seed = ["--seed", str(seed)] if request.seeds > 1 else []
            suffix = (f".seed{seed}" if of_seed else "") + tail
            flags = [*shared, *setting.flags, *of_seed]  # the last one wins
            name, own = f"{request.name}.{setting.name}", without_teaching(flags)
            alone = f"{request.name}.{setting.alone or setting.name}"
            jobs = {
                "taught": ["student", "-t", name_of_teacher, "-s", f"{name}.student{suffix}", *flags],
                "alone": ["teacher", "-t", f"{alone}{suffix}", *own],
            }
            for kind, job in jobs.items():
                if (request.only or study.only) not in (None, kind) or kind == "alone" and tuple(own) in trained_alone:
                    continue
                argvs.append((["python", "main.py", dataset, *job], setting))
            trained_alone.add(tuple(own))
    return argvs


def keys_that_vary(study: Study, request: Configuration) -> frozenset[str]:
    """Return the keys of all flags that vary beside the conv: of those with a null or an off value nothing else is left."""
    grid = study.grid | dict(request.vary)
    return frozenset(grid) | {
        key for values in grid.values() for flags in values.values() for key in keys_in(words_of(flags))
    }


def check_distinct(pairs: Sequence[tuple[Job, Setting | None]], has_teacher: bool) -> None:
    """Raise RequestError where two jobs of a study have equal options, and so are named for a difference that there is not.

    The study's teacher may be the network of one of its settings.
    """
    names: dict[str, str] = {}
    for job, setting in pairs:
        if setting is None and has_teacher:
            continue
        own = "student_checkpoint" if job.options.mode == "student" else "teacher_checkpoint"
        options = repr(sorted({**job.options, own: None}.items()))
        if options in names:
            raise RequestError(
                f"{names[options]} and {job.name} would be the same run under two names, with equal options: take one of"
                " them out (null is the preset; a value may be that of the preset, or have no effect here)"
            )
        names[options] = job.name


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
                of_all = without([*words_of(of_network), *words_of(study.flags)], request.behind.keys)
                flags = [*of_all, *request.behind.words, *own, *start, *of_seed]
                run = ["teacher", "-t", f"{request.name}.{network}.{name}{suffix}"]
                pairs.append((["python", "main.py", request.dataset or study.dataset, *run, *flags], setting))
    return pairs


def teacher(study: Study, request: Configuration, name: str) -> list[str]:
    """Return the argv of the study's teacher."""
    own: Flags = study.flags if study.teacher is None else study.teacher
    flags = without_teaching([*without(words_of(own), request.behind.keys), *request.behind.words])
    return ["python", "main.py", request.dataset or study.dataset, "teacher", "-t", name, *flags]
