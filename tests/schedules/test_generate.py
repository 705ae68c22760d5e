"""The generator: whole studies, settings and budgets, every command checked, nothing written over."""

import csv
import re
import time
from pathlib import Path

import pytest
from results import refused

from cli import options
from cli.recipes import structured_lr_of
from counting.costs import summary
from layers.registry import parse_conv
from schedules import generate
from schedules.check import without_faults
from schedules.comparable import flags_of_teaching
from schedules.schedule import conflicts, parse, read
from schedules.studies import DENSE, STUDIES
from system.errors import RequestError


def jobs_of(name):
    return read(name if name.endswith(".json") else f"{name}.json")


TAUGHT = [name for name, study in STUDIES.items() if study.has_teacher]
NAMED = {"teacher_checkpoint": None, "seed": None, "init_from": None}
ALONE = [name for name, study in STUDIES.items() if study.settings]
SWEEPS = [name for name in STUDIES if name not in TAUGHT + ALONE]


@pytest.mark.parametrize("name", TAUGHT)
def test_no_study_carries_another_s_settings(name):
    """Every command parses again, to the network of its study, with one setting of it, under a name that says both."""
    study, request = STUDIES[name], generate.options([name, "--seeds", "2"])
    chosen = generate.settings(study, request)
    jobs, faults = parse([argv for argv, _ in generate.commands(study, request, chosen)])
    assert not faults and not list(conflicts(jobs))
    assert len({job.name.lower() for job in jobs}) == len(jobs) == 1 + 4 * len(chosen)
    assert jobs[0].name == f"{name}.teacher" and all(job.name.startswith(f"{name}.") for job in jobs)
    own = options.training([study.dataset, "teacher", "-t", "x", *study.flags.split()])
    control = study.control.split(" ")[0].removeprefix("--")
    settings = set()
    for job in jobs[1:]:
        assert job.needs == ({f"{name}.teacher": "teacher"} if job.options.mode == "student" else {})
        theirs = job.options
        different = {key for key, value in own.items() if theirs[key] != value and not key.endswith("_checkpoint")}
        different -= {"mode", "seed", *flags_of_teaching()}
        if theirs["structured_lr"] == structured_lr_of(theirs["conv"], None):  # as the conv has it
            different.discard("structured_lr")
        assert different == {"conv"} or different == {control} or theirs["conv"] == own["conv"]
        assert theirs["conv"].lower() in job.name or control in different
        settings.add((theirs["conv"], theirs.get(control)))
    assert len(settings) == len(chosen)
    assert [job.options["conv"] for job in jobs[1::4]][: len(study.convs)] == [
        str(parse_conv(conv)) for conv in study.convs
    ]


@pytest.mark.parametrize("name", ALONE)
def test_a_study_without_a_teacher_has_each_network_with_each_setting(name, workplace, capsys):
    study = STUDIES[name]
    assert generate.main([name, "--seeds", "2", "-o", "study.json"]) == 0
    said, jobs = capsys.readouterr().out, jobs_of("study")
    last = jobs[-1].options
    assert ("gated, planned" in said) == bool(last["gate"])
    assert not last["gate"] or f"{summary(last)['mult_adds_gated']:,.0f}" in said
    assert len(jobs) == 2 * len(study.networks) * (1 + len(study.settings)) and not list(conflicts(jobs))
    for setting, flags in {DENSE: "", **study.settings}.items():
        for of_network, network in study.networks.items():
            expected = options.training(
                [study.dataset, "teacher", "-t", "x", *study.flags.split(), *network.split(), *flags.split()]
            )
            found = [job for job in jobs if {**job.options, **NAMED} == {**expected, **NAMED}]
            assert [job.options["seed"] for job in found] == [0, 1], (network, flags)
            assert [job.name for job in found] == [f"{name}.{of_network}.{setting}.seed{seed}" for seed in (0, 1)]
            before = study.after.get(setting)  # the run of the same network and seed, which an earlier job makes
            starts = [f"{name}.{of_network}.{before}.seed{seed}" if before else None for seed in (0, 1)]
            assert [job.options["init_from"] for job in found] == starts
            made = [job.name for job in jobs]
            assert not before or all(made.index(start) < made.index(job.name) for start, job in zip(starts, found))
    assert len({job.name.lower() for job in jobs}) == len(jobs)
    with pytest.raises(RequestError, match=f"--convs: the study {name} has no teacher and settings of its own"):
        generate.options([name, "--convs", "ACDC"])


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_trains_each_network_alone(name, workplace, capsys):
    """Its jobs have the parameters of the reference table, which has about half of them, and the settings of the logs."""
    study = STUDIES[name]
    assert generate.main([name]) == 0
    jobs, said = jobs_of(name), capsys.readouterr().out
    assert len(jobs) == {"resnet9_ranks": 57 + 72, "resnet9_weight_decay": 60}.get(name, len(jobs))
    assert len(jobs) == len(study.convs) * (2 if study.grid else 1) and {job.options.mode for job in jobs} == {
        "teacher"
    }
    assert {job.options.nocrswd for job in jobs} == ({True, False} if study.grid else {False})
    if name.endswith("_digits"):
        return
    (recipe,) = {
        (job.options.network, job.options.schedule, job.options.lr, job.options.epochs, job.options.weight_decay)
        for job in jobs
    }
    assert recipe == ("ResNet9", "cosine", 0.2, 128, 5e-4)
    found = re.findall(r"^(\w+_[\d._]+) +\d+ +([\d,]+)", said, re.MULTILINE)
    params = {conv: int(count.replace(",", "")) for conv, count in found}
    known = {
        row["conv"].removesuffix("_3"): int(row["params"])
        for row in csv.DictReader(Path(__file__).parents[1].joinpath("resnet9.csv").read_text().splitlines())
    }
    shared = params.keys() & known.keys()
    assert len(shared) >= {"resnet9_ranks": 60, "resnet9_weight_decay": 15}[name]
    assert {conv: params[conv] for conv in shared} == {conv: known[conv] for conv in shared}


@pytest.mark.parametrize("name", TAUGHT)
def test_every_study_generates(workplace, name, capsys):
    """Two settings of each, built and counted as the whole study is; the schedule is what the launcher reads."""
    convs = [STUDIES[name].convs[0], STUDIES[name].convs[-1]]
    assert generate.main([name, "--convs", ",".join(convs), "-o", "study.json"]) == 0
    out = capsys.readouterr().out
    assert "study.json: 5 jobs, all checked" in out and all(str(parse_conv(conv)) in out for conv in convs)
    jobs = jobs_of("study")
    assert len(jobs) == 5
    without_faults("study.json", jobs)


def test_the_whole_of_digits(workplace, capsys):
    assert generate.main(["digits"]) == 0
    jobs = jobs_of("digits")
    assert [job.options.mode for job in jobs] == ["teacher", *["student", "teacher"] * 4]
    assert {job.options.epochs for job in jobs} == {8}
    assert "of the teacher's" in capsys.readouterr().out


def test_names_are_tagged_and_dated(workplace):
    assert generate.main(["digits", "--convs", "ACDC_3", "--tag", "Dec18", "--seeds", "2"]) == 0
    names = [job.name for job in jobs_of("digits.Dec18")]
    assert names == [
        "digits.teacher.Dec18", "digits.acdc_3.student.seed0.Dec18", "digits.acdc_3.seed0.Dec18",
        "digits.acdc_3.student.seed1.Dec18", "digits.acdc_3.seed1.Dec18",
    ]  # fmt: skip
    assert [job.options.seed for job in jobs_of("digits.Dec18")] == [0, 0, 0, 1, 1]
    dated = {time.strftime("%b") + str(time.localtime().tm_mday) for _ in range(2)}
    assert generate.options(["digits", "--dated"]).tag in dated | {
        time.strftime("%b") + str(time.localtime().tm_mday)  # midnight may have been in between
    }


@pytest.mark.parametrize("kind, modes", [("taught", {"student"}), ("alone", {"teacher"})])
def test_only_one_kind(workplace, kind, modes):
    assert generate.main(["digits", "--only", kind]) == 0
    first, *rest = jobs_of("digits")
    assert first.name == "digits.teacher" and {job.options.mode for job in rest} == modes and len(rest) == 4


def test_a_teacher_that_exists(workplace, capsys):
    """The study then trains no teacher; a misspelt name is answered with the nearest."""
    (workplace / "checkpoints").mkdir()
    (workplace / "checkpoints/best.teacher.pt").touch()
    (fault, *_), last = refused(capsys, generate.main, "digits", "--teacher", "best.techer")
    assert "no teacher 'best.techer'" in fault and "did you mean 'best.teacher'?" in fault
    assert generate.main(["digits", "--teacher", "best.teacher"]) == 0
    jobs = jobs_of("digits")
    assert len(jobs) == 8 and {need for job in jobs for need in job.needs} == {"best.teacher"}


def test_flags_for_every_job_do_not_undo_a_setting(workplace):
    """They replace the study's, for the teacher too, and those of teaching are the students'; the flags of a setting replace them."""
    teaching = ["--beta", "50", "--augment", "none", "--cache_teacher", "--alpha=0.3"]
    flags = ["--epochs", "3", *teaching, "--wrn_width", "2", "--nocrswd"]
    assert generate.main(["digits", "--seeds", "2", "--", *flags]) == 0
    jobs = jobs_of("digits")
    taught = {(job.options.mode, job.options.alpha, job.options.beta, job.options.cache_teacher) for job in jobs}
    assert taught == {("teacher", None, None, None), ("student", 0.3, 50, True)}
    assert all(job.options.augment == "none" for job in jobs)
    for study in (["digits", "--only", "alone"], ["exact_sparsity"]):
        with pytest.raises(RequestError, match="--beta after --: it goes to students, and this schedule has none"):
            generate.options([*study, "--", "--beta=0"])
    assert all(job.options.epochs == 3 and job.options.nocrswd for job in jobs)
    widths = {job.name: job.options.wrn_width for job in jobs}
    assert widths.pop("digits.teacher") == 2
    assert all(width == (0.5 if "width_0.5" in name else 2) for name, width in widths.items())
    assert {job.options.seed for job in jobs} == {0, 1}


@pytest.mark.parametrize(
    "flags",
    [
        "--conv=ACDC", "--conv ACDC", "-t x", "-tx", "-s x", "--seed 3", "--seed=3", "--resume", "-r", "-rt x",
        "--teacher_checkpoint=x", "--student_checkpoint x", "--network DARTS",
    ],
)  # fmt: skip
def test_flags_that_each_job_has_of_its_own_are_refused(workplace, flags, capsys):
    faults, last = refused(capsys, generate.main, "digits", "--", *flags.split())
    assert not faults and "after --: every job has its own" in last


@pytest.mark.parametrize(
    "arguments, said",
    [
        ("digit", "did you mean 'digits'?"),
        ("digits --convs ACDC --budgets 1e4", "--convs and --budgets: give one of them"),
        ("digits --budgets 1e4 --budgets_mult_adds 1e6", "give one of them"),
        ("digits --families ACDC", "--families goes with --budgets"),
        ("digits --tag a --dated", "give one of them"),
        ("digits --tag a/b", "--tag 'a/b'"),
        ("digits --teacher a*b", "--teacher 'a*b'"),
        ("digits --convs ACDK_3", "unknown conv 'ACDK_3'"),
        ("digits --budgets 3e5:3e6", "LOW:HIGH:POINTS"),
        ("digits --budgets 3e6:3e5:3", "not below"),
        ("digits --budgets 3e5:3e6:1", "'1' is not a whole number of at least 2"),
        ("digits --budgets 1e4 --families ACDC_3", "give ACDC"),
        ("digits --budgets 2e4,20000", "argument --budgets: '2e4,20000' has 20,000 twice: give each budget once"),
        ("digits --budgets_mult_adds 7:9:4", "'7:9:4' has 8 twice, to three digits: give fewer than 4 points"),
        ("digits --budgets 1e4 --families ACDC,Conv,ACDC", "--families: the family ACDC is given twice"),
        ("darts --budgets 1e6 --families Sep", "no width that could vary"),
        ("digits --budgets 5 --families ACDC", "no family meets any of these budgets"),
        ("digits --seeds 0", "'0' is not a whole number of at least 1"),
        ("digits --only both", "unknown kind 'both'"),
        ("digits --output", "expected one argument"),
    ],
)
def test_wrong_requests(workplace, arguments, said, capsys):
    faults, last = refused(capsys, generate.main, *arguments.split())
    assert not faults and said in last


@pytest.mark.parametrize(
    "flags, fault", [("--wrn_widht 2", "unknown flag"), ("--dry_run", "--dry_run"), ("-h", "help")]
)
def test_a_fault_of_every_job_lists_every_job(workplace, flags, fault, capsys):
    """Where the request itself is right, faults are found before anything is written."""
    faults, last = refused(capsys, generate.main, "digits", "--", *flags.split())
    (line,) = faults
    assert line.startswith("jobs 1, 2, 3, 4, 5, 6, 7, 8 and 1 more: ") and fault in line and "1 fault, " in last


def test_another_schedule_is_not_overwritten(workplace, capsys):
    assert generate.main(["digits", "--convs", "ACDC_3"]) == 0
    assert generate.main(["digits", "--convs", "ACDC_3"]) == 0  # the same
    capsys.readouterr()
    _, last = refused(capsys, generate.main, "digits", "--convs", "ACDC_4")
    assert "digits.json exists and is another schedule" in last
    (workplace / "folder").mkdir()
    _, last = refused(capsys, generate.main, "digits", "--convs", "ACDC_4", "-o", "folder")
    assert "folder cannot be read: it is no file" in last


def test_budgets_from_one_to_another():
    assert generate.budgets("3e5:3e6:5") == [300000, 533000, 949000, 1690000, 3000000]
    assert generate.budgets("3e5,1e6") == [300000, 1000000] and generate.budgets("7:9:3") == [7, 8, 9]


@pytest.mark.parametrize("flag, count", [("--budgets", "params"), ("--budgets_mult_adds", "mult_adds_exact")])
def test_every_budget_is_met(workplace, flag, count, capsys):
    """Counted from the schedule that was written. Families that cannot meet a budget are printed and left out."""
    asked = {"--budgets": [3000, 13000], "--budgets_mult_adds": [1_000_000, 2_500_000]}[flag]
    families = "Hashed,TensorTrain_x_4,ACDC,Shuffle,Conv"
    assert generate.main(["digits", flag, ",".join(map(str, asked)), "--families", families, "--only", "alone"]) == 0
    out = capsys.readouterr().out
    told = [line for line in out.splitlines() if " leaves out " in line]
    left_out = [each for line in told for each in re.findall(r"[\d,]+(?=, | \()", line.partition(" leaves out ")[2])]
    jobs = jobs_of("digits")[1:]
    met = {}
    for job in jobs:
        costs = summary(job.options)[count]
        (budget,) = [each for each in asked if abs(costs - each) <= 0.05 * each]
        met.setdefault(job.options.conv.split("_")[0], []).append(budget)
        width = job.options.wrn_width
        assert job.name == f"digits.{job.options.conv.lower()}" or job.name == f"digits.width_{width:g}"
    assert set(asked) == set(met["Conv"]) and len(jobs) + len(left_out) == 10 and 0 < len(left_out) < 10
    assert all("are in reach" in line or "comes nearest" in line or "nearest too" in line for line in told)


# What is read
