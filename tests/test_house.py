"""The house itself: its rooms, their sizes, and what is answered before torch is imported."""

import ast
import subprocess
import sys

from small_runs import ROOT

ROOT_MODULES = {"main", "count", "shrink", "export", "blocks", "data", "distill"}
ROOMS = "benchmarks cli counting distributed exporting gates input layers models record schedules sparsity system training weights".split()
LARGEST_FILE, LONGEST_FUNCTION, MOST_PARAMETERS = 320, 60, 8


def sources():
    """Every module outside tests/."""
    return [*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]


def test_rooms():
    assert {path.stem for path in ROOT.glob("*.py")} == ROOT_MODULES
    listed = subprocess.run(["git", "ls-files", "*/*.py"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert {path.partition("/")[0] for path in listed} in ({*ROOMS, "tests"}, set())  # none where this is no repository


def test_sizes():
    large = []
    for path in sources():
        text = path.read_text()
        if (lines := len(text.splitlines())) > LARGEST_FILE:
            large.append(f"{path.relative_to(ROOT)} has {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            names = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            count, lines = len(set(names) - {"self", "cls"}), node.end_lineno - node.lineno + 1
            if lines > LONGEST_FUNCTION or count > MOST_PARAMETERS:
                large.append(f"{path.relative_to(ROOT)}: {node.name} has {lines} lines and {count} parameters")
    assert not large, "\n".join(large)


def test_nothing_large_before_the_request_is_resolved():
    """Registries and what reads command lines import each other at most."""
    modules = "cli.options distributed.launch layers.registry models.registry training.registry input.datasets weights.sources"
    modules += " cli.exporting schedules.run schedules.generate schedules.collate schedules.list schedules.plot schedules.costs schedules.remove schedules.rename schedules.pack schedules.hyperband"
    large = "torch numpy PIL rich tabulate matplotlib tensorboardX"
    code = f"import sys, {', '.join(modules.split())}; print({{*{large.split()}}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
