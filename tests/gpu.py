"""What only a GPU can show: blocks, kept matrices and compiled runs there do what they do on a CPU.

    python tests/gpu.py [blocks | kept | runs | recipes ...] [--jobs 8] [--convs Sep,ACDC_3]

`blocks`: value and gradients of every family against the same block on the CPU in double precision. `kept`: no change of a parameter
escapes, and captured graphs form anew. `runs`: a student of every family, taught on digits; compiled it must have the losses of the
eager run, killed and resumed those of the whole one. `recipes`: the same of one family by every optimizer. The exit status is
1 where anything differs.
"""

import argparse
import copy
import json
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / "helpers")]

import torch
from families import ONE_EACH
from results import rows_of
from small_runs import process
from tabulate import tabulate

from blocks import block
from layers.spec import ConvSpec
from training.optim import Adam, parameter_groups, sgd

GPU = torch.device("cuda")
SPECS = {"k3": ConvSpec(64, 96, 3, padding=1), "k1, stride 2": ConvSpec(96, 64, 1, stride=2)}
NETWORK = ["--wrn_depth", "10", "--wrn_width", "1", "--train_size", "800", "--epochs", "3", "--lr", "0.001"]
RECIPES = {
    "Nesterov": "--nesterov --schedule sgdr --restart_epochs 1",
    "Adam": "--optimizer adam --schedule sgdr --restart_epochs 1 --structured_lr auto",
    "AdamW": "--optimizer adamw --reestimate_bn 4",
}
CLOSE = {"eager": 5e-3, "resumed": 5e-3}  # relative difference of an epoch's loss, of sums in other orders


def difference(out: torch.Tensor, expected: torch.Tensor) -> float:
    """‖out − expected‖ / ‖expected‖, in double precision on the CPU."""
    out, expected = out.detach().double().cpu(), expected.detach().double().cpu()
    return ((out - expected).norm() / expected.norm()).item()


def blocks(convs: list[str], jobs: int) -> tuple[list[dict], bool]:
    rows = []
    for conv in convs:
        for name, spec in SPECS.items():
            for images, side in ((2, 4), (64, 16)):  # few pixels and many: factors or the matrix
                on_cpu = block(conv, spec, name="a").double()
                on_gpu = copy.deepcopy(on_cpu).float().to(GPU)
                x = torch.randn(images, spec.in_channels, side, side, dtype=torch.double)
                given = [
                    x.clone().requires_grad_(),
                    x.float().to(GPU, memory_format=torch.channels_last).requires_grad_(),
                ]
                outs = [on_cpu(given[0]), on_gpu(given[1])]
                slope = torch.randn_like(outs[0])
                outs[0].backward(slope), outs[1].backward(slope.float().to(GPU))
                pairs = [(outs[1], outs[0]), (given[1].grad, given[0].grad)]
                pairs += [(a.grad, b.grad) for a, b in zip(on_gpu.parameters(), on_cpu.parameters())]
                worst = max(difference(*pair) for pair in pairs)
                rows.append({"conv": conv, "spec": name, "images": images, "worst": worst, "bad": worst > 1e-4})
    return rows, any(row["bad"] for row in rows)


def _by_the_optimizer(made, make=lambda made: sgd(made, [], 0.1, 0.9, 0.0, 1.0)):
    optimizer = make(made)
    for parameter in made.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def _by_adam(made):
    _by_the_optimizer(made, lambda made: Adam(parameter_groups(made, {}, 0.0, 1.0), 0.1, 0.9))


def _in_place(made):
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.5)


def _loaded(made):
    made.load_state_dict({name: value + 0.5 for name, value in made.state_dict().items()})


def _swapped(made):
    for parameter in made.parameters():
        parameter.data = parameter.data + 0.5


def _to_the_cpu_and_back(made):
    made.cpu()
    _in_place(made)
    made.to(GPU)


def kept(convs: list[str], jobs: int) -> tuple[list[dict], bool]:
    rows, spec = [], SPECS["k3"]
    for conv in [conv for conv in convs if conv not in ("Conv", "Sep")]:
        for change in (_by_the_optimizer, _by_adam, _in_place, _loaded, _swapped, _to_the_cpu_and_back):
            made = block(conv, spec, name="a").eval().to(GPU)
            x = torch.randn(2, spec.in_channels, 8, 8, device=GPU)
            with torch.inference_mode():
                before, again = made(x), made(x)
            change(made)
            with torch.inference_mode():
                out = made(x)
            expected = copy.deepcopy(made).requires_grad_(True)(x)
            changed, wrong = difference(out, before), difference(out, expected)
            bad = wrong > 1e-4 or not torch.equal(before, again) or not changed > 1e-3
            rows.append(
                {"conv": conv, "change": change.__name__.strip("_"), "changed": changed, "wrong": wrong, "bad": bad}
            )
        rows.append({"conv": conv, "change": "captured", **_captured(conv, spec)})
    return rows, any(row["bad"] for row in rows)


def _captured(conv: str, spec: ConvSpec) -> dict:
    """Replay a captured graph after a change: it must see it."""
    made = block(conv, spec, name="a").eval().to(GPU)
    x = torch.randn(2, spec.in_channels, 8, 8, device=GPU)
    with torch.no_grad():
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            made(x), made(x)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = made(x)
        graph.replay()
        before = out.clone()
        _in_place(made)
        graph.replay()
    wrong = difference(out, copy.deepcopy(made).requires_grad_(True)(x))
    return {"changed": difference(out, before), "wrong": wrong, "bad": wrong > 1e-4}


def _trained(folder: Path, name: str, *flags: str, kill: bool = False) -> None:
    """Train a run to its end; with `kill` after killing it once, when its first epoch was recorded."""
    command, metrics = ["digits", *flags, *NETWORK], folder / "runs" / name / "metrics.jsonl"
    if kill:
        victim = process(*command, cwd=folder)
        while victim.poll() is None and not (metrics.exists() and metrics.read_text().count("\n")):
            time.sleep(0.02)
        victim.kill()
        victim.communicate()
        command.append("--resume")
    child = process(*command, cwd=folder)
    out, error = child.communicate()
    if child.returncode:
        raise RuntimeError(error.strip().splitlines()[-1] if error.strip() else out[-300:])


def _apart(one: list[dict], other: list[dict]) -> float:
    return max(abs(a["train_loss"] - b["train_loss"]) / abs(a["train_loss"]) for a, b in zip(one, other, strict=True))


def _run(conv: str, folder: Path, recipe: str = "") -> dict:
    shutil.copytree(folder / "taught", own := folder / (recipe or conv))
    flags = ["student", "-t", "t", "--conv", conv, "--alpha", "0.3", *RECIPES.get(recipe, "").split(), "-s"]
    began, row = time.perf_counter(), {"conv": conv} | ({"recipe": recipe} if recipe else {})
    try:
        _trained(own, "eager", *flags, "eager")
        _trained(own, "compiled", *flags, "compiled", "--compile")
        _trained(own, "resumed", *flags, "resumed", "--compile", kill=True)
    except RuntimeError as error:
        return row | {"bad": True, "error": str(error)}
    eager, compiled, resumed = (rows_of(own, name) for name in ("eager", "compiled", "resumed"))
    apart = {"eager": _apart(compiled, eager), "resumed": _apart(compiled, resumed)}
    row |= {"loss": compiled[-1]["train_loss"], **apart, "seconds": time.perf_counter() - began}
    row |= {"images/s eager": eager[-1]["images_per_second"], "compiled": compiled[-1]["images_per_second"]}
    return row | {"bad": any(apart[name] > limit for name, limit in CLOSE.items())}


def _students(students: list[tuple[str, str]], jobs: int) -> tuple[list[dict], bool]:
    """The rows of students of one teacher, each by a conv and a recipe."""
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(jobs) as pool:
        folder = Path(place)
        (folder / "taught").mkdir()
        _trained(folder / "taught", "t", "teacher", "-t", "t")
        rows = list(pool.map(lambda student: _run(student[0], folder, student[1]), students))
    return rows, any(row["bad"] for row in rows)


def runs(convs: list[str], jobs: int) -> tuple[list[dict], bool]:
    return _students([(conv, "") for conv in convs], jobs)


def recipes(convs: list[str], jobs: int) -> tuple[list[dict], bool]:
    return _students([("Tucker_0.5", recipe) for recipe in RECIPES], jobs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    checks = {"blocks": blocks, "kept": kept, "runs": runs, "recipes": recipes}
    parser.add_argument("checks", nargs="*", choices=[*checks, []], default=[], metavar="CHECK")
    parser.add_argument("--convs", default=",".join(ONE_EACH))
    parser.add_argument("--jobs", type=int, default=8, help="runs at once")
    given = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    failed = []
    for name in given.checks or checks:
        rows, bad = checks[name](given.convs.split(","), given.jobs)
        failed += [name] * bad
        print(
            tabulate(
                [row for row in rows if row["bad"]] if bad and name != "runs" else rows, headers="keys", floatfmt=".2e"
            )
        )
        print(json.dumps({"check": name, "of": len(rows), "bad": sum(row["bad"] for row in rows)}), flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
