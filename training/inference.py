"""How long inference takes with the network of a finished run: --latency of main.py, into the record of the run.

report.say(time_inference(prepared, run, device))        # "Latency, 1 image: 1.93 ms (0.05); dense 2.51 ms (0.04)…", "" without it
"""

from functools import partial

import torch

from counting import latency
from record.run import Run, Unrecorded
from training.device import precision_of, to_device
from training.prepare import Prepared
from weights.restore import restore


def time_inference(prepared: Prepared, run: Run | Unrecorded, device: torch.device) -> str:
    """Measure, record, and return in words how long the network of a finished run takes, as its checkpoint has it.

    It runs as a test of it would, uncompiled. What is recorded already is not measured again; sizes that are missing are
    added, unless the others were measured on another machine or in another precision: then all that are asked for are measured, and
    replace them. Before the last epoch, say that. Empty without --latency, and on the ranks that record nothing.
    """
    config, notes = prepared.config, []
    if not config.latency or not isinstance(run, Run):
        return ""
    if not run.is_finished():
        return f"--latency measures at the end of the last epoch: {run.progress()} are done"
    found = run.latency()
    if missing := sorted({*config.latency} - {*latency.sizes_of(found)}):
        where = latency.machine(device) + (f", {config.precision}" if config.precision != "fp32" else "")
        if found and found.get(latency.ON) != where:
            sizes = ", ".join(map(str, latency.sizes_of(found)))
            notes = [f"the times of {sizes} images, measured on {found.get(latency.ON)}, are replaced: this is {where}"]
            found, missing = {}, config.latency
        network = restore(run.name, {"config": run.config, "model": run.state["model"]})
        ready, precision = partial(to_device, device=device), precision_of(config, device)
        measured = latency.latencies([network], prepared.data.side, missing, ready, precision)[0]
        found = {**found, **measured, latency.ON: where}
        run.note_latency(found)
    return "\n".join([*notes, *latency.text({**found, "gate": config.gate})])
