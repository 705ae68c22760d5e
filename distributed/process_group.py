"""Several processes that train one network: what they share, what they agree on, and how they end together.

    with join(device) as ranks:                   # ALONE where there is only this process
        with ranks.all_or_none(): ...             # an error in one of them ends all
        total = ranks.all_reduce(values)          # of tensors; broadcast and all_gather are for Python objects

Each process holds the whole network and takes its share of every batch; DistributedDataParallel averages the gradients. Sums over
images are reduced over all processes, so metrics are exact. Rank 0 alone writes and prints. A heartbeat ends all processes where
one is lost.
"""

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distributed import launch
from distributed.heartbeat import Heartbeat
from distributed.rendezvous import meet
from system import signals
from system.errors import Elsewhere, Interrupted, MachineFault, SwapconvError, of_system

WAIT = timedelta(hours=2)  # for a collective: a process may load, test or save for long while the others wait
T = TypeVar("T")


class Ranks:
    """The processes that train together, as one of them sees it. This class is a process that trains alone."""

    rank, world_size = 0, 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """Return what a training step has to call instead of the model, so that gradients are averaged over the processes."""
        return model

    def no_sync(self, model: nn.Module) -> AbstractContextManager:
        """Within the context, gradients of what `data_parallel` returned are added up in this process alone."""
        return nullcontext()

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        return values

    def all_reduce_max(self, *values: int) -> list[int]:
        """Return of each value the largest that any process has."""
        return list(values)

    def broadcast(self, value: T) -> T:
        """Return the value that rank 0 has."""
        return value

    def all_gather(self, value: T) -> list[T]:
        """Return the values of all processes, by rank."""
        return [value]

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Give all processes rank 0's running statistics of batch-norm, which are those that a checkpoint keeps."""

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """All processes leave the context, or none: an error in one ends all, and the lowest rank that has one prints it."""
        yield

    def on_first(self, make: Callable[[], T]) -> T | None:
        """Return what `make` returns on rank 0 and None on the others. An error there ends all."""
        with self.all_or_none():
            return make() if self.is_first else None

    def on_peer_loss(self, note: Callable[[int, str], Any]) -> None:
        """Have `note(exit status, reason)` called before this process ends because another one did."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within the context, an error that comes of the loss of another process ends this one as the loss itself does."""
        yield


ALONE = Ranks()


class SeveralRanks(Ranks):
    """One of several processes. `device` is what it computes on."""

    def __init__(self, device: torch.device):
        self.rank, self.world_size, self.device = launch.rank(), launch.world_size(), device
        if os.environ.get("MASTER_ADDR") in ("127.0.0.1", "localhost"):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a machine's own name may not lead to itself
        try:
            store = meet(self.rank, self.world_size)
            common = {"store": store, "rank": self.rank, "world_size": self.world_size, "timeout": WAIT}
            if device.type == "cuda":
                dist.init_process_group("nccl", device_id=device, **common)
            else:
                dist.init_process_group("gloo", **common)
            self.objects = dist.new_group(backend="gloo", timeout=WAIT)  # on the CPU, whatever the device
            self.heartbeat = Heartbeat(self.rank)
        except (RuntimeError, ValueError) as error:
            raise MachineFault(f"process {self.rank} of {self.world_size} cannot reach the others: {error}")

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """Wrap the model in DistributedDataParallel, so that gradients alone are exchanged in a step.

        Buffers are not: those of batch-norm do not enter the training, and `broadcast_buffers` sends them before a test. A
        user's module may read its own in training and may leave parameters unused, so a network with one pays for both. The
        graph is not declared static: where no unused parameters are looked for, that saves nothing.
        """
        # Of a kernel of 1×1 the strides of the last dimensions mean nothing, and its gradient's may be others.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        of_user = any(getattr(module, "of_user", False) for module in model.modules())
        wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True, find_unused_parameters=of_user)
        wrapped.broadcast_buffers = of_user  # the argument of this name would keep them from being sent once, now
        return wrapped

    def no_sync(self, model: nn.Module) -> AbstractContextManager:
        """Return DistributedDataParallel's own context."""
        return model.no_sync()

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum in place."""
        dist.all_reduce(values)
        return values

    def all_reduce_max(self, *values: int) -> list[int]:
        """Reduce on the CPU."""
        largest = torch.tensor(values)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.objects)
        return largest.tolist()

    def broadcast(self, value: T) -> T:
        """Send a Python object from rank 0."""
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.objects)
        return box[0]

    def all_gather(self, value: T) -> list[T]:
        """Exchange Python objects."""
        values: list = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.objects)
        return values

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Broadcast every buffer in place."""
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Exchange the exit statuses at the end of the context."""
        own: SwapconvError | None = None
        try:
            yield
        except SwapconvError as error:
            own = error
        except OSError as error:
            own = MachineFault(of_system(error))
        statuses = self.all_gather(own and own.exit_status)
        failed = [rank for rank, status in enumerate(statuses) if status]
        if failed:
            raise own if failed[0] == self.rank else Elsewhere(statuses[failed[0]])

    def on_peer_loss(self, note: Callable[[int, str], Any]) -> None:
        """Hand `note` to the heartbeat, which notices the loss."""
        self.heartbeat.on_peer_loss = note

    @contextmanager
    def watched(self) -> Iterator[None]:
        """After an error, wait for the heartbeat, which ends this process where another one was lost."""
        try:
            yield
        except RuntimeError:
            self.heartbeat.check()
            raise


@contextmanager
def join(device: torch.device) -> Iterator[Ranks]:
    """Yield the processes that this one was started with (distributed/launch.py): ALONE where there are no others."""
    if launch.world_size() == 1:
        yield ALONE
        return
    signals.on_signal(
        signal.SIG_DFL
    )  # a process that waits for the others runs no handler, and there is nothing to lose
    ranks = SeveralRanks(device)
    signals.on_signal(signals.interrupt)
    status = 1
    try:
        with ranks.watched():
            yield ranks
        status = 0
    except (SwapconvError, Interrupted) as error:
        status = error.exit_status
        raise
    finally:
        ranks.heartbeat.stop(status)
        if status == 0:  # else it might wait for a process that has left
            dist.destroy_process_group()
