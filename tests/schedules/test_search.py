"""Hyperband: its brackets, its draws, mistakes in a space, which runs go on (those that a test has written), and a whole search."""

import csv
import io
import json
import os
import re
import shutil
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from results import refused, snapshot
from small_runs import ROOT, TINY

import main
from record import outcome
from record.lock import only_process
from record.reader import read as read_record
from schedules import estimate, hyperband
from schedules.estimate import Measured
from schedules.figures.output import rendered
from schedules.job_queue import ELSEWHERE, FINISHED, WAITING, Place
from schedules.list import describe
from schedules.rows import row as row_of
from schedules.search import report
from schedules.search.brackets import Round, brackets, epochs_of
from schedules.search.draws import Choice, Range, bits
from schedules.search.rounds import Rounds, planned, winner
from schedules.search.space import read
from schedules.search.tested import TestPlace, known
from schedules.view import result
from system.errors import Busy, MachineFault

BASE = "digits teacher --wrn_depth 10 --wrn_width 0.25 --train_size 64 --val_size 60"
SPACE = f"""base: {BASE}
R: 9
eta: 3
name: s
space:
  lr: {{log_uniform: [1e-3, 1]}}
  nesterov: {{choice: [true, false]}}
"""


def test_brackets():
    with (ROOT / "tests/hyperband.csv").open() as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    sizes = dict.fromkeys((int(R), int(eta)) for R, eta, *_ in rows)
    ours = [
        (R, eta, s, number, *each[:2], "" if each.kept is None else each.kept)
        for R, eta in sizes
        for s, rounds in brackets(R, eta).items()
        for number, each in enumerate(rounds)
    ]
    assert [tuple(map(str, row)) for row in ours] == rows
    assert brackets(1, 2) == {0: [Round(1, 1, None)]} and brackets(2, 3) == {0: [Round(1, 2, None)]}
    assert [each.epochs for each in brackets(10, 4)[1]] == [3, 10]  # 2.5: a half upwards
    for R, eta in ((125, 5), (243, 3), (64, 4), (1024, 2), (1000, 10), (999, 10), (5, 2)):  # powers, and beside them
        tables = brackets(R, eta)
        assert eta ** max(tables) <= R < eta ** (max(tables) + 1) and [*tables] == [*range(max(tables), -1, -1)]
        for s, rounds in tables.items():
            assert len(rounds) == s + 1 and rounds[-1].epochs == R and rounds[-1].kept is None
            assert all(a.kept == b.runs and 1 <= a.epochs < b.epochs for a, b in zip(rounds, rounds[1:]))
    assert brackets(243, 3)[5] == [Round(3 ** (5 - i), 3**i, 3 ** (4 - i) if i < 5 else None) for i in range(6)]
    assert epochs_of(brackets(9, 3)[2]) == 9 + 3 * 2 + 6


def test_draws():
    """Golden values: the same on every machine."""
    lr, size = Range("log_uniform", "1e-3", "1"), Range("integer", "2", "4")
    assert [lr.draw(bits(0, 3, index, "lr")) for index in range(3)] == ["0.0655169", "0.00656439", "0.728048"]
    assert lr.draw(bits(1, 3, 0, "lr")) != "0.0655169" != lr.draw(bits(0, 2, 0, "lr"))
    assert (lr.draw(0), lr.draw(1 << 63), lr.draw((1 << 64) - 1)) == ("0.001", "0.0316228", "1")
    narrow = Range("uniform", "0.12345678", "0.12345679")  # six digits lie outside: an end is drawn
    assert {narrow.draw(each << 62) for each in range(4)} <= {"0.12345678", "0.12345679"}
    drawn = Counter(size.draw(bits(0, 1, index, "d")) for index in range(3000))
    assert set(drawn) == {"2", "3", "4"} and min(drawn.values()) > 900
    drawn = Counter(Choice(("a", None)).draw(bits(0, 1, index, "d")) for index in range(1000))
    assert set(drawn) == {"a", None} and min(drawn.values()) > 430
    values = [Decimal(Range("uniform", "-1", "3").draw(bits(0, 0, index, "x"))) for index in range(1000)]
    assert -1 <= min(values) < -0.9 and 2.9 < max(values) <= 3


def test_words(workplace):
    """Every kind of value as the flag takes it; another flag changes no draw."""
    Path("s.yaml").write_text(
        SPACE
        + "  epoch_step: {choice: [[3, 6], [5]]}\n  nocrswd: {choice: [true, false]}\n  clip_grad: {choice: [null, 1]}\n"
    )
    space = read("s.yaml")
    runs = [space.words(2, index) for index in range(9)]
    words = {word for each in runs for word in each}
    assert {"--nesterov", "--no_nesterov", "--nocrswd", "[3, 6]", "[5]", "--clip_grad"} <= words
    assert not {"--no_nocrswd", "true", "None"} & words and not all("--clip_grad" in each for each in runs)
    Path("s.yaml").write_text(SPACE)
    assert [read("s.yaml").words(2, index) for index in range(9)] == [each[:3] for each in runs]
    assert (space.name_of(2, 7), space.chosen) == ("s.b2.007", (2, 1, 0))


MISTAKES = {  # what is written instead of a part of SPACE: where it is found, and what is said
    "unknown key": ("eta: 3", "eta: 3\nsed: 1", 4, "unknown key 'sed'; did you mean 'seed'?"),
    "key twice": ("eta: 3", "eta: 3\nR: 3", 4, "'R' is given twice, before at s.yaml:2"),
    "R below 1": ("R: 9", "R: 0", 2, "R: '0' is not a whole number of at least 1"),
    "R no whole number": ("R: 9", "R: 2.5", 2, "R: '2.5' is not a whole number"),
    "eta below 2": ("eta: 3", "eta: 1", 3, "eta: '1' is not a whole number of at least 2"),
    "too many runs": ("R: 9\neta: 3", "R: 1000000\neta: 2", 2, "runs, at most 10,000"),
    "seed": ("eta: 3", "eta: 3\nseed: x", 4, "seed: 'x' is not a whole number"),
    "name": ("name: s", "name: a/b", 4, "name: 'a/b' has to be letters"),
    "no such bracket": ("eta: 3", "eta: 3\nbrackets: [0, 3]", 4, "there is no bracket 3: R 9 and eta 3 have 0 to 2"),
    "no bracket": ("eta: 3", "eta: 3\nbrackets: []", 4, "brackets: the list is empty"),
    "brackets no list": ("eta: 3", "eta: 3\nbrackets: 0", 4, "brackets: give a list"),
    "base unknown flag": ("--wrn_width", "--wrn_with", 1, "base: unknown flag '--wrn_with'; did you mean '--wrn_width'"),
    "base without images held out": (" --val_size 60", "", 1, "give --val_size N"),
    "base with epochs": ("--train_size 64", "--epochs 3", 1, "base: take epochs out (--epochs): R says it"),
    "base with until": ("--train_size 64", "until=3", 1, "base: take until out (until=3): the rounds"),
    "base with a name": ("--train_size 64", "-t x", 1, "-t would name one run"),
    "base tests": ("--train_size 64", "--test_every 2", 1, "the winner alone"),
    "base asks for help": ("--train_size 64", "--help", 1, "take --help out"),
    "base is open": ("base: digits", "base: 'digits \"'\n#", 1, "base: No closing quotation"),
    "base is a mapping": (f"base: {BASE}", "base: {a: 1}", 1, "base: give a command of main.py"),
    "student without teacher": ("digits teacher", "digits student", 1, "needs -t, the name of a finished teacher"),
    "student of nobody": ("digits teacher", "digits student -t x", 1, "no teacher 'x'"),
    "flag in base too": ("--train_size 64", "--lr 0.1", 6, "lr is given by base too (--lr)"),
    "no flag": ("  lr:", "  learning_rate:", 6, "unknown flag 'learning_rate'"),
    "near flag": ("  lr:", "  nesterof:", 6, "did you mean 'nesterov'?"),
    "dataset": ("  lr:", "  dataset:", 6, "dataset cannot be varied"),
    "epochs": ("  lr:", "  epochs:", 6, "epochs cannot be varied: R says it"),
    "val_size": ("  lr:", "  val_size:", 6, "val_size cannot be varied"),
    "workers": ("  lr:", "  workers:", 6, "workers cannot be varied: it changes nothing"),
    "unknown way": ("log_uniform", "log_unifrom", 6, "did you mean 'log_uniform'?"),
    "no way": ("{log_uniform: [1e-3, 1]}", "0.1", 6, "lr: give one of log_uniform, uniform, integer, choice"),
    "two ways": ("1]}", "1], choice: [1]}", 6, "lr: give one of"),
    "one end": ("[1e-3, 1]", "[1]", 6, "has 1 values: give its two ends"),
    "no list": ("[1e-3, 1]", "1", 6, "give its ends, as [1, 10]"),
    "ends the wrong way round": ("[1e-3, 1]", "[1, 1e-3]", 6, "1 is not below 1e-3"),
    "logarithm of 0": ("[1e-3, 1]", "[0, 1]", 6, "0 has no logarithm"),
    "no number": ("[1e-3, 1]", "[a, 1]", 6, "'a' is none of numbers"),
    "infinite": ("[1e-3, 1]", "[1, .inf]", 6, "'.inf' is none of numbers"),
    "beyond the flag": ("lr: {log_uniform: [1e-3, 1]}", "momentum: {uniform: [0, 2]}", 6, "'2' is not a number of at least 0 and at most 1"),
    "fractions": ("lr: {log_uniform: [1e-3, 1]}", "batch_size: {log_uniform: [8, 64]}", 6, "`integer: [8, 64]` draws whole numbers"),
    "no whole number": ("lr: {log_uniform: [1e-3, 1]}", "batch_size: {integer: [8, 64.5]}", 6, "'64.5' is none of whole numbers"),
    "huge": ("lr: {log_uniform: [1e-3, 1]}", "batch_size: {integer: [8, 1e300]}", 6, "is not a whole number"),
    "switch by range": ("choice: [true, false]", "integer: [0, 1]", 7, "--nesterov takes no number: give `choice: [true, false]`"),
    "switch by word": ("[true, false]", "[true, perhaps]", 7, "'perhaps' is neither true nor false"),
    "empty choice": ("[true, false]", "[]", 7, "choice is empty"),
    "fractions about a whole middle": ("lr: {log_uniform: [1e-3, 1]}", "batch_size: {log_uniform: [1, 100]}", 6, "`integer: [1, 100]` draws whole numbers"),
    "equal in a choice": ("{log_uniform: [1e-3, 1]}", "{choice: [0.1, 1e-1]}", 6, "choice has '0.1' and '1e-1', which are the same"),
    "twice in a choice": ("[true, false]", "[true, True]", 7, "choice has 'true' twice"),
    "list for one value": ("lr: {log_uniform: [1e-3, 1]}", "lr: {choice: [[1, 2]]}", 6, "--lr takes one value, no list"),
    "wrong conv": ("lr: {log_uniform: [1e-3, 1]}", "conv: {choice: [SepHashed_0.5, SepHash_0.1]}", 6, "SepHash"),
    "flag of another network": ("lr: {log_uniform: [1e-3, 1]}", "width_mult: {choice: [0.5]}", 6, "--width_mult is not a flag of"),
    "refused combination": ("[true, false]", "[true]}\n  optimizer: {choice: [adam]", 7, "bracket 2, run 0 (lr "),
    "parameters that the network lacks": ("[true, false]", "[true]}\n  train_where: {choice: [nowhere]", 8, "bracket 2, run 0"),
    "tag": ("[true, false]", "!!python/name:os.system x", 7, "choice: give a list"),
    "no YAML": ("R: 9", "R: [", 4, "is not YAML"),
    "alias within itself": ("[true, false]", "&a [*a]", 7, "--nesterov takes one value, no list"),
    "no space": (SPACE[SPACE.index("space:"):], "", None, "`space:` is missing"),
    "empty space": (SPACE[SPACE.index("space:"):], "space: {}", 5, "it is empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_its_place(workplace, capsys, name):
    old, new, line, words = MISTAKES[name]
    assert old in SPACE
    places = 1 + words.count("s.yaml:")  # its own place is said once
    Path("s.yaml").write_text(SPACE.replace(old, new))
    faults, last = refused(capsys, hyperband.main, "s.yaml")
    assert not faults and words in last
    place = f"s.yaml:{line}" if line else "s.yaml"
    assert re.match(rf"error: {place}(: | is not YAML)", last) and last.count("s.yaml:") == places, last


def test_mistakes_of_the_command(workplace, capsys):
    Path("s.yaml").write_text(SPACE)
    Path("mine.csv").write_text("mine")
    Path("his.png").write_text("his")
    Path("folder.svg").mkdir()
    for flags, words in (
        (["no.yaml"], "there is no configuration file 'no.yaml'; did you mean 's.yaml'?"),
        (["s.yaml", "--brackets", "5"], "--brackets: there is no bracket 5"),
        (["s.yaml", "--brackets", "x"], "'x' is not the number of a bracket"),
        (["s.yaml", "-o", "mine"], "mine.csv exists and is no table of brackets"),
        (["s.yaml", "-o", "his"], "his.png exists, but there is no table of brackets his.csv beside it"),
        (["s.yaml", "-o", "folder"], "folder.svg exists, but it is no file"),
        (["s.yaml", "-o", "none/mine"], "there is no folder 'none'"),
        (["s.yaml", "--partition", "gpu"], "--partition goes with --launcher slurm"),
    ):
        faults, last = refused(capsys, hyperband.main, *flags)
        assert not faults and words in last


def test_a_search_to_its_end(workplace, capsys):
    """Processes of main.py and of the test, the files, a repeat that starts nothing, a second process meanwhile."""
    Path("s.yaml").write_text(SPACE.replace("R: 9", "R: 2").replace("eta: 3", "eta: 2"))
    assert hyperband.main(["s.yaml", "--brackets", "1"]) == 0
    shown = capsys.readouterr().out
    with Path("s.brackets-1.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["round"], row["epochs"]) for row in rows] == [("0", "1"), ("0", "1"), ("1", "2")]
    winner = rows[-1]["name"]
    assert f"winner: {winner}" in shown and float(rows[-1]["test_top1_error"]) == known(winner)
    assert f"{known(winner):.2f} % test error" in shown and shown.count("its test begins") == 1
    names = sorted(path.name for path in workplace.iterdir())
    assert names == ["checkpoints", "runs", *(f"s.brackets-1.{end}" for end in ("csv", "png", "svg")), "s.yaml"]
    assert main.main(["digits", "teacher", "-t", winner, "--evaluate"]) == 0
    assert f"Error@1 {known(winner):.2f}" in capsys.readouterr().out
    table, runs = Path("s.brackets-1.csv").read_bytes(), snapshot(Path("runs"))
    assert hyperband.main(["s.yaml", "--brackets", "1"]) == 0
    assert Path("s.brackets-1.csv").read_bytes() == table and snapshot(Path("runs")) == runs
    lock = Path("runs/.s.search.lock")
    with only_process(lock, "it runs"):
        with pytest.raises(Busy, match=f"the search 's' is being run at this moment, by process {os.getpid()} on"):
            hyperband.main(["s.yaml"])
        assert lock.exists()
    assert not lock.exists()


def test_what_a_search_takes(workplace, capsys, monkeypatch):
    """The epochs and the starts of each bracket at the measured times: 69 epochs, 13 + 6 + 3 starts."""
    Path("s.yaml").write_text(SPACE)
    said = {
        "epoch_seconds": 60.0, "start_seconds": 10.0, "train_seconds": 1.0, "params": 5, "peak_bytes": 1e9, "disk_bytes": 1e9,
        "memory_bytes": 1e12, "free_disk_bytes": 1e10, "device": "cpu",
    }  # fmt: skip
    monkeypatch.setattr(estimate, "measure", lambda jobs, _: [Measured([Place(job) for job in jobs], said, "")])
    assert hyperband.main(["s.yaml", "--dry_run", "--price", "2", "--slots", "2"]) == 0
    shown, hours = capsys.readouterr().out, (69 * 60 + 22 * 10) / 3600
    assert "17 runs and 69 epochs, as 7.67 runs of 9 epochs" in shown and not Path("runs").exists()
    assert f"{hours:.3g} slot-hours are left, {2 * hours:.2f} at 2 an hour" in shown and "on 2 slots" in shown
    assert "17 GB of checkpoints, but 10 GB are free" in shown


class Fakes:
    """Runs as main.py would leave them, with errors that a function says."""

    def __init__(self, errors):
        self.errors, self.trained, self.tested = errors, [], []

    def work(self, queue):
        """Do what the launcher does, until all is over."""
        while not queue.is_over():
            places = list(queue.ready(room=2))
            assert places
            for place in places:
                queue.ended(place.job.name, self.train(place))
        return queue.results

    def train(self, place):
        name, until, folder = place.job.name, place.job.epochs, place.folder
        if isinstance(place, TestPlace):
            self.tested.append(name)
            if self.errors is None:
                (folder / "log").write_text("error: it has no checkpoint\n")
                return 2
            (folder / "test.json").write_text(json.dumps({"checkpoint_digest": "", "test_top1_error": 4.25}))
            return 0
        done = record.epochs_done if (record := place.record()) else 0
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"config": dict(place.job.options)}))
        self.trained.append((name, done, until))
        with (folder / "metrics.jsonl").open("a") as file:
            for epoch in range(done, until):
                error = self.errors(name, epoch + 1)
                if isinstance(error, int):  # an exit status
                    outcome.note(folder, error, f"it ended with {error}", epoch)
                    return error
                file.write(json.dumps({"epoch": epoch, "val_top1_error": error}) + "\n")
        if until < place.job.options.epochs:
            outcome.note(folder, 0, "ended by --until", until)
        return 0


def table(results):
    """The rounds, each with its members and those that go on."""
    rounds = {}
    for each in results:
        members, kept = rounds.setdefault((each.bracket, each.round, each.epochs), ([], []))
        members.append(each.index)
        kept += [each.index] if each.kept else []
    return rounds


def of_index(name, epoch):
    """The higher the index, the better; in the last epoch the other way round."""
    index = int(name[-3:])
    return 50.0 + index if epoch == 9 else 50.0 - index


@pytest.fixture
def search(workplace):
    Path("s.yaml").write_text(SPACE)
    return planned(read("s.yaml"))


def test_the_best_of_each_round_go_on(search):
    fakes = Fakes(of_index)
    results = fakes.work(Rounds(search, 0))
    assert table(results) == {
        (2, 0, 1): ([*range(9)], [6, 7, 8]), (2, 1, 3): ([6, 7, 8], [8]), (2, 2, 9): ([8], []),
        (1, 0, 3): ([*range(5)], [4]), (1, 1, 9): ([4], []), (0, 0, 9): ([0, 1, 2], []),
    }  # fmt: skip
    assert winner(results, 9).name == "s.b0.000" and winner(results, 9).error == 50.0
    assert sorted(fakes.trained)[-1] == ("s.b2.008", 3, 9) and ("s.b2.008", 1, 3) in fakes.trained
    assert fakes.tested == ["s.b0.000"]  # the winner alone, once
    again = Rounds(search, 0)  # the records alone say the same
    assert again.is_over() and sorted(again.results, key=str) == sorted(results, key=str)


def test_ties_failures_and_divergence(search):
    """Equal errors go by the index; what fails, diverges or has no number as its error counts as worst."""

    def errors(name, epoch):
        of = {
            "s.b2.000": 3,
            "s.b2.001": 4,
            "s.b2.002": float("nan"),
            "s.b2.005": 10.0,
            "s.b1.002": 3 if epoch > 3 else 1.5,
        }
        if name.startswith("s.b0"):
            return 4
        return of.get(name, 20.0)

    queue = Rounds(search, 0)
    results = Fakes(errors).work(queue)
    rounds = table(results)
    assert rounds[2, 0, 1][1] == [3, 4, 5] and rounds[2, 1, 3] == ([3, 4, 5], [5])
    assert rounds[1, 0, 3][1] == [2] and rounds[1, 1, 9] == ([2], [])
    statuses = {(each.name, each.round): each.status for each in results}
    assert (statuses["s.b2.000", 0], statuses["s.b2.001", 0], statuses["s.b1.002", 1]) == (
        "diverged",
        "failed",
        "diverged",
    )
    assert all(each.error is None for each in results if each.bracket == 0)
    assert winner(results, 9).name == "s.b2.005"
    shown = report.brackets_table(results, search.space)
    assert "s.b2.005" in shown and len(shown.splitlines()) == 2 + 6


def test_fewer_than_planned_and_none(search):
    """Where less succeed than may go on, those do; where none does, the bracket ends, and the others go on."""

    def errors(name, epoch):
        return 30.0 if name in ("s.b2.004", "s.b0.001") else 3

    results = Fakes(errors).work(Rounds(search, 0))
    assert table(results)[2, 0, 1][1] == [4] and table(results)[2, 1, 3][0] == [4] and (1, 1, 9) not in table(results)
    assert winner(results, 9).name == "s.b2.004"  # s.b0.001 has 30 %, too, but is of a smaller bracket


def test_a_process_of_the_round_before_is_no_failure(search):
    """A launcher that was killed had started it, and its successor was handed its end: fewer epochs, exit status 0."""
    queue = Rounds(search, 0)
    fakes, place = Fakes(of_index), next(queue.ready(room=1))
    fakes.train(place)
    later = Rounds(search, 0)
    assert later.places["s.b2.000"].state == FINISHED
    first = later.places["s.b1.000"]
    Path("runs/s.b1.000").mkdir()
    assert later.ended("s.b1.000", 0).state == WAITING and first.not_before == 0


def test_what_another_process_has_trained_is_the_same(search):
    whole = Fakes(of_index).work(Rounds(search, 0))
    shutil.rmtree("runs")
    fakes, queue = Fakes(of_index), Rounds(search, 0)
    other = queue.places["s.b0.000"]
    other.state, other.reason = ELSEWHERE, "trained by process 1"
    fakes.train(other)
    assert sorted(fakes.work(queue), key=str) == sorted(whole, key=str)


def test_what_is_written(search, capsys):
    results = Fakes(of_index).work(Rounds(search, 0))
    best = winner(results, 9)
    rows = list(csv.DictReader(io.StringIO(report.as_csv(results, search, best, 4.25))))
    assert len(rows) == len(results) == 22
    assert [row["name"] for row in rows if row["test_top1_error"]] == [best.name]
    (last,) = [row for row in rows if row["name"] == "s.b2.008" and row["round"] == "1"]
    flags = search.space.flags(2, 8)
    assert last == {
        "bracket": "2", "round": "1", "index": "8", "name": "s.b2.008", "epochs": "3", **flags, "val_top1_error": "42.0",
        "kept": "true", "status": "finished", "test_top1_error": "", "reason": "",
    }  # fmt: skip
    lines = report.winner_lines(best, search, 4.25)
    assert "4.25 % test error" in lines and "-t s.winner" in lines and "--test_every" not in lines
    assert "17 runs and 69 epochs, as 7.67 runs of 9 epochs, 69 of them are done" in report.plan(search)
    from schedules.figures.brackets import brackets_figure

    svg = rendered(brackets_figure(search, results, best), "svg").decode()
    assert svg.count('id="run-s.') == 17 and svg.count('id="winner"') == 1 and "bracket 2: 9 runs" in svg
    assert "; 9 epochs at the most, 1 seed a run; 64 training images, 60 held out" in svg
    assert "run-s." not in rendered(brackets_figure(search, [], None), "svg").decode()


def test_no_table_without_the_test_of_the_winner(search, capsys):
    fakes = Fakes(of_index)
    fakes.work(Rounds(search, 0))
    (best,) = fakes.tested
    Path("checkpoints").mkdir()
    Path(f"checkpoints/{best}.pt").write_text("another one than was tested")
    queue = Rounds(search, 3)
    fakes.errors = None
    fakes.work(queue)
    assert fakes.tested == [best, best] and queue.best.name == best and not Path(f"runs/{best}/end.json").exists()
    with pytest.raises(MachineFault, match=f"{best} could not be tested, so no table is written: it has no checkpoint"):
        hyperband._report(search, queue, Path("s.csv"))
    assert not Path("s.csv").exists() and "test error" not in capsys.readouterr().out


def test_another_space_of_the_same_name_is_refused(search, capsys):
    Fakes(of_index).work(Rounds(search, 0))
    assert planned(read("s.yaml"))
    for old, new in (
        ("eta: 3", "eta: 3\nseed: 1"),
        ("1e-3", "1e-4"),
        ("R: 9", "R: 10"),
        ("--train_size 64", "--train_size 65"),
    ):
        Path("s.yaml").write_text(SPACE.replace(old, new))
        faults, last = refused(capsys, hyperband.main, "s.yaml")
        assert not faults and "exists with another configuration" in last and "`name:` of a space" in last


def test_a_teacher_has_to_be_finished(teacher, tmp_path, monkeypatch, capsys):
    shutil.copytree(teacher, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    Path("s.yaml").write_text(SPACE.replace("digits teacher", "digits student -t t"))
    search = planned(read("s.yaml"))
    assert search.jobs[2][0].name == "s.b2.000" and search.jobs[2][0].needs == {"t": "teacher"}
    lines = Path("runs/t/metrics.jsonl").read_text().splitlines(keepends=True)
    Path("runs/t/metrics.jsonl").write_text("".join(lines[:1]))
    assert "its teacher 't' has 1 of 2 epochs" in refused(capsys, hyperband.main, "s.yaml")[1]


def test_no_test_image_is_looked_at_with_test_every_0(workplace, capsys):
    flags = [*TINY[:-1], "1", "--test_every", "0"]
    assert "give --val_size too" in refused(capsys, main.main, "digits", "teacher", "-t", "a", *flags)[1]
    assert main.main(["digits", "teacher", "-t", "a", *flags, "--val_size", "50"]) == 0
    assert "of the images held out, none was tested" in capsys.readouterr().out
    record = read_record(Path("runs/a"))
    (row,) = record.rows
    assert row_of(record)["val_top1_error"] == row["val_top1_error"] and row_of(record)["test_top1_error"] is None
    assert describe("a", record, None)[0][3] == f"{row['val_top1_error']:.2f} held out"
    assert result(record).startswith(f"finished: error {row['val_top1_error']:.2f} % of images held out")
    assert "val_top1_error" in row and not [key for key in row if key.startswith(("test", "best_test"))]
    assert main.main(["digits", "teacher", "-t", "b", *TINY[:-1], "1", "--val_size", "50"]) == 0
    other = read_record(Path("runs/b")).last
    assert all(other[key] == row[key] for key in row if key not in ("seconds", "images_per_second"))
