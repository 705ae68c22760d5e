"""Write the schedule of a study: a teacher, then for every setting a student of it and the same network alone.

    python -m schedules.generate digits
    python -m schedules.generate wrn_28_10 --tag Dec18 --seeds 3 --only taught
    python -m schedules.generate wrn_28_10 --budgets 3e5:3e6:5 --seeds 3 -o budgets.json
    python -m schedules.generate wrn_28_10 --dataset folder:leaves --convs ACDC,Tucker_0.25
    python -m schedules.generate darts --convs SepHashed_0.1,ACDC -- --epochs 100 --batch_size 64
    python -m schedules.generate mine.yaml
    python -m schedules.generate --network ResNet9 --dataset cifar10 --convs Sep,ACDC --vary lr=0.03,0.1

A study is one of studies.py, a file of YAML (study_files.py), or a network with a dataset. Its settings are its own, or
--convs, or those that meet --budgets, each with every combination of what --vary says. Flags, KEY=VALUE and --config FILE
after `--` go to every command, those that say how a teacher teaches (--alpha, --beta) to students alone. Before anything
is written, every command is checked: it parses, its name is unique, no other job has its options, its network can be built
and meets its budget, and its teacher exists or is trained by an earlier job.
"""

import sys
from pathlib import Path

if not __package__:  # started as a file: its imports lie in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import json
import re
import time
from argparse import Namespace
from collections.abc import Collection, Sequence

from cli import command
from cli import flags as cli_flags
from cli.command import Parser
from input.datasets import PREFIX, is_own
from layers.mixed import several
from models.registry import NETWORKS
from schedules import study_files
from schedules.commands import Setting, check_distinct, commands, keys_that_vary
from schedules.comparable import network_name
from schedules.flags import Behind, behind, parts, teaching_keys
from schedules.schedule import Job, parse
from schedules.settings import TOLERANCE, budgets, config_of, settings
from schedules.studies import STUDIES, Study
from system import arguments as system_arguments
from system import files
from system.arguments import choice, number
from system.configuration import Configuration
from system.errors import RequestError
from system.files import write_atomically
from weights.sources import check_run_name, check_source

OF_SHAPE = ("budget", "budget_mult_adds", "where", "module", "image_size", "data_classes")  # beside the network's own
GATED = {"gate": "", "gate_where": "where "}  # what tells gated networks of one shape apart, with the words before it


def study_name(text: str) -> str:
    """Take the name of a study, or of a file of one."""
    return text if study_files.is_file(text) else choice("study", list(STUDIES))(text)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m schedules.generate",
        description="Write the schedule of a study. After -- : flags, KEY=VALUE, --config FILE for every job.",
    )
    known = "; ".join(f"{name}: {study.title}" for name, study in STUDIES.items())
    parser.add_argument("study", nargs="?", type=study_name, metavar="STUDY", help=f"a file of YAML, or {known}")
    parser.add_argument(
        "-o", "--output", type=system_arguments.filename, metavar="FILE", help="(default: STUDY[.TAG].json)"
    )
    parser.add_argument(
        "--dataset", type=cli_flags.dataset, metavar="DATASET", help="instead of the study's own, such as folder:PATH"
    )
    parser.add_argument(
        "--network",
        type=cli_flags.network,
        metavar="NETWORK",
        help="instead of a study: with --dataset, a study of this one",
    )
    parser.add_argument("--tag", metavar="TEXT", help="ends every run's name, as in wrn_28_10.acdc.student.Dec11")
    parser.add_argument("--dated", action="store_true", help="the same with today's date")
    parser.add_argument("--seeds", type=number(int, 1, 1000), default=1, metavar="N", help="runs of every setting")
    parser.add_argument(
        "--only", type=choice("kind", ["taught", "alone"]), help="only students, or only networks alone"
    )
    parser.add_argument(
        "--teacher",
        metavar="NAME",
        help="a trained network that teaches (as -t of main.py), instead of one of the study's own",
    )
    parser.add_argument(
        "--convs", type=several, metavar="A,B,C", help="instead of the study's settings; A;B;C where one is mixed"
    )
    parser.add_argument(
        "--vary", type=study_files.varied, action="append", default=[], metavar="KEY=A,B,C",
        help="each setting with each of these values of a flag; null: not given; several times: every combination",
    )  # fmt: skip
    group = parser.add_argument_group(
        "budgets", "instead of settings: each family at each budget, as near as its number comes"
    )
    group.add_argument("--budgets", type=budgets, metavar="PARAMETERS", help="such as 3e5,1e6 or 3e5:3e6:5")
    group.add_argument("--budgets_mult_adds", type=budgets, metavar="MULT_ADDS", help="the same for exact mult-adds")
    group.add_argument(
        "--families", type=several, metavar="A,B,C",
        help="such as SepHashed,TensorTrain_x_4; Conv is the network at another width, the control (default: all)",
    )  # fmt: skip
    return parser


def options(arguments: Sequence[str] | None = None) -> Configuration:
    """Return the request: `of`, the study, `behind`, the flags for every job, the `tag`, the `name` that begins every run's, and `output`.

    Raise RequestError where flags do not go together.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    given, flags = _parser().parse_args(arguments[:end]), arguments[end + 1 :]
    ways = [flag for flag in ("convs", "budgets", "budgets_mult_adds") if getattr(given, flag)]
    if len(ways) > 1:
        raise RequestError(f"--{ways[0]} and --{ways[1]}: give one of them")
    if given.tag and given.dated:
        raise RequestError(f"--tag {given.tag} and --dated: give one of them")
    study = _study(given, ways)
    has_budgets = study.budgets or study.budgets_mult_adds
    if given.families and (ways == ["convs"] or not ways and not has_budgets):
        raise RequestError("--families goes with --budgets or --budgets_mult_adds")
    if has_budgets and ways != ["convs"]:
        given.families = given.families or study.families
    if has_budgets and not ways:
        given.budgets, given.budgets_mult_adds = study.budgets or None, study.budgets_mult_adds or None
    _check_vary(given, study)
    tag = time.strftime("%b") + str(time.localtime().tm_mday) if given.dated else given.tag
    if tag:
        check_run_name(tag, "--tag")
    if given.teacher:
        check_source(given.teacher, "--teacher")
    of_all = behind(flags, has_students=given.only != "alone" and study.has_teacher)
    _check_behind(of_all, keys_that_vary(study, given))
    name = _name_of(given)
    output = Path(given.output or f"{name}{f'.{tag}' if tag else ''}.json")
    return Configuration(vars(given) | {"behind": of_all, "tag": tag, "name": name, "output": output, "of": study})


def _study(given: Namespace, ways: Sequence[str]) -> Study:
    """Return the study that is asked for by name, by a file or by flags. Raise RequestError where flags do not go with it."""
    if given.study is None:
        if not given.network or not given.dataset:
            raise RequestError("give a STUDY, a name or a file of YAML, or --network and --dataset")
        if not ways and not given.vary:
            raise RequestError(f"nothing varies: give --convs, --budgets or --vary for a study of {given.network}")
        return Study(f"{given.network} on {given.dataset}", given.dataset, ("--network", given.network))
    if given.network:
        raise RequestError(f"--network {given.network}: the study {given.study} has its own; leave one of them out")
    study = study_files.read(given.study) if study_files.is_file(given.study) else STUDIES[given.study]
    own = [
        flag for flag in ("convs", "budgets", "budgets_mult_adds", "vary", "teacher", "only") if getattr(given, flag)
    ]
    if own and study.settings:
        raise RequestError(f"--{own[0]}: the study {given.study} has no teacher and settings of its own")
    if given.teacher and not study.has_teacher:
        raise RequestError(f"--teacher {given.teacher}: the study {given.study} trains its networks alone")
    if given.only and study.only and given.only != study.only:
        raise RequestError(f"--only {given.only}: all networks of the study {given.study} are {study.only}")
    own_settings = study.settings or study.convs or study.grid or study.budgets or study.budgets_mult_adds
    if not (own_settings or ways or given.vary):
        raise RequestError(f"{given.study}: nothing varies: give it a `grid:`, `convs:` or `budgets:`, or --vary here")
    return study


def _check_vary(given: Namespace, study: Study) -> None:
    """Raise RequestError where a key varies twice, or in a way that shows in no network."""
    keys = [key for key, _ in given.vary]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise RequestError(f"--vary {twice[0]} is given twice: give all of its values in one")
    if "seed" in keys + [*study.grid] and given.seeds > 1:
        raise RequestError(
            f"--seeds {given.seeds}: the seeds of this study are those of {'--vary' if 'seed' in keys else 'its grid'}"
        )
    for key in keys:
        if key in teaching_keys() and (given.only == "alone" or not study.has_teacher):
            raise RequestError(f"--vary {key}: it says how a teacher teaches, and this schedule has no students")


def _name_of(given: Namespace) -> str:
    """Return what the names of all runs begin with."""
    if given.study is None:
        name = _in_names(given.network).lower()
    else:
        name = _in_names(Path(given.study).stem) if study_files.is_file(given.study) else given.study
    return name + (f".{_in_names(given.dataset)}" if given.dataset else "")


def _check_behind(given: Behind, varied: Collection[str]) -> None:
    """Raise RequestError where a key behind `--` varies in the study."""
    for key, origin in given.origins.items():
        if key in varied:
            raise RequestError(
                f"{origin} after --: it varies in this study, take it out there; --vary {key}=A,B changes how"
            )


def _in_names(dataset: str) -> str:
    """Return what a dataset, a network or a file is called in the names of runs; raise RequestError where it is a folder without images."""
    own = dataset
    if is_own(dataset):
        from input.folders import look  # imports NumPy, which no other request needs here

        own = look(dataset.removeprefix(PREFIX), 1).name
    return re.sub(r"[^A-Za-z0-9_-]+", "_", own.removeprefix(PREFIX)).strip("_-")[:40] or "folder"


def weigh(jobs: Sequence[Job], settings: Sequence[Setting | None], dense: int, exact: bool) -> list[list]:
    """Return a row of counts for every distinct network, counted from its command, with what its gates plan to leave.

    `dense` is the parameter count of the teacher (0: there is none), `exact` whether budgets are of mult-adds. Raise
    RequestError where a network misses its budget.
    """
    from counting.budget import resolve
    from counting.costs import summary
    from schedules.check import shape

    rows: dict[tuple, list] = {}
    names = {network_name(job.options) for job, setting in zip(jobs, settings) if setting and setting.conv is not None}
    of_networks = not dense and None in settings  # each as it is, then with each setting
    for job, setting in zip(jobs, settings):
        gates = [words + job.options[key] for key, words in GATED.items() if job.options.get(key)]
        key = (*shape(job.options), *gates)
        if key not in rows:
            costs, budget = summary(resolve(job.options)[0]), setting.budget if setting else None
            achieved = costs["mult_adds_exact" if exact else "params"]
            if budget and abs(achieved - budget) > TOLERANCE * budget:
                raise RequestError(f"job {job.number} has {achieved:,} instead of {budget:,}")
            what = network_name(job.options) if of_networks else _words(job, setting, costs, len(names) > 1)
            share = costs["params"] / dense if dense else costs["crs_ratio"]
            rows[key] = [
                ", ".join([what, *gates]),
                0,
                costs["params"],
                share,
                costs["mult_adds_exact"],
                costs.get("mult_adds_gated"),
                budget,
            ]
        rows[key][1] += 1
    return list(rows.values())


def _words(job: Job, setting: Setting | None, costs: dict, several_networks: bool) -> str:
    """Return what the table calls the network of a job."""
    if setting is None:
        return f"{costs['conv']}, the teacher"
    flags = setting.flags if setting.conv is None else setting.conv
    words = " ".join(flags).removeprefix("--conv ") or costs["conv"]
    named = {*OF_SHAPE, *(() if several_networks else NETWORKS[job.options.network].building_flags)}
    others = [" ".join(part) for key, part in parts(setting.flags[len(flags) :]) if key in named]
    words = ", ".join([words, *(each.removeprefix("--") for each in others)])
    return f"{network_name(job.options)} {words}" if several_networks else words


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    request = options(arguments)
    study: Study = request.of
    pairs = commands(study, request, settings(study, request))
    argvs, of_jobs = [argv for argv, _ in pairs], [setting for _, setting in pairs]
    contents = ("[" + ",\n ".join(json.dumps(argv) for argv in argvs) + "]\n").encode()
    if request.output.exists() and files.read_file(str(request.output)) != contents:  # its runs may be under way
        raise RequestError(f"{request.output} exists and is another schedule: choose another -o, or delete it")
    from tabulate import tabulate

    from counting.budget import resolve
    from counting.costs import summary
    from schedules.check import without_faults

    jobs, faults = parse(argvs)
    if not faults:
        check_distinct([*zip(jobs, of_jobs)], study.has_teacher)
    jobs = without_faults(str(request.output), jobs, faults)
    dense = summary(resolve(config_of(study, request))[0])["params"] if study.has_teacher else 0
    rows = weigh(jobs, of_jobs, dense, bool(request.budgets_mult_adds))
    of = ["network" if study.settings else "setting", "jobs", "params", "of the teacher's" if dense else "of the dense"]
    headers = [*of, "mult-adds, exact", "gated, planned", "budget"]
    columns = [place for place in range(len(headers)) if any(row[place] is not None for row in rows)]
    shown, formats = [[row[place] for place in columns] for row in rows], ("", "", "", ".6f", ",.0f", ",.0f", "")
    formats = [formats[place] for place in columns]
    print(f"{study.title}\n")
    print(tabulate(shown, [headers[place] for place in columns], intfmt=",", floatfmt=formats))
    write_atomically(request.output, lambda file: file.write(contents))
    print(f"{request.output}: {len(jobs)} jobs, all checked; python -m schedules.run {request.output} runs them")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
