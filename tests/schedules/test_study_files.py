"""Studies as files of YAML and as flags: what they come to, and one line for what is wrong with them."""

import os

import pytest
from results import refused

from schedules import generate, study_files
from schedules.schedule import read
from system.errors import RequestError

BASE = "base: {dataset: digits, wrn: {depth: 10, width: 1}, epochs: 2, lr: 0.2, schedule: step}"
WHOLE = f"""
title: rates
{BASE}
grid:
  conv: [Sep, ACDC_4]
  lr: [null, 3e-2]
  nesterov: [true, false]
  epoch_step: [[1], [1, 2]]
  seed: [0, 1]
names: '{{conv}}.{{lr}}.{{nesterov}}.{{epoch_step}}.s{{seed}}'
"""


def jobs_of(text, *arguments):
    with open("mine.yaml", "w") as file:
        file.write(text)
    assert generate.main(["mine.yaml", *arguments]) == 0
    return read("mine.json")


def test_a_file_is_the_product_of_its_grid(workplace):
    """Without a teacher all train alone; null takes the value of base back; every value is that of its flag."""
    jobs = jobs_of(WHOLE)
    assert len(jobs) == 32 and {job.options.mode for job in jobs} == {"teacher"}
    first, last = jobs[0].options, jobs[-1].options
    assert [jobs[0].name, jobs[-1].name] == ["mine.sep.default.true.1.s0", "mine.acdc_4.0.03.false.1_2.s1"]
    assert (first.lr, first.nesterov, first.epoch_step, first.seed) == (0.1, True, [1], 0)
    assert (last.lr, last.nesterov, last.epoch_step, last.seed, last.conv) == (0.03, None, [1, 2], 1, "ACDC_4")
    assert {job.options.epochs for job in jobs} == {2}


def test_a_teacher_has_base_and_its_own_flags_and_trains_once(workplace):
    """Students and networks alone have those of the grid; alone, nothing is trained again for another alpha."""
    file = f"import: all.yaml\n{BASE}\nteacher: {{epochs: 4}}\ngrid: {{lr: [null, 0.3]}}\n"
    with open("all.yaml", "w") as other:
        other.write("convs: [Sep, null]\ngrid: {alpha: [0.3, 0.5]}\n")
    jobs = jobs_of(file)
    teacher, *rest = jobs
    assert (teacher.name, teacher.options.lr, teacher.options.epochs) == ("mine.teacher", 0.2, 4)
    students = [job for job in rest if job.options.mode == "student"]
    assert len(students) == 8 and len(rest) == 12 and {job.options.epochs for job in rest} == {2}
    names = [job.name for job in rest if job.options.mode == "teacher"]  # without alpha, which they do not have
    assert names == ["mine.sep.lr_default", "mine.sep.lr_0.3", "mine.default.lr_default", "mine.default.lr_0.3"]
    assert [*students[-1].needs] == ["mine.teacher"] and students[-1].name == "mine.default.alpha_0.5.lr_0.3.student"
    os.remove("mine.json")
    (workplace / "checkpoints").mkdir()
    (workplace / "checkpoints/best.pt").touch()
    taught = jobs_of(file.replace("dataset:", "mode: student, dataset:").replace("{epochs: 4}", "best"))
    assert len(taught) == 8 and {job.options.teacher_checkpoint for job in taught} == {"best"}


@pytest.mark.parametrize(
    "text, said",
    [
        ("base: {lr: 0.1}\ngrid: {conv: [Sep]}", "mine.yaml: base has no dataset"),
        (f"{BASE}\ngrdi: {{lr: [0.1]}}", "mine.yaml:2: unknown key 'grdi_lr'; did you mean"),
        (f"{BASE}\nlr: 0.1", "mine.yaml:2: 'lr' is a flag: write it below `base:`"),
        (f"{BASE}\ngrid: {{lrr: [0.1]}}", "mine.yaml:2: unknown key 'lrr'"),
        (f"{BASE}\ngrid:\n  lr: [0.1, -3]", "mine.yaml:3: argument --lr: '-3' is not"),
        (f"{BASE}\ngrid:\n  conv: [Sep, ACDK_3]", "mine.yaml:3: unknown conv 'ACDK_3'; did you mean"),
        (f"{BASE}\ngrid: {{lr: 0.1}}", "mine.yaml:2: grid: 'lr' takes a list of values, as `lr: [0.1]`"),
        (f"{BASE}\ngrid: {{lr: []}}", "mine.yaml:2: grid: 'lr' has no value"),
        (f"{BASE}\ngrid: {{lr: [0.1, 1e-1]}}", "mine.yaml:2: 'lr' has two values that are called '0.1'"),
        (f"{BASE}\ngrid: {{dataset: [digits, cifar10]}}", "mine.yaml:2: grid: 'dataset' cannot vary"),
        (f"{BASE}\ngrid: {{conv: [Sep]}}\nconvs: [ACDC]", "mine.yaml:3: convs and mine.yaml:2, conv of grid: keep one"),
        (f"{BASE}\nbudgets: [9e3, x]", "mine.yaml:2: budgets: 'x' is not a number"),
        (f"{BASE}\nbudgets: []", "mine.yaml:2: budgets takes a list"),
        (f"{BASE}\nbudgets: 9e3\nconvs: [Sep]", "mine.yaml:2: budgets and mine.yaml:3, convs: keep one"),
        (f"{BASE}\nbudgets: 9e3\nfamilies: [SepHased]", "mine.yaml:3: unknown conv 'SepHased'"),
        (f"{BASE}\nbudgets: [9e3, 2e4, 9000]", "mine.yaml:2: budgets: '9e3,2e4,9000' has 9,000 twice"),
        (f"{BASE}\nbudgets: 9e3\nfamilies: [CP, CP_x_3]", "mine.yaml:3: the family CP is given twice"),
        (f"{BASE}\nconvs: [Sep]\nfamilies: [Sep]", "mine.yaml:3: families meet budgets"),
        (f"{BASE}\ngrid: {{alpha: [0.5]}}", "mine.yaml:2: 'alpha' says how a teacher teaches"),
        (BASE.replace("lr:", "teacher_checkpoint: x, lr:"), "mine.yaml:1: base: 'teacher_checkpoint' cannot be given"),
        (BASE.replace("lr:", "import: x.yaml, lr:"), "mine.yaml:1: base: no file of flags here"),
        (BASE.replace("lr:", "mode: student, lr:"), "mine.yaml:1: mode student needs a teacher"),
        (f"{BASE}\nteacher: [a]", "mine.yaml:2: teacher is one text, no list"),
        (f"{BASE}\nteacher: {{}}", "mine.yaml:2: teacher: {} gives nothing"),
        (f"{BASE}\nteacher: a*b", "mine.yaml:2: teacher 'a*b'"),
        (f"{BASE}\nteacher: {{mode: student}}", "mine.yaml:2: teacher: 'mode' cannot be given"),
        (f"{BASE}\nbase: 3", "mine.yaml:2: base holds flags with values"),
        (BASE, "mine.yaml: nothing varies"),
        (
            f"{BASE}\ngrid: {{lr: [0.1, 0.2], seed: [0, 1]}}\nnames: 'x.{{lr}}'",
            "mine.yaml:3: names 'x.{lr}' gives 2 settings the name 'x.0.1': it lacks {seed}",
        ),
        (
            f"{BASE}\ngrid: {{lr: [1, 11], seed: [1, 11]}}\nnames: '{{lr}}{{seed}}'",
            "mine.yaml:3: names '{lr}{seed}' gives 2 settings the name '111': put something between",
        ),
        (
            f"{BASE}\ngrid: {{crs_factor: [1]}}\nnames: '{{factor}}'",
            "unknown key {factor}; did you mean 'crs_factor'? (known: {crs_factor})",
        ),
        (f"{BASE}\ngrid: {{lr: [1]}}\nnames: '{{lr:g}}'", "mine.yaml:3: names '{lr:g}': {lr} is a key alone"),
        (f"{BASE}\ngrid: {{lr: [1]}}\nnames: '{{lr'", "is no template such as"),
        (
            f"{BASE}\ngrid: {{lr: [1]}}\nnames: 'a/{{lr}}'",
            "mine.yaml:3: names 'a/{lr}' gives the name 'mine.a/1': a run's",
        ),
        (
            f"{BASE}\ngrid: {{lr: [1], momentum: [null, 0.9]}}",
            "mine.lr_1.momentum_default and mine.lr_1.momentum_0.9 would be the same run",
        ),
        (f"{BASE}\ngrid: {{seed: &many {[*range(1, 102)]}, train_size: *many}}", "more than 10,000 settings"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(workplace, text, said, capsys):
    (workplace / "mine.yaml").write_text(text)
    faults, last = refused(capsys, generate.main, "mine.yaml")
    assert not faults and said in last and not (workplace / "mine.json").exists()


def test_a_file_has_budgets_too(workplace):
    """Each family meets each budget; budgets, families and convs of the command take their place."""
    file = (
        f"{BASE}\nbudgets: [9e3, 2e4]\nfamilies: [SepHashed, Conv]\ngrid: {{seed: [0, 1]}}\nnames: '{{conv}}.{{seed}}'"
    )
    names = {}
    for flags in ("", "--budgets 3e4", "--families Tucker", "--convs Sep,Conv"):
        names[flags] = [job.name.removeprefix("mine.") for job in jobs_of(file, *flags.split())]
        os.remove("mine.json")
    both = ["sephashed_0.375.0", "sephashed_0.375.1", "width_0.32.0", "width_0.32.1", "width_0.5.0", "width_0.5.1"]
    assert names.pop("") == both  # SepHashed does not reach 20,000
    assert names == {
        "--budgets 3e4": ["width_0.61.0", "width_0.61.1"],
        "--families Tucker": ["tucker_0.44.0", "tucker_0.44.1"],
        "--convs Sep,Conv": ["sep.0", "sep.1", "conv.0", "conv.1"],
    }
    teacher, *rest = jobs_of(
        file.replace("lr: 0.2", "conv: Sep") + "\nteacher: true"
    )  # the conv varies beside that of base
    assert teacher.options.conv == "Sep" and all(job.argv.count("--conv") == 1 for job in rest)
    assert teacher.options.wrn_width == 1 and all(job.argv.count("--wrn_width") == 1 for job in rest)


def test_a_study_by_flags(workplace):
    """The product of convs and of every --vary; key=value that says how a teacher teaches goes to students alone."""
    vary = ["--vary", "lr=0.03,.1", "--vary", "epoch_step=null;[1,2]"]
    flags = ["--", "--wrn_depth", "10", "--wrn_width", "1", "alpha=.5", "--schedule", "step", "--where", "beta=0|."]
    asked = ["--network", "WideResNet", "--dataset", "digits", "--convs", "Sep,ACDC_4", *vary, *flags]
    assert generate.main([*asked]) == 0
    teacher, *rest = read("wideresnet.digits.json")
    assert teacher.name == "wideresnet.digits.teacher" and teacher.options.alpha is None and len(rest) == 16
    names = [job.name for job in rest]
    assert names[3] == "wideresnet.digits.sep.lr_0.03.epoch_step_1_2" and len({*names}) == 16
    assert {(job.options.mode, job.options.alpha) for job in rest} == {("teacher", None), ("student", 0.5)}
    with pytest.raises(RequestError, match="alpha after --: it goes to students, and this schedule has none"):
        generate.options(["resnet9_ranks", "--", "alpha=.5"])


@pytest.mark.parametrize(
    "arguments, said",
    [
        ("--network ResNet9", "or --network and --dataset"),
        ("--network ResNet9 --dataset digits", "nothing varies: give --convs, --budgets or --vary"),
        ("digits --network ResNet9", "the study digits has its own"),
        ("digits --vary lr", "'lr' is not KEY=VALUE,VALUE"),
        ("digits --vary lr=0.1,,2", "is not KEY=VALUE,VALUE"),
        ("digits --vary lrr=0.1", "unknown key 'lrr'"),
        ("digits --vary lr=0.1,-1", "'-1' is not"),
        ("digits --vary conv=Sep", "conv does not vary so: give --convs"),
        ("digits --vary lr=0.1 --vary lr=0.2", "--vary lr is given twice"),
        ("digits --vary seed=0,1 --seeds 2", "--seeds 2: the seeds of this study are those of --vary"),
        ("digits --vary alpha=0.1,1 --only alone", "--vary alpha: it says how a teacher teaches"),
        ("exact_sparsity --vary lr=0.1", "--vary: the study exact_sparsity has no teacher"),
        ("resnet9_ranks --teacher x", "--teacher x: the study resnet9_ranks trains its networks alone"),
        ("resnet9_ranks --only taught", "--only taught: all networks of the study resnet9_ranks are alone"),
        ("./mine.yaml", "there is no configuration file"),
    ],
)
def test_wrong_flags_are_one_line(workplace, arguments, said, capsys):
    faults, last = refused(capsys, generate.main, *arguments.split())
    assert not faults and said in last


def test_what_varies_takes_back_what_the_study_gives(workplace):
    """A null is the preset, an off value is off, whatever base says; the teacher has what base says."""
    text = f"{BASE.replace('lr:', 'nocrswd: true, lr:')}\nconvs: [Sep]\nteacher: true\n"
    teacher, *rest = jobs_of(text, "--vary", "nocrswd=true,false", "--vary", "lr=null,0.3", "--only", "alone")
    assert (teacher.options.nocrswd, teacher.options.lr) == (True, 0.2)
    assert [(job.name, job.options.nocrswd, job.options.lr) for job in rest] == [
        ("mine.sep.nocrswd_true.lr_default", True, 0.1), ("mine.sep.nocrswd_true.lr_0.3", True, 0.3),
        ("mine.sep.nocrswd_false.lr_default", False, 0.1), ("mine.sep.nocrswd_false.lr_0.3", False, 0.3),
    ]  # fmt: skip


def test_files_and_keys_behind_the_hyphens_are_flags(workplace, capsys):
    """They are stronger than what a study gives, of whatever kind, and weaker than flags; teaching goes to students alone."""
    (workplace / "more.yaml").write_text(
        "dataset: cifar10\nmode: teacher\nteacher_checkpoint: x\nalpha: 0.4\nepochs: 5\nlr: 0.3\nschedule: step\nepoch_step: [1, 2]\n"
    )
    behind = ["--", "--config", "more.yaml", "lr=0.05", "epochs=3", "--epochs", "4"]
    text = f"{BASE}\ngrid: {{conv: [Sep], nesterov: [true, false]}}\nteacher: {{lr: 0.4}}\n"
    for jobs in (jobs_of(text, *behind), jobs_of_digits("--convs", "Sep", *behind)):
        said = {
            (each.options.dataset, each.options.epochs, each.options.lr, (*each.options.epoch_step,)) for each in jobs
        }
        assert said == {("digits", 4, 0.05, (1, 2))}
        assert {(job.options.mode, job.options.alpha) for job in jobs} == {("teacher", None), ("student", 0.4)}
        assert all(job.argv.count("--epochs") == job.argv.count("--lr") == 1 for job in jobs)
    taken = jobs_of_digits("--convs", "Sep", "-o", "taken.json", "--", "epochs=null", "nocrswd=false")
    assert {job.options.epochs for job in taken} == {30}  # the preset
    for arguments, said in (
        (["--vary", "lr=null,0.3", "--", "lr=0.05"], "lr=0.05: lr after --: it varies in this study"),
        (["--vary", "lr=null,0.3", "--", "--lr=0.05"], "--lr after --: it varies in this study"),
        (["--", "seed=3"], "seed=3: seed after --: every job has its own"),
        (["--", "dataset=cifar10"], "dataset=cifar10: dataset after --: every job has its own"),
        (["--", "lr=-1"], "lr=-1: argument --lr: '-1' is not"),
        (["--", "lr=1", "--lrr"], "unknown flag '--lrr'"),
    ):
        faults, last = refused(capsys, generate.main, "digits", *arguments)
        assert not faults and said in last
    assert (
        "--nocrswd after --: it varies"
        in refused(capsys, generate.main, "resnet9_weight_decay_digits", "--", "--nocrswd")[1]
    )


def jobs_of_digits(*arguments):
    output = [] if "-o" in arguments else ["-o", "digits.json"]
    assert generate.main(["digits", *output, *arguments]) == 0
    return read(arguments[arguments.index("-o") + 1] if "-o" in arguments else "digits.json")


def test_a_width_that_varies_has_no_control(workplace, capsys):
    _, *rest = jobs_of_digits("--only", "alone", "--vary", "wrn_width=0.5,1")
    assert len(rest) == 6 and {job.options.conv for job in rest} == {"SepHashed_0.25", "ACDC_4", "Shuffle_4"}
    faults, last = refused(
        capsys, generate.main, *"digits --budgets 1e4 --families ACDC,Conv --vary wrn_width=1,2".split()
    )
    assert not faults and "--vary wrn_width: the family Conv meets a budget by its width" in last


def test_a_null_of_a_file_takes_back_what_it_imports(workplace):
    (workplace / "other.yaml").write_text(f"{BASE}\ngrid: {{lr: [0.1], seed: [0, 1]}}\nteacher: true\n")
    (workplace / "mine.yaml").write_text("import: other.yaml\ngrid: {lr: null}\nbase: {lr: null}\nteacher: false\n")
    study = study_files.read("mine.yaml")
    assert study.title == "mine"
    assert [*study.grid] == ["seed"] and "--lr" not in study.flags and not study.has_teacher


def test_a_budget_finds_the_number_of_each_conv(workplace, capsys):
    jobs = jobs_of(f"{BASE}\ngrid: {{budget: [9000], conv: [SepHashed, ACDC]}}\nteacher: true")
    assert [job.name for job in jobs[1::2]] == ["mine.sephashed.budget_9000.student", "mine.acdc.budget_9000.student"]
    assert "9,002" in capsys.readouterr().out and jobs[0].options.budget is None
    jobs_of_digits("--convs", "Sep", "--only", "alone", "--vary", "budget=5000,9000")
    out = capsys.readouterr().out
    assert "\nSep, budget 5000 " in out and "\nSep, budget 9000 " in out
