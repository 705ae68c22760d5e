"""Write the schedule of a study: a teacher, then for every setting a student of it and the same network alone.

    python -m schedules.generate digits
    python -m schedules.generate wrn_28_10 --tag Dec18 --seeds 3 --only taught
    python -m schedules.generate wrn_28_10 --budgets 3e5:3e6:5 --seeds 3 -o budgets.json
    python -m schedules.generate wrn_28_10 --dataset folder:leaves --convs ACDC,Tucker_0.25
    python -m schedules.generate darts --convs SepHashed_0.1,ACDC -- --epochs 100 --batch_size 64

The settings are those of studies.py, or --convs, or those that meet --budgets. Flags after `--` go to every command,
those that say how a teacher teaches (--alpha, --beta) to students alone. Before anything is written, every command is
checked: it parses, its name is unique, its network can be built and meets its budget, and its teacher exists or is trained
by an earlier job.
"""

import sys
from pathlib import Path

if not __package__:  # started as a file: its imports lie in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import json
import math
import re
import time
from argparse import ArgumentTypeError
from collections.abc import Sequence

from cli import command, layers
from cli import flags as cli_flags
from cli import options as cli_options
from cli.command import Parser
from cli.counting import counting_parser
from input.datasets import PREFIX, is_own
from layers.mixed import MixedName, in_file_names, parse_name, parse_open, several
from layers.registry import FAMILIES, OpenName, parse_family
from models.registry import reference_conv, width_flag
from schedules.commands import Setting, commands, teacher, without_teaching
from schedules.comparable import network_name
from schedules.schedule import Job, parse
from schedules.studies import STUDIES, Study
from system import arguments as system_arguments
from system import files
from system.arguments import amount, choice, number
from system.configuration import Configuration
from system.errors import RequestError
from system.files import write_atomically
from weights.sources import check_run_name, check_source

TOLERANCE = 0.05  # a setting meets a budget within this share of it
GATED = {"gate": "", "gate_where": "where "}  # what tells gated networks of one shape apart, with the words before it


def budgets(text: str) -> list[int]:
    """Return the budgets of `3e5,1e6`, or of `3e5:3e6:5`: five from one to the other in equal ratios."""
    ends = text.split(":")
    if len(ends) == 1:
        return [amount(each) for each in text.split(",")]
    if len(ends) != 3:
        raise ArgumentTypeError(f"{text!r} is neither amounts such as 3e5,1e6 nor LOW:HIGH:POINTS such as 3e5:3e6:5")
    low, high, points = amount(ends[0]), amount(ends[1]), number(int, 2, 1000)(ends[2])
    if low >= high:
        raise ArgumentTypeError(f"{text!r}: the first amount is not below the second")
    return [_rounded(low * (high / low) ** (place / (points - 1))) for place in range(points)]


def _rounded(value: float) -> int:
    """Return the value to three digits: nobody asks for 533,484 parameters."""
    size = 10 ** max(0, int(math.log10(value)) - 2)
    return round(value / size) * size


def _parser() -> Parser:
    parser = Parser(
        prog="python -m schedules.generate",
        description="Write the schedule of a study. After -- : flags for every job.",
    )
    known = "; ".join(f"{name}: {study.title}" for name, study in STUDIES.items())
    parser.add_argument("study", type=choice("study", list(STUDIES)), metavar="STUDY", help=known)
    parser.add_argument(
        "-o", "--output", type=system_arguments.filename, metavar="FILE", help="(default: STUDY[.TAG].json)"
    )
    parser.add_argument(
        "--dataset", type=cli_flags.dataset, metavar="DATASET", help="instead of the study's own, such as folder:PATH"
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
    """Return the request, with `flags` for every command, the `tag`, the `name` that begins every run's, and `output`.

    Raise RequestError where flags do not go together.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    given, flags = _parser().parse_args(arguments[:end]), arguments[end + 1 :]
    ways = [flag for flag in ("convs", "budgets", "budgets_mult_adds") if getattr(given, flag)]
    if len(ways) > 1:
        raise RequestError(f"--{ways[0]} and --{ways[1]}: give one of them")
    if given.families and ways in ([], ["convs"]):
        raise RequestError("--families goes with --budgets or --budgets_mult_adds")
    own = [flag for flag in ("convs", "budgets", "budgets_mult_adds", "teacher", "only") if getattr(given, flag)]
    if own and STUDIES[given.study].settings:
        raise RequestError(f"--{own[0]}: the study {given.study} has no teacher and settings of its own")
    if given.tag and given.dated:
        raise RequestError(f"--tag {given.tag} and --dated: give one of them")
    tag = time.strftime("%b") + str(time.localtime().tm_mday) if given.dated else given.tag
    if tag:
        check_run_name(tag, "--tag")
    if given.teacher:
        check_source(given.teacher, "--teacher")
    _check_flags(flags, has_students=given.only != "alone" and not STUDIES[given.study].settings)
    name = given.study + (f".{_in_names(given.dataset)}" if given.dataset else "")
    output = Path(given.output or f"{name}{f'.{tag}' if tag else ''}.json")
    return Configuration({**vars(given), "flags": flags, "tag": tag, "name": name, "output": output})


def _check_flags(flags: Sequence[str], has_students: bool) -> None:
    """Raise RequestError where one of the flags for every job is one that each job has of its own, or no job can have."""
    own = {"--teacher_checkpoint", "--student_checkpoint", "--seed", "--conv", "--network", "--resume"}
    for flag in flags:
        if flag.partition("=")[0] in own or flag[:2] in ("-t", "-s", "-r"):
            raise RequestError(f"{flag} after --: every job has its own")
        if without_teaching([flag]) == [] and not has_students:
            raise RequestError(f"{flag.partition('=')[0]} after --: it goes to students, and this schedule has none")
        if flag == "--allocate":
            raise RequestError(
                "--allocate after --: generate finds one number for all layers; write such jobs into the schedule"
            )
    layered = layers.layered(cli_flags.training_parser(), flags, [counting_parser()])
    for key in ("seed", "conv", "network", "resume", "allocate"):  # a name is given by flags, which are stronger
        if key in layered:
            raise RequestError(f"{layered[key].where}: {key} after --: every job has its own")


def _in_names(dataset: str) -> str:
    """Return what a dataset is called in the names of runs; raise RequestError where it is a folder without images."""
    own = dataset
    if is_own(dataset):
        from input.folders import look  # imports NumPy, which no other request needs here

        own = look(dataset.removeprefix(PREFIX), 1).name
    return re.sub(r"[^A-Za-z0-9_-]+", "_", own.removeprefix(PREFIX)).strip("_-")[:40] or "folder"


def settings(study: Study, request: Configuration) -> list[Setting]:
    """Return the settings that students of the study's teacher compare; [] where it has none."""
    if study.settings:
        return []
    if request.budgets or request.budgets_mult_adds:
        return _that_meet(study, request)
    convs = [str(parse_name(text)) for text in request.convs or study.convs]
    chosen = [Setting(("--conv", conv), in_file_names(conv)) for conv in dict.fromkeys(convs)]
    return chosen + ([_of_width(study.control.split())] if study.control and not request.convs else [])


def _of_width(flags: Sequence[str], budget: int | None = None, conv: str = "") -> Setting:
    return Setting(tuple(flags), f"{f'{in_file_names(conv)}_' * bool(conv)}width_{flags[1].removesuffix('.0')}", budget)


def _that_meet(study: Study, request: Configuration) -> list[Setting]:
    """Return each family's nearest setting to each budget, and print which budgets a family cannot meet."""
    config = _config(study, request)
    network, exact = config["network"], request.budgets is None
    names = [parse_open(text) for text in request.families] if request.families else _families(network)
    found: dict[tuple[str, ...], Setting] = {}
    for name in names:
        if name.number is None and width_flag(network) is None:
            raise RequestError(f"{name} has no number to find, and {network} no width that could vary instead")
        missed: dict[str, list[str]] = {}  # budgets by the reason why none of them has a setting of its own
        for asked in request.budgets or request.budgets_mult_adds:
            setting, words = _nearest(config, name, asked, exact)
            if setting is None:
                missed.setdefault(words, []).append(f"{asked:,}")
                continue
            if setting.flags in found:
                missed.setdefault(f"{words} is nearest to that too", []).append(f"{asked:,}")
            found.setdefault(setting.flags, setting)
        if missed:
            print(f"{name} leaves out " + "; ".join(f"{', '.join(of)} ({why})" for why, of in missed.items()))
    if not found:
        raise RequestError("no family meets any of these budgets")
    return list(found.values())


def _nearest(config: Configuration, name: OpenName | MixedName, asked: int, exact: bool) -> tuple[Setting | None, str]:
    """Return a family's setting that meets a budget, and it in words; or None, and why no setting meets it."""
    from counting.budget import OutOfReach, resolve

    goal = {"budget_mult_adds" if exact else "budget": asked}
    try:
        achieved, result = resolve({**config, "conv": str(name), **goal})
    except OutOfReach as error:
        return None, error.reach
    except RequestError as error:
        return None, str(error)
    if abs(result.achieved - asked) > TOLERANCE * asked:
        return None, f"{result.setting} comes nearest with {result.achieved:,}"
    if name.number is not None:
        return Setting(("--conv", achieved["conv"]), in_file_names(achieved["conv"]), asked), result.setting
    flag = width_flag(config["network"])
    other = str(name) if str(name) != reference_conv(config["network"]) else ""
    return _of_width((f"--{flag}", repr(achieved[flag]), "--conv", str(name)), asked, other), result.setting


def _families(network: str) -> list[OpenName]:
    """Return the families that have a number, and the network's own conv where the network has a width."""
    numbered = [family for family in FAMILIES if FAMILIES[family].numbers]
    return [parse_family(each) for each in [*numbered, *([reference_conv(network)] if width_flag(network) else [])]]


def _config(study: Study, request: Configuration) -> Configuration:
    """Return the configuration of the study's teacher."""
    return cli_options.training([*teacher(study, request, "teacher")[2:]])


def weigh(jobs: Sequence[Job], settings: Sequence[Setting | None], dense: int, exact: bool) -> list[list]:
    """Return a row of counts for every distinct network, counted from its command, with what its gates plan to leave.

    `dense` is the parameter count of the teacher (0: there is none), `exact` whether budgets are of mult-adds. Raise RequestError where a
    network misses its budget.
    """
    from counting.costs import summary
    from schedules.check import shape

    rows: dict[tuple, list] = {}
    for job, setting in zip(jobs, settings):
        gates = [words + job.options[key] for key, words in GATED.items() if job.options.get(key)]
        key = (*shape(job.options), *gates)
        if key not in rows:
            costs, budget = summary(job.options), setting.budget if setting else None
            achieved = costs["mult_adds_exact" if exact else "params"]
            if budget and abs(achieved - budget) > TOLERANCE * budget:
                raise RequestError(f"job {job.number} has {achieved:,} instead of {budget:,}")
            what = " ".join(setting.flags).removeprefix("--conv ") if setting else f"{costs['conv']}, the teacher"
            what, share = (what, costs["params"] / dense) if dense else (network_name(job.options), costs["crs_ratio"])
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


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    request = options(arguments)
    chosen = settings(STUDIES[request.study], request)
    pairs = commands(STUDIES[request.study], request, chosen)
    argvs, of_jobs = [argv for argv, _ in pairs], [setting for _, setting in pairs]
    contents = ("[" + ",\n ".join(json.dumps(argv) for argv in argvs) + "]\n").encode()
    if request.output.exists() and files.read_file(str(request.output)) != contents:  # its runs may be under way
        raise RequestError(f"{request.output} exists and is another schedule: choose another -o, or delete it")
    from tabulate import tabulate

    from counting.costs import summary
    from schedules.check import without_faults

    jobs = without_faults(str(request.output), *parse(argvs))
    is_taught = not STUDIES[request.study].settings
    dense = summary(_config(STUDIES[request.study], request))["params"] if is_taught else 0
    rows = weigh(jobs, of_jobs, dense, bool(request.budgets_mult_adds))
    of = (
        ["setting", "jobs", "params", "of the teacher's"]
        if is_taught
        else ["network", "jobs", "params", "of the dense"]
    )
    headers = [*of, "mult-adds, exact", "gated, planned", "budget"]
    columns = [place for place in range(len(headers)) if any(row[place] is not None for row in rows)]
    shown, formats = [[row[place] for place in columns] for row in rows], ("", "", "", ".6f", ",.0f", ",.0f", "")
    formats = [formats[place] for place in columns]
    print(tabulate(shown, [headers[place] for place in columns], intfmt=",", floatfmt=formats))
    write_atomically(request.output, lambda file: file.write(contents))
    print(f"{request.output}: {len(jobs)} jobs, all checked; python -m schedules.run {request.output} runs them")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
