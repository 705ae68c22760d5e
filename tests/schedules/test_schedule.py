"""Schedules: those of other tools are read, and a schedule with any fault is refused as a whole."""

import json
import re
import shutil

import pytest
import small_runs
from results import refused, write_schedule

import schedules.run
from cli import options
from record import checkpoint
from schedules.check import checked, without_faults
from schedules.schedule import read
from system import files

TINY = ["--wrn_depth", "10", "--wrn_width", "0.25", "--epochs", "1"]


def teacher(name, *flags):
    return ["python", "main.py", "digits", "teacher", "-t", name, *TINY, *flags]


def student(name, of="t", *flags):
    return ["python", "main.py", "digits", "student", "-t", of, "-s", name, *TINY, *flags]


def test_a_schedule_as_other_tools_write_it(workplace):
    """Another Python, another place, flags in any order and form; added flags come last, without a `--` before them."""
    write_schedule(
        [
            ["python3.11", "-u", "/somewhere/main.py", *teacher("t")[2:], "--GPU", "0"],
            ["/usr/bin/python", "./main.py", *student("s")[2:], "--GPU=0", "--resume"],
            ["python3", "../main.py", "-talone", *TINY, "--", "digits", "teacher"],
        ]
    )
    jobs = read("study.json")
    without_faults("study.json", jobs)
    assert [job.name for job in jobs] == ["t", "s", "alone"] and [job.number for job in jobs] == [1, 2, 3]
    for job in jobs:
        interpreter, script, *arguments = job.command()
        assert interpreter == schedules.run.sys.executable and script.endswith("/main.py")
        resolved = options.training(arguments)
        assert resolved == {**job.options, "resume": True, "GPU": resolved["GPU"]}
        assert job.gpus == 1


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "study.json is not JSON"),
        ("[[", "study.json is not JSON"),
        ("[" * 100_000, "study.json is not JSON"),
        ("\x80", "study.json is not JSON"),
        ("{}", "study.json is not a list of argv lists, but dict"),
        ('"python main.py"', "but str"),
        ("null", "but NoneType"),
        ("[]", "study.json is an empty list"),
    ],
)
def test_what_is_no_schedule(workplace, text, said, capsys):
    (workplace / "study.json").write_bytes(text.encode("latin-1"))
    faults, last = refused(capsys, schedules.run.main, "study.json")
    assert not faults and said in last


def test_a_schedule_that_is_not_there(workplace, capsys):
    assert "nowhere.json cannot be read" in refused(capsys, schedules.run.main, "nowhere.json")[1]
    assert "it is no file" in refused(capsys, schedules.run.main, str(workplace))[1]


def test_all_faults_are_listed_and_nothing_is_begun(workplace, capsys):
    """One line each, with the number of the job."""
    (workplace / "checkpoints").mkdir()
    (workplace / "checkpoints/cifar.pt").touch(), (workplace / "checkpoints/Upper.pt").touch()
    for name, flags in (("cifar", ["cifar10"]), ("there", ["digits", "--lr", "0.3"])):
        (workplace / "runs" / name).mkdir(parents=True)
        config = options.training([*flags, "teacher", "-t", name, *TINY])
        (workplace / f"runs/{name}/config.json").write_text(json.dumps({"config": dict(config)}))
    document = [
        teacher("t"),                                                       # 1
        student("s"),                                                       # 2
        ["python", "train.py", "digits"],                                   # 3: another program
        "python main.py digits",                                            # 4: one string
        ["python", "main.py", 3],                                           # 5: a number
        [],                                                                 # 6
        teacher("a", "--epoch", "3"),                                       # 7: unknown flag
        teacher("t", "--seed", "1"),                                        # 8: the name of 1
        teacher("T"),                                                       # 9: the same but for case
        student("early", "late"),                                           # 10: before its teacher
        teacher("late"),                                                    # 11
        student("orphan", "lat"),                                           # 12: no teacher, but one like it
        student("other", "cifar"),                                          # 13: of another dataset
        teacher("there"),                                                   # 14: exists, with another lr
        teacher("b", "--help"),                                             # 15
        teacher("c", "-rh"),                                                # 16
        teacher("d", "--dry_run"),                                          # 17
        ["python", "main.py", "digits", "student", "-t", "t", *TINY],       # 18: no name
        teacher("e", "--conv", "Shufle_2"),                                 # 19
        teacher("upper"),                                                   # 20: as a checkpoint, but for case
        teacher("f", "--init_from", "f"),                                   # 21: from itself
        teacher("g", "--data_dir", "a\0b"),                                 # 22: no argument of a process
        teacher("h", "--data_dir", "\ud800"),                               # 23
        ["bash", "-c", "rm -r runs; python main.py"],                       # 24
        ["python", "-c", "import os", "main.py"],                           # 25
        teacher("../x"),                                                    # 26
    ]  # fmt: skip
    faults, last = refused(capsys, schedules.run.main, write_schedule(document))
    said = {}
    for where, fault in (line.split(": ", 1) for line in faults):
        said |= dict.fromkeys(re.findall(r"\d+", where), fault)
    assert f"error: study.json: {len(faults)} faults, nothing was written or started" == last
    expected = {
        3: "does not begin with 'python', 'main.py'", 4: "is not a list of strings", 5: "is not a list of strings",
        6: "does not begin", 7: "unknown flag '--epoch'; did you mean '--epochs'?",
        8: "the name 't' is taken, job 1 has the same name", 9: "job 1 is named 't': the case alone differs",
        10: "its teacher 'late' is made only by job 11", 12: "no teacher 'lat'", 13: "trained on cifar10, not digits",
        14: "exists with another configuration (lr was 0.3, is 0.1): give this one another name", 15: "--help trains nothing", 16: "--help trains",
        17: "--dry_run trains nothing", 18: "needs -s", 19: "did you mean Shuffle_g", 20: "existing run 'Upper'",
        21: "start from itself", 22: "a character that no argument can have", 23: "a character that no argument",
        24: "does not begin", 25: "does not begin", 26: "'../x'",
    }  # fmt: skip
    assert {int(number) for number in said} == set(expected)
    for number, words in expected.items():
        assert words in said[str(number)], number
    assert "did you mean 'late'?" in said["12"]


def test_faults_that_only_the_networks_show(workplace, capsys):
    """A conv that a layer cannot take, with all the jobs that have it, and attention maps that do not match."""
    (workplace / "user.py").write_text("from torch.nn import Linear as Conv\n")
    document = [
        teacher("t"),
        teacher("a", "--module", "user.py"),
        student("b", "t", "--module", "user.py"),
        teacher("c", "--where", "nothing"),
        teacher("d", "--conv", "ACDC", "--budget", "5"),
        teacher("narrow", "--AT_split", "1", "--wrn_depth", "16"),
        student("matched", "narrow", "--AT_split", "1"),
        student("e", "t", "--AT_split", "2"),
    ]
    faults, last = refused(capsys, schedules.run.main, write_schedule(document))
    assert "jobs 2, 3: " in faults[0] and "user.py" in faults[0]
    assert faults[1].startswith("job 4: --where 'nothing' matches none")
    assert faults[2].startswith("job 5: a budget of 5 parameters is out of reach")
    assert any(each.startswith("job 8: ") for each in faults[3:]) and f"{len(faults)} faults" in last


def test_jobs_that_allocate(workplace, capsys):
    """What no number a layer can mend is a fault; a budget that no single number meets, or several kinds of them, is none."""

    def allocated(name, conv, budget):
        return teacher(name, "--conv", conv, "--budget", budget, "--allocate", "--init_from", "t")

    document = [
        teacher("t"),
        allocated("a", "zzz=Conv,.*=SepHashed", "1750"),
        allocated("b", "SepHashed", "90"),
        teacher("c", "--conv", "SepHashed", "--budget", "1550"),
        allocated("d", "groups.0=Hashed_0.0001,.*=SepHashed", "1750"),
        allocated("e", "groups.0=ACDC,.*=SepHashed", "1750"),
        allocated("f", "SepHashed", "1550"),
    ]
    faults, _ = refused(capsys, schedules.run.main, write_schedule(document))
    assert [each.partition(":")[0] for each in faults] == ["job 2", "job 3", "job 4", "job 5"]
    assert "'zzz' matches none" in faults[0] and "for SepHashed, a number a layer" in faults[1]
    assert "1,565 to" in faults[2] and "cannot be Hashed_0.0001" in faults[3]


def test_maps_of_a_teacher_that_exists(workplace, capsys):
    """It may have been trained to a budget; main.py reports a damaged record."""
    from counting.budget import resolve

    (workplace / "checkpoints").mkdir()
    for name, flags in (("wide", ["--budget", "9000", "--conv", "SepHashed"]), ("damaged", []), ("mobile", [])):
        config = options.training([*teacher(name)[2:], *flags, "--wrn_width", "1"])
        config = resolve(config)[0] if name == "wide" else {"epochs": 3} if name == "damaged" else config
        (workplace / "runs" / name).mkdir(parents=True), (workplace / f"checkpoints/{name}.pt").touch()
        (workplace / f"runs/{name}/config.json").write_text(json.dumps({"config": dict(config)}))
    write_schedule([student("a", "wide"), student("b", "damaged"), student("c", "mobile")])
    checked("study.json")
    write_schedule([teacher("darts")[:6] + ["--network", "DARTS"], student("a", "darts")])
    faults, _ = refused(capsys, schedules.run.main, "study.json")
    assert len(faults) == 1 and faults[0].startswith("job 2: ") and "attention maps" in faults[0]
    write_schedule([teacher("darts")[:6] + ["--network", "DARTS"], student("a", "darts", "--beta", "0")])
    checked("study.json")


def test_a_budget_may_have_found_what_the_run_records(workplace):
    """Then the command line names the family alone, and the run is the same."""
    from counting.budget import resolve

    command = teacher("t", "--conv", "SepHashed", "--budget", "1900")
    config = resolve(options.training(command[2:]))[0]
    (workplace / "runs/t").mkdir(parents=True)
    (workplace / "runs/t/config.json").write_text(json.dumps({"config": dict(config)}))
    assert [job.name for job in read(write_schedule([command]))] == ["t"]


def test_two_thousand_jobs(workplace):
    """Distinct networks are counted once each, so a hundred seeds cost no more than one."""
    import schedules.check

    document = [teacher("t")] + [
        student(f"s.{seed}", "t", "--conv", "ACDC_3", "--seed", str(seed)) for seed in range(1999)
    ]
    jobs = read(write_schedule(document))
    counted = []
    original = schedules.check.output_of
    try:
        schedules.check.output_of = lambda config: counted.append(config) or original(config)
        without_faults("study.json", jobs)
    finally:
        schedules.check.output_of = original
    assert len(jobs) == 2000 and len(counted) == 2


def begun(workplace, argv, **config):
    """What a run of this command leaves as it begins."""
    said = options.training(argv[2:]) | config
    name = said["student_checkpoint"] or said["teacher_checkpoint"]
    (workplace / "runs" / name).mkdir(parents=True)
    (workplace / f"runs/{name}/config.json").write_text(json.dumps({"config": dict(said)}))


def test_a_run_that_another_budget_found_is_another_run(workplace, capsys):
    begun(workplace, teacher("t", "--conv", "SepHashed", "--budget", "2000"), conv="SepHashed_0.2")
    faults, _ = refused(
        capsys, schedules.run.main, write_schedule([teacher("t", "--conv", "ACDC", "--budget", "2500")])
    )
    assert len(faults) == 1 and "another configuration (conv was SepHashed_0.2, is ACDC_" in faults[0]


def test_a_module_that_has_changed(workplace, capsys):
    (workplace / "user.py").write_text("from torch.nn import Conv2d as Conv\n")
    begun(workplace, teacher("t", "--module", "user.py"), module_digest=files.file_digest("user.py"))
    assert checked(write_schedule([teacher("t", "--module", "user.py")]))
    (workplace / "user.py").write_text("from torch.nn import Conv2d as Conv  # otherwise\n")
    faults, _ = refused(capsys, schedules.run.main, write_schedule([teacher("t", "--module", "user.py")]))
    assert "the digest of --module's file was" in faults[0]


def test_a_teacher_that_was_trained_again(request, workplace, capsys):
    """Its students belong to the old one, finished or not."""
    shutil.copytree(request.getfixturevalue("teacher"), workplace, dirs_exist_ok=True)
    own = ["python", "main.py", "digits", "teacher", "-t", "t", *small_runs.TINY]
    digest = checkpoint.digest(checkpoint.load_run("t", "run")["model"])
    begun(workplace, student("s"), teacher_digest=digest), begun(workplace, student("u"), teacher_digest="0" * 16)
    assert checked(write_schedule([own, student("s")]))
    faults, _ = refused(capsys, schedules.run.main, write_schedule([own, student("s"), student("u")]))
    assert faults == ["job 3: the run 'u' exists, but 't', which it came from, has other weights now"]


def test_an_origin_of_another_shape(workplace, capsys):
    document = [teacher("t"), teacher("a", "--init_from", "t"), teacher("b", "--init_from", "t", "--wrn_depth", "16")]
    faults, _ = refused(capsys, schedules.run.main, write_schedule(document))
    assert faults == ["job 3: --init_from t: wrn_depth is 16 here, 10 there"]


def test_a_finished_teacher_whose_checkpoint_is_gone(workplace, capsys):
    begun(workplace, teacher("t"))
    (workplace / "runs/t/metrics.jsonl").write_text('{"epoch": 0}\n')
    faults, _ = refused(capsys, schedules.run.main, write_schedule([teacher("t"), student("s")]))
    assert faults == ["job 2: its teacher 't' is finished, but checkpoints/t.pt is missing"]
