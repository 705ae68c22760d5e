"""The record of a prepared run: noted from the first moment, whatever ends it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from distributed.process_group import Ranks
from record import outcome
from record.found import find
from system.configuration import Configuration
from system.errors import Interrupted
from training.prepare import Prepared


class StoppedAfterwards(Ranks):
    """A signal comes while rank 0 tells the others that it holds the run."""

    def on_first(self, make):
        make()
        raise Interrupted("stopped by SIGTERM", 143)


def test_a_signal_before_the_others_know_is_noted(workplace):
    fields = dict.fromkeys(["budget", "network", "teacher", "start", "source", "disk", "until"])
    fields["data"] = SimpleNamespace(device=torch.device("cpu"))
    run = Prepared(name="t", config=Configuration({"epochs": 3}), found=find("t"), costs={}, resume=False, **fields)
    with pytest.raises(Interrupted), run.record(StoppedAfterwards()):
        pass
    assert outcome.read(Path("runs/t"))["cause"] == "stopped"
