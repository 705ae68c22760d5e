"""Layers of configuration: files, key=value and flags, their strength, the origin of each value, and every mistake in one line."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from config_layers import BASE, origins, resolved, write
from results import refused
from small_runs import ROOT

import main
from cli import options
from cli.config_files import LARGEST_FILE, MOST_NODES
from schedules import generate
from schedules.studies import STUDIES

RUN = "--config base.yaml"

# files, the command line, and what is resolved
TAKEN = {
    "preset": ({}, RUN, {"lr": 0.1, "epochs": 30}),
    "a file over a preset": ({"mine": "lr: 0.2"}, f"{RUN} mine.yaml", {"lr": 0.2, "mode": "teacher"}),
    "files from left to right": ({"a": "lr: 1", "b": "lr: 2"}, f"{RUN} a.yaml b.yaml", {"lr": 2.0}),
    "and again": ({"a": "lr: 1", "b": "lr: 2"}, f"{RUN} b.yaml --config a.yaml", {"lr": 1.0}),
    "key=value over files": ({"a": "lr: 1"}, f"lr=3 {RUN} a.yaml", {"lr": 3.0}),
    "flags over key=value": ({"a": "lr: 1"}, f"--lr 4 {RUN} a.yaml lr=3 -t other", {"lr": 4.0, "teacher_checkpoint": "other"}),
    "key=value behind flags": ({}, f"{RUN} -t other lr=0.2", {"lr": 0.2, "teacher_checkpoint": "other"}),
    "key=value without a file": ({}, "digits teacher -t x lr=0.2 lr=0.3", {"lr": 0.3}),
    "positional over files": ({"a": "mode: student\ndataset: cifar10"}, f"digits teacher {RUN} a.yaml", {"dataset": "digits"}),
    "positional behind files": ({"a": "dataset: cifar10"}, f"{RUN} a.yaml digits teacher", {"dataset": "digits"}),
    "the mode alone": ({}, f"student {RUN} -t t -s s", {"mode": "student", "dataset": "digits"}),
    "--config=": ({"a": "lr: 1"}, "--config=base.yaml a.yaml", {"lr": 1.0}),
    "nested": ({"a": "prune: TopK_0.1\nprune.at: 20\nwrn: {width: 2, depth: 16}"}, f"{RUN} a.yaml",
               {"prune": "TopK_0.1", "prune_at": 20, "wrn_depth": 16}),
    "nested with a value of its own": ({"a": "lr:\n  _: 0.3\n  decay: {ratio: 0.5}\nschedule: step"}, f"{RUN} a.yaml",
                                      {"lr": 0.3, "lr_decay_ratio": 0.5}),
    "a dot in key=value": ({}, f"{RUN} prune=TopK_0.1 prune.at=7", {"prune_at": 7}),
    "the text of a number": ({"a": "lr: 1e-3\nweight_decay: 5.e-4\nbudget: 5e5\nconv: SepHashed"}, f"{RUN} a.yaml",
                             {"lr": 1e-3, "weight_decay": 5e-4, "budget": 500_000}),
    "a date is a text": ({"a": "teacher_checkpoint: 2026-11-26"}, f"{RUN} a.yaml", {"teacher_checkpoint": "2026-11-26"}),
    "lists": ({"a": "epoch_step: [60, 120]\nGPU: [0, 1]\nschedule: step\nconv: [groups.0=Conv, .*=SepHashed_.10]"},
              f"{RUN} a.yaml conv=SepHashed_0.10", {"epoch_step": [60, 120], "GPU": [0, 1], "conv": "SepHashed_0.1"}),
    "a list as text": ({"a": "epoch_step: '[60,120]'\nschedule: step\nGPU: 1"}, f"{RUN} a.yaml epoch_step=[5,6]",
                       {"epoch_step": [5, 6], "GPU": [1]}),
    "a list for a mixed conv": ({"a": "conv: [groups.0=Conv, .*=SepHashed_0.1]"}, f"{RUN} a.yaml",
                                {"conv": "groups.0=Conv,.*=SepHashed_0.1"}),
    "points": ({"a": "lr_points: [[0, 0], [1.5, 4e-1], [30, 1e-3]]\nschedule: linear"}, f"{RUN} a.yaml",
               {"lr_points": [[0, 0], [1.5, 0.4], [30, 1e-3]]}),
    "switches": ({"a": "nocrswd: true\nnesterov: no\nnetwork: ResNet9\ncompile: false"}, f"{RUN} a.yaml compile=TRUE",
                 {"nocrswd": True, "nesterov": None, "compile": True}),
    "a switch back": ({"a": "nesterov: false\nnetwork: ResNet9"}, f"{RUN} a.yaml --nesterov", {"nesterov": True}),
    "null": ({"a": "lr: 1\nepochs: 5", "b": "lr: null\nepochs: ~"}, f"{RUN} a.yaml b.yaml", {"lr": 0.1, "epochs": 30}),
    "null in key=value": ({"a": "nocrswd: true\nprune: TopK_0.1"}, f"{RUN} a.yaml nocrswd=null prune=null",
                          {"nocrswd": False, "prune": None}),
    "import": ({"conf__a": "import: b.yaml\nlr: 1", "conf__b": "import: [../c.yaml]\nlr: 2\nepochs: 7", "c": "epochs: 9\nseed: 3"},
               f"{RUN} conf/a.yaml", {"lr": 1.0, "epochs": 7, "seed": 3}),
    "imported twice": ({"a": "import: [b.yaml, c.yaml]", "b": "import: d.yaml", "c": "import: d.yaml\nlr: 2", "d": "lr: 3"},
                       f"{RUN} a.yaml", {"lr": 2.0}),
    "keys of the user": ({"a": "_note: {lr: [{x: 7}]}\nlr: &l 0.3\n_l: *l\nprune: {_: TopK_0.1, _why: x}"},
                         f"{RUN} a.yaml", {"lr": 0.3, "prune": "TopK_0.1"}),
    "anchors": ({"a": "_fast: &f {lr: 0.3, epochs: 4}\n_mild: &m {lr: 0.1, seed: 2}\n<<: [*f, *m]\nepochs: 5"}, f"{RUN} a.yaml",
                {"lr": 0.3, "epochs": 5, "seed": 2}),
    "null for a group": ({"a": "wrn: {width: 2, depth: 16}\nprune: {_: TopK_0.1, at: 3}\ngate: FBS_0.5\ngate.warmup: 1",
                          "b": "import: a.yaml\nwrn:\nprune: {_: null, at: null}\ngate: null\ngate.warmup: null"}, f"{RUN} b.yaml",
                         {"wrn_width": 2.0, "wrn_depth": 40, "prune": None, "prune_at": None, "gate_warmup": None}),
    "null for a group in key=value": ({"a": "wrn.depth: 16\nprune: {_: TopK_0.1, at: 3}"}, f"{RUN} a.yaml wrn=null prune=null prune.at=null",
                                      {"wrn_depth": 40, "prune": None, "prune_at": None}),
    "null for a key alone": ({"a": "lr: {_: 0.3, decay_ratio: 0.5}\nschedule: step\nepoch_step: [3]"}, f"{RUN} a.yaml lr=null",
                             {"lr": 0.1, "lr_decay_ratio": 0.5}),
    "a group over its null": ({"a": "prune: {_: TopK_0.1, at: 3}\nl1: 1", "b": "prune: null\nprune.at: null\nprune.where: x"}, f"{RUN} a.yaml b.yaml",
                              {"prune": None, "prune_at": None, "prune_where": "x"}),
    "brackets in key=value": ({}, f"{RUN} 'GPU=[0, 1]' 'prune={{_: TopK_0.1, at: 3}}' 'conv=[groups.0=Conv, .*=ACDC]' 'where=[gl]'",
                              {"GPU": [0, 1], "prune": "TopK_0.1", "prune_at": 3, "conv": "groups.0=Conv,.*=ACDC", "where": "[gl]"}),
    "a regex in brackets": ({}, f"{RUN} 'conv=[gh]r.*=Conv,.*=ACDC'", {"conv": "[gh]r.*=Conv,.*=ACDC"}),
    "keys of count.py": ({"a": "compare: [ACDC, Conv]\ntable: true\nlr: 1"}, f"{RUN} a.yaml", {"lr": 1.0}),
    "an empty file": ({"a": "# nothing\n", "b": ""}, f"{RUN} a.yaml b.yaml", {"epochs": 30}),
    "a value that looks like a key": ({}, f"{RUN} --where a=b.yaml --conv 'groups.0=Conv,.*=SepHashed_0.1'", {"where": "a=b.yaml"}),
}  # fmt: skip


@pytest.mark.parametrize("case", TAKEN)
def test_what_the_layers_give(case, workplace):
    files, words, expected = TAKEN[case]
    write(**files)
    request = resolved(words)
    assert {key: request[key] for key in expected} == expected
    document = yaml.safe_load(request.document())
    Path("own.yaml").write_text(request.document())
    again = options.training(["--config", "own.yaml"])
    assert again == request and yaml.safe_load(again.document()) == document
    shown = {**document, **document["_resolved"]}
    del shown["_resolved"]
    assert shown.items() <= {**request}.items() and {"lr", "conv", "dataset", "seed"} <= shown.keys()
    assert {key for key, value in document["_resolved"].items() if value is None} <= document.keys()


def test_where_each_value_is_from(workplace):
    write(a="# mine\nimport: b.yaml\nepochs: 9\n", b="\nprune:\n  _: TopK_0.1\n  at: 3\noptimizer: sgd\n")
    found = origins(resolved("--config base.yaml a.yaml lr=0.2 momentum=0.5 --momentum 0.8 --seed 3"))
    assert found["epochs"] == "a.yaml:3" and (found["prune"], found["prune_at"]) == ("b.yaml:3", "b.yaml:4")
    assert (found["lr"], found["momentum"], found["seed"], found["dataset"]) == (
        "lr=0.2",
        "--momentum",
        "--seed",
        "base.yaml:1",
    )
    write(conf__sub__a="import: ../../base.yaml")
    found = origins(resolved("--config ./conf/sub/../sub/a.yaml --gate FBS_0.5"))
    assert (found["dataset"], found["clip_grad"], found["momentum"]) == ("base.yaml:1", "preset", "default")
    found = origins(resolved("--config base.yaml a.yaml"))
    assert (found["weight_decay"], found["batch_size"]) == ("preset of WideResNet", "preset of digits")
    assert found["precision"] == "default" and found["optimizer"] == "what b.yaml:5 comes to"
    found = origins(resolved("cifar10 teacher -t x --epochs 20"))
    assert (found["dataset"], found["epoch_step"]) == ("DATASET", "from the preset of WideResNet")


BOMB = "_a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"_{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcdef", "bcdefg")
)
# files, the command line, and parts of the one line that answers
REFUSED = {
    "an unknown key": ({"a": "\nlearning_rate: 1\n"}, RUN, "a.yaml:2: unknown key 'learning_rate'; main.py --help lists all flags"),
    "the nearest key": ({"a": "epoch: 3"}, RUN, "a.yaml:1: unknown key 'epoch'; did you mean 'epochs'?"),
    "the nearest nested key": ({"a": "prune:\n  att: 20"}, RUN, "a.yaml:2: unknown key 'prune_att'; did you mean 'prune_at'?"),
    "a short flag": ({"a": "t: x"}, RUN, "a.yaml:1: unknown key 't'; did you mean 'teacher_checkpoint'?"),
    "a switch's other name": ({"a": "no_nesterov: true"}, RUN, "a.yaml:1: unknown key 'no_nesterov'; did you mean `nesterov: false`?"),
    "a key of no layer": ({"a": "config: b.yaml"}, RUN, "a.yaml:1: unknown key 'config'; `import: FILE` takes in another file"),
    "a flag alone": ({"a": "print_config: true"}, RUN, "a.yaml:1: unknown key 'print_config': --print_config is given as a flag alone"),
    "nothing near": ({}, "nope=5", "error: nope=5: unknown key 'nope'; main.py --help lists all flags"),
    "a file like key=value": ({"b": ""}, f"{RUN} a=b.yaml", "error: a=b.yaml: unknown key 'a'; 'a=b.yaml' is read as KEY=VALUE: write ./a=b.yaml if"),
    "that file alone": ({}, "--config a=b.yaml", "expected at least one file of YAML; 'a=b.yaml' is read as KEY=VALUE: write ./a=b.yaml if"),
    "a key without its value": ({}, f"{RUN} prune.at", "error: there is no configuration file 'prune.at'; to give this key a value, write prune.at=VALUE"),
    "a value for a group": ({"a": "wrn: 3"}, RUN, "a.yaml:1: unknown key 'wrn'; did you mean 'wrn_depth'?"),
    "null for what is none": ({"a": "wrm: null"}, RUN, "a.yaml:1: unknown key 'wrm'"),
    "open brackets": ({}, "'wrn={depth: [1, 2}'", "error: wrn={depth: [1, 2} is not YAML: expected"),
    "a wrong key in brackets": ({}, "'wrn={deep: 10}'", "error: wrn={deep: 10}: unknown key 'wrn_deep'; did you mean 'wrn_depth'?"),
    "a key of count.py": ({}, "compare=ACDC", "error: compare=ACDC: 'compare' is a key of count.py, main.py does not take it"),
    "a wrong key of count.py": ({"a": "table: maybe"}, RUN, "a.yaml:1: argument --table: 'maybe' is neither true nor false"),
    "an own key cut short": ({"a": "batch: 64"}, RUN, "a.yaml:1: 'batch' is a key of count.py, main.py does not take it; did you mean 'batch_size'?"),
    "an unknown key=value": ({}, "lr_decay=3", "error: lr_decay=3: unknown key 'lr_decay'; did you mean 'lr_decay_ratio'?"),
    "a hyphen": ({}, "batch-size=3", "batch-size=3: unknown key 'batch-size'; did you mean 'batch_size'?"),
    "out of range": ({"a": "lr: 1\nepochs: 0"}, RUN, "a.yaml:2: argument --epochs: '0' is not a whole number of at least 1"),
    "out of range and overridden": ({"a": "lr: -1", "b": "lr: 2"}, f"{RUN} b.yaml --lr 1", "a.yaml:1: argument --lr: '-1' is not a number above 0"),
    "a wrong key=value": ({}, "lr=fast", "error: lr=fast: argument --lr: 'fast' is not a number"),
    "a wrong conv": ({"a": "conv: SepHash_0.1"}, RUN, "a.yaml:1: unknown conv 'SepHash_0.1'; did you mean"),
    "a wrong name": ({"a": "teacher_checkpoint: a b"}, RUN, "a.yaml:1: -t 'a b': a run's name is"),
    "a wrong dataset": ({"a": "dataset: cifar11"}, RUN, "a.yaml:1: argument DATASET: unknown dataset 'cifar11'; did you mean 'cifar10'?"),
    "a wrong mode": ({"a": "mode: techer"}, RUN, "a.yaml:1: argument MODE: unknown mode 'techer'; did you mean 'teacher'?"),
    "no switch": ({"a": "compile: maybe"}, RUN, "a.yaml:1: argument --compile: 'maybe' is neither true nor false"),
    "a list for one value": ({"a": "where: [a, b]"}, RUN, "a.yaml:1: argument --where: takes one value, no list"),
    "a wrong list": ({"a": "epoch_step: [9, 3]"}, RUN, "a.yaml:1: argument --epoch_step: '[9, 3]' is not a JSON list of rising epochs"),
    "keys in a list": ({"a": "epoch_step: [{a: 1}]"}, RUN, "a.yaml:1: 'epoch_step': a list holds values, no keys"),
    "a contradiction": ({"a": "lr: 1\ncrs_factor: 2", "b": "nocrswd: true"}, f"{RUN} b.yaml", "error: a.yaml:2, b.yaml:1: --crs_factor 2 contradicts --nocrswd"),
    "a contradiction with a flag": ({"a": "schedule: cosine"}, f"{RUN} --epoch_step [3]", "a.yaml:1: --epoch_step goes with --schedule step"),
    "no number without a budget": ({"a": "\nconv: SepHashed"}, RUN, "error: a.yaml:2: conv 'SepHashed' is not of the form"),
    "a key twice": ({"a": "lr: 1\n# x\nlr: 1"}, RUN, "a.yaml:3: 'lr' is given twice, before in line 1"),
    "a key twice by nesting": ({"a": "prune_at: 3\nprune:\n  at: 4"}, RUN, "a.yaml:3: 'prune_at' is given twice, before in line 1"),
    "a key twice by a dot": ({"a": "prune.at: 3\nprune: {at: 4}"}, RUN, "a.yaml:2: 'prune_at' is given twice, before in line 1"),
    "an empty mapping": ({"a": "lr: 1\nprune: {}"}, RUN, "a.yaml:2: prune: {} gives nothing: give it a value, or keys with values"),
    "a mapping of comments": ({"a": "prune: {_x: 1}"}, RUN, "a.yaml:1: prune: {} gives nothing"),
    "an empty merge": ({"a": "prune:\n  <<: {}"}, RUN, "a.yaml:1: prune: {} gives nothing"),
    "an empty mapping of the command line": ({}, f"{RUN} prune={{}}", "prune: {} gives nothing"),
    "two imports": ({"a": "import: base.yaml\nimport: base.yaml"}, RUN, "a.yaml:2: 'import' is given twice"),
    "no YAML": ({"a": "lr: 1\nepochs: 3: 4"}, RUN, "a.yaml:2 is not YAML: mapping values are not allowed here"),
    "a tab": ({"a": "prune:\n\tat: 1"}, RUN, "a.yaml:2 is not YAML: found character '\\t'"),
    "an open bracket": ({"a": "epoch_step: [1, 2\n"}, RUN, "a.yaml:2 is not YAML"),
    "two documents": ({"a": "lr: 1\n---\nlr: 2"}, RUN, "a.yaml:2 is not YAML: but found another document"),
    "a character": ({"a": "lr: 1\nconv: \x01"}, RUN, "a.yaml:2 is not YAML: the character U+0001 is not allowed"),
    "a list of keys": ({"a": "- lr: 1"}, RUN, "a.yaml:1: a configuration file holds keys with values"),
    "a text": ({"a": "lr=1"}, RUN, "a.yaml:1: a configuration file holds keys with values"),
    "no text": ({"a": b"lr: 1\nconv: \xff"}, RUN, "a.yaml:2 is no text in UTF-8 (byte 0xff)"),
    "UTF-16": ({"a": "lr: 1".encode("utf-16")}, RUN, "a.yaml:1 is no text in UTF-8"),
    "a missing file": ({}, "--config bas.yaml", "error: there is no configuration file 'bas.yaml'; did you mean 'base.yaml'?"),
    "a folder": ({"runs__n__config": BASE}, "--config runs/n", "error: runs/n is a folder; did you mean 'runs/n/config.yaml'?"),
    "a device": ({}, "--config /dev/zero", "error: /dev/zero cannot be read: it is no file"),
    "no file": ({}, "-t x --config --lr 1", "error: argument --config: expected at least one file"),
    "a large file": ({"a": "# " + "x" * LARGEST_FILE}, RUN, f"a.yaml has {LARGEST_FILE + 2:,} bytes"),
    "a missing import": ({"a": "\nimport: bas.yaml"}, RUN, "error: a.yaml:2: import: there is no configuration file 'bas.yaml'; did you mean 'base.yaml'?"),
    "a fault in an import": ({"a": "import: b.yaml", "b": "lr: 0"}, RUN, "error: b.yaml:1: argument --lr: '0'"),
    "a cycle": ({"a": "import: b.yaml", "b": "lr: 1\nimport: ./a.yaml"}, RUN, "error: b.yaml:2: import: a cycle, a.yaml imports b.yaml imports a.yaml"),
    "itself": ({"a": "import: a.yaml"}, RUN, "a.yaml:1: import: a cycle, a.yaml imports a.yaml"),
    "an import of nothing": ({"a": "import: null"}, RUN, "a.yaml:1: import: takes the path of a file"),
    "an object": ({"a": "conv: !!python/object/apply:os.system ['touch hacked']"}, RUN, "a.yaml:1: 'conv': the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not allowed"),
    "an object as a mapping": ({"a": "prune: !!python/object:main.x {at: 1}"}, RUN, "is not allowed"),
    "an object as a key": ({"a": "!!python/name:os.system lr: 1"}, RUN, "a.yaml:1: a key is one word"),
    "a key that is a list": ({"a": "? [a, b]\n: 1"}, RUN, "a.yaml:1: a key is one word"),
    "an alias of nothing": ({"a": "lr: *x"}, RUN, "a.yaml:1 is not YAML: found undefined alias 'x'"),
    "a bomb": ({"a": BOMB + "epoch_step: *g"}, RUN, f"the file and its aliases hold more than {MOST_NODES:,} values"),
    "an alias within itself": ({"a": "epoch_step: &a [*a]"}, RUN, "a.yaml:1: more than 20 levels, or an alias within its own anchor"),
    "a merge within itself": ({"a": "&a\n<<: *a\nlr: 1"}, RUN, "more than 20 levels, or an alias within its own anchor"),
    "a merge of a text": ({"a": "<<: x"}, RUN, "a.yaml:1: << merges a mapping"),
    "a deep list": ({"a": "epoch_step: " + "[" * 1000}, RUN, "a.yaml is nested too deeply"),
    "a NUL": ({"a": 'data_dir: "a\\0b"'}, RUN, "a.yaml:1: argument --data_dir: 'a\\x00b' has a character that no argument can have"),
    "a half character": ({"a": 'conv: "\\ud800"'}, RUN, "a.yaml:1: argument --conv: '\\ud800' has a character"),
    "a missing mode": ({"b": "dataset: digits"}, "--config b.yaml", "required: MODE, or `mode:` in a file"),
    "null for what is needed": ({"a": "dataset: null"}, RUN, "required: DATASET, or `dataset:` in a file"),
    "too much": ({}, "--config base.yaml digits teacher cifar10", "error: unexpected argument 'cifar10'"),
    "no file before --": ({}, "lr=1 --config -- digits", "error: argument --config: expected at least one file"),
    "a wrong flag": ({}, f"{RUN} --epoch 3", "unknown flag '--epoch'; did you mean '--epochs'?"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_one_line_for_each_mistake(case, workplace, capsys):
    files, words, answer = REFUSED[case]
    for name, text in {"base": BASE, **files}.items():
        path = Path(name.replace("__", "/") + ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    words = words.replace(RUN, f"{RUN} a.yaml") if "a" in files else words
    words = words if "--config" in words else f"{words} {RUN}"
    faults, last = refused(capsys, main.resolve, *shlex.split(words))
    assert not faults and answer in last, last


def test_nothing_of_yaml_runs_and_all_is_answered_before_torch(workplace):
    write(a="_x: !!python/object/apply:os.system ['touch hacked']\nlr: 1")
    (workplace / "torch.py").write_text("raise SystemExit('torch was imported')")
    for words, status in (("--print_config", 0), ("lr=x", 2)):
        for program in ("main.py", "count.py"):
            done = subprocess.run([sys.executable, ROOT / program, "--config", "base.yaml", "a.yaml", *words.split()],
                                  env={"PYTHONPATH": str(workplace), "PATH": ""}, capture_output=True, text=True)  # fmt: skip
            assert (done.returncode, len(done.stderr.splitlines())) == (status, status and 1), done.stderr
            assert bool(status) or "dataset: digits  # base.yaml:1" in done.stdout
    assert sorted(each.name for each in workplace.iterdir()) == ["a.yaml", "base.yaml", "torch.py"]


@pytest.mark.parametrize("name", STUDIES)
def test_each_job_of_a_study_is_the_run_of_its_own_document(name, workplace):
    study, asked = STUDIES[name], generate.options([name])
    for argv, _ in generate.commands(study, asked, generate.settings(study, asked)):
        job = options.training(argv[2:])
        Path("job.yaml").write_text(job.document())
        assert options.training(["--config", "job.yaml"]) == job


def test_what_followed_from_a_preset_follows_again(workplace):
    first = resolved("cifar10 teacher -t x --epochs 20 --wrn_depth 16")
    Path("x.yaml").write_text(first.document())
    for change, words in (
        ("epochs=30", "cifar10 teacher -t other --wrn_depth 16 --epochs 30"),
        ("network=ResNet9 wrn.depth=null epochs=null", "cifar10 teacher -t other --network ResNet9"),
        ("optimizer=adam", "cifar10 teacher -t other --wrn_depth 16 --epochs 20 --optimizer adam"),
        ("dataset=digits", "digits teacher -t other --wrn_depth 16 --epochs 20"),
        ("schedule=cosine", "cifar10 teacher -t other --wrn_depth 16 --epochs 20 --schedule cosine"),
    ):
        assert resolved(f"--config x.yaml -t other {change}") == resolved(words), change
