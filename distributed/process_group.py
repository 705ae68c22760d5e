"""Several processes that train one network: what they share, what they agree on, and how they end together.

    with join(device) as team:                    # ALONE where there is only this process
        with team.together(): ...                 # an error in one of them ends all
        for progress in fit(..., team=team): ...

Each holds the whole network and takes its share of every batch (data.Share); DistributedDataParallel averages the
gradients. Sums over images are added up over all processes, so metrics are exact. Process 0 alone writes.

A heartbeat tells within half a minute that a process was lost or has failed, and ends the others: torch's own
collectives would wait for it for many minutes.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distributed import launch
from distributed.heartbeat import LOST, Heart
from distributed.rendezvous import meet
from input.batches import Share
from system import signals
from system.errors import Elsewhere, Interrupted, MachineFault, SwapconvError, of_system

WAIT = timedelta(hours=2)  # for a collective: a process may load, test or save for long while the others wait


class Team:
    """The processes that train together, as one of them sees it. This class is the one that is alone."""

    rank, count = 0, 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        return Share(self.rank, self.count)

    def wrap(self, model: nn.Module) -> nn.Module:
        """What a training step is to call instead of the model, so that gradients are averaged over the processes."""
        return model

    def apart(self, model: nn.Module) -> AbstractContextManager:
        """Within it, gradients of what `wrap` gave are only added up here."""
        return nullcontext()

    def sum(self, values: Tensor) -> Tensor:
        """Added up over all processes."""
        return values

    def most(self, value: int) -> int:
        """The largest that any process has."""
        return value

    def same(self, value: Any) -> Any:
        """What the first process has."""
        return value

    def gather(self, value: Any) -> list:
        """What each process has, in their order."""
        return [value]

    def align(self, model: nn.Module) -> None:
        """Running statistics of batch-norm become those of the first process, as they are in a checkpoint."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """All go on from here, or none: an error ends all, and the first process that has one tells it."""
        yield

    def on_loss(self, note: Callable[[int, str], Any]) -> None:
        """What to do with the exit status and the reason before this process ends because another did."""

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Within it, an error that came of the loss of another process ends this one as the loss itself does."""
        yield


ALONE = Team()


class Several(Team):
    """One of `count` processes. `device` is what it computes on."""

    def __init__(self, device: torch.device):
        self.rank, self.count, self.device = launch.rank(), launch.count(), device
        if os.environ.get("MASTER_ADDR") in ("127.0.0.1", "localhost"):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a machine's own name may not lead to itself
        try:
            common = {
                "store": meet(self.rank, self.count),
                "rank": self.rank,
                "world_size": self.count,
                "timeout": WAIT,
            }
            if device.type == "cuda":
                dist.init_process_group("nccl", device_id=device, **common)
            else:
                dist.init_process_group("gloo", **common)
            self.words = dist.new_group(backend="gloo", timeout=WAIT)
            beats = dist.new_group(backend="gloo", timeout=timedelta(seconds=LOST))
        except (RuntimeError, ValueError) as error:
            raise MachineFault(f"process {self.rank} of {self.count} cannot reach the others: {error}")
        self.heart = Heart(beats, self.rank)

    def wrap(self, model: nn.Module) -> nn.Module:
        unused = any(getattr(module, "initialises_itself", False) for module in model.modules())  # a user's may be so
        return DistributedDataParallel(model, gradient_as_bucket_view=True, find_unused_parameters=unused)

    def apart(self, model: nn.Module) -> AbstractContextManager:
        return model.no_sync()

    def sum(self, values: Tensor) -> Tensor:
        dist.all_reduce(values)
        return values

    def most(self, value: int) -> int:
        largest = torch.tensor(value)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.words)
        return int(largest)

    def same(self, value: Any) -> Any:
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.words)
        return box[0]

    def gather(self, value: Any) -> list:
        values = [None] * self.count
        dist.all_gather_object(values, value, group=self.words)
        return values

    def align(self, model: nn.Module) -> None:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)

    @contextmanager
    def together(self) -> Iterator[None]:
        own: SwapconvError | None = None
        try:
            yield
        except SwapconvError as error:
            own = error
        except OSError as error:
            own = MachineFault(of_system(error))
        statuses = self.gather(own and own.exit_status)
        failed = [number for number, status in enumerate(statuses) if status]
        if failed:
            raise own if failed[0] == self.rank else Elsewhere(statuses[failed[0]])

    def on_loss(self, note: Callable[[int, str], Any]) -> None:
        self.heart.note = note

    @contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError:
            self.heart.check()
            raise


@contextmanager
def join(device: torch.device) -> Iterator[Team]:
    """The team of this process while it lasts: ALONE where it was not started with others (launch.py)."""
    if launch.count() == 1:
        yield ALONE
        return
    signals.on_signal(signal.SIG_DFL)  # who waits for the others hears no handler, and there is nothing to lose
    team = Several(device)
    signals.on_signal(signals.interrupt)
    status = 1
    try:
        with team.explained():
            yield team
        status = 0
    except (SwapconvError, Interrupted) as error:
        status = error.exit_status
        raise
    finally:
        team.heart.stop(status)
        if status == 0:  # else it might wait for who has left
            dist.destroy_process_group()
