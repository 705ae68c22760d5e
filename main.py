"""Train one network: a teacher (or anything alone), or a student of a teacher.

    python main.py digits teacher -t demo.teacher --wrn_depth 16 --wrn_width 1
    python main.py digits student -t demo.teacher -s demo.student --wrn_depth 16 --wrn_width 1 --conv SepHashed_0.1

resolve the request -> prepare (everything that can be wrong is found here, nothing is written) -> train, evaluate or dry-run.
"""

import os
import sys
from contextlib import nullcontext

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # with PYTHONSAFEPATH Python does not

from system import signals

if __name__ == "__main__":
    signals.on_signal(signals.end_at_once)

from cli import command, options
from cli.request import Request
from distributed import launch
from system import memory, threads


def resolve(arguments: list[str] | None = None) -> Request:
    """Return the request of a command line, with every preset in its place; with --print_config print it and exit."""
    launch.check()
    with launch.printed_once():
        return options.training(arguments).unless_printed(speaks=launch.rank() == 0)


if __name__ == "__main__":
    command.check(resolve)  # --help and a wrong request are answered before torch is imported
    gpus = resolve().GPU or []
    if len(gpus) > 1 and launch.world_size() == 1:
        sys.exit(command.run(lambda: launch.start_on_each(gpus)))
    threads.configure()
    memory.keep_freed()

import torch

from distributed.process_group import Ranks, join
from distributed.stop import Stop
from input import cache
from training import autotune, dry_run, teacher_cache
from training.allocate import allocate
from training.device import choose_device, compile_all
from training.evaluation import evaluate_trained
from training.inference import time_inference
from training.loop import fit
from training.prepare import approximate_start, assemble, prepare
from training.rates import schedule_of
from training.report import Report, advice, aside


def main(arguments: list[str] | None = None) -> int:
    """Run one command line. Return the exit status."""
    request = resolve(arguments)
    with launch.printed_once(on_each_machine=True), request.located():
        device = choose_device(request)
    with join(device) as ranks, request.located():
        return (evaluate_trained if request.evaluate else train)(request, device, ranks)


def train(request: Request, device: torch.device, ranks: Ranks) -> int:
    """Train what a request asks for, or say what that would take. Return the exit status."""
    document = request.document()
    with cache.deferred() if ranks.world_size == 1 else nullcontext():  # nothing is left behind of what is refused
        request = allocate(request, device, ranks)
        prepared = prepare(request, device, ranks)
    config, data = prepared.config, prepared.data
    step, report = assemble(prepared, device, ranks), Report(ranks)
    report.announce(prepared, step)
    if request.autotune:
        with advice(request, device, ranks), aside(request):
            report.say(autotune.settle(step, data, prepared.found.state))
    networks = [step.model, *step.criterion.networks()]

    if request.dry_run:
        with advice(request, device, ranks):
            compile_all(request, networks, data.side)
            report.estimate(prepared, dry_run.measure(step, data))
        return 0

    with prepared.record(ranks, step.autotuned, document) as run, advice(request, device, ranks, run):
        resumed = ranks.broadcast(run.state)
        report.beginning(run, prepared)
        if resumed is None:
            report.say(approximate_start(prepared, step))
        compile_all(request, networks, data.side)
        if resumed is None or resumed["epoch"] < prepared.until:
            teacher_cache.fill(step, data)
        with Stop(ranks) as stop, ranks.watched():
            ends = {"until": prepared.until, "checkpoint_every": request.checkpoint_every, "should_stop": stop}
            for row, state in fit(step, data, schedule_of(config), config.epochs, resumed, **ends):
                report.epoch(run.save(row, state), config.epochs)
                if stop() and state["epoch"] < prepared.until:
                    stop.interrupt()
            run.note_early_end()
            report.result(run)
            report.say(ranks.on_first(lambda: time_inference(prepared, run, device)))
    return 0


if __name__ == "__main__":
    threads.sleep_when_busy(torch.get_num_threads())
    sys.exit(command.run(main))
