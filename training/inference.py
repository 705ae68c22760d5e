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

    It runs as a test of it would, uncompiled. What is recorded already is not measured again. Empty without --latency,
    before the last epoch, and on the ranks that record nothing.
    """
    config = prepared.config
    if not config.latency or not isinstance(run, Run) or not run.is_finished():
        return ""
    found = run.latency()
    if not set(config.latency) <= set(latency.sizes_of(found)):
        network = restore(run.name, {"config": run.config, "model": run.state["model"]})
        ready, precision = partial(to_device, device=device), precision_of(config, device)
        found = latency.latencies([network], prepared.data.side, config.latency, ready, precision)[0]
        if config.precision != "fp32":
            found[latency.ON] += f", {config.precision}"
        run.note_latency(found)
    return "\n".join(latency.text({**found, "gate": config.gate}))
