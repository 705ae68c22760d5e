"""Processes that read and decode photographs: tasks go in, batches of bytes come out, in order.

    pool = Pool(Decoder(photographs, side=224, crop=True, flip=True), workers=4, pin=False)
    for decoded in pool.run([Task("train", np.arange(256), seed=0, epoch=3)]): ...

One pool serves training and testing. A result depends on its task alone, so a run can be stopped and resumed anywhere.
Workers survive signals to the whole process group for a while, so that the process that trains can finish its step and
its checkpoint.
"""

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from input.photos.crops import draws
from input.photos.decoding import Damaged, central_image, random_image
from input.photos.index import Photographs
from system.errors import MachineFault, first_line
from system.processes import follow

AHEAD = 2  # tasks that each worker begins before their results are wanted
IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
# Seconds that a worker lives after a SIGTERM that its parent did not send: the last step and its checkpoint need them.
GRACE = 60


class Task(NamedTuple):
    """Images of "train" or "val" by number, augmented by the draws of (seed, epoch); epoch None: not augmented."""

    index: str
    numbers: np.ndarray
    seed: int = 0
    epoch: int | None = None


class Decoded(NamedTuple):
    """The images of a task that are whole: (n, S, S, 3) uint8, with labels (n,) and numbers (n,) int64.

    `damaged`: the number of each other image, and why it is left out.
    """

    images: Tensor
    labels: Tensor
    numbers: Tensor
    damaged: list[tuple[int, str]]


class Decoder(Dataset):
    """The function that carries out a task, in a worker or in the process itself."""

    def __init__(self, photographs: Photographs, side: int, crop: bool, flip: bool):
        self.photographs, self.side, self.crop, self.flip = photographs, side, crop, flip

    def __getitem__(self, task: Task) -> Decoded:
        index, kept, damaged = getattr(self.photographs, task.index), [], []
        images = torch.empty(len(task.numbers), self.side, self.side, 3, dtype=torch.uint8)
        moving = task.epoch is not None and self.crop
        drawn = draws(torch.from_numpy(task.numbers), task.seed, task.epoch) if moving else [None] * len(task.numbers)
        for number, draw in zip(task.numbers.tolist(), drawn):
            try:
                data = index.read(number)
                image = (
                    central_image(data, self.side) if draw is None else random_image(data, draw, self.side, self.flip)
                )
            except (Damaged, OSError) as error:
                damaged.append((number, first_line(error)))
                continue
            images[len(kept)] = image
            kept.append(number)
        labels = torch.from_numpy(index.labels[kept].astype(np.int64))
        return Decoded(images[: len(kept)], labels, torch.tensor(kept, dtype=torch.int64), damaged)


class Pool:
    """Workers that start with the first task and stay. With 0 workers the process itself decodes."""

    def __init__(self, decoder: Decoder, workers: int, pin: bool):
        self.plan: list[Task] = []  # the tasks of the loader's next pass
        self.running: object = None  # identifies the run that began last: all runs share the loader's iterator
        self.loader = DataLoader(
            decoder, batch_size=None, sampler=self.plan, num_workers=workers, collate_fn=_as_is,
            pin_memory=pin, worker_init_fn=_begin, prefetch_factor=AHEAD if workers else None,
            persistent_workers=workers > 0, generator=torch.Generator(),  # not torch's own draws
        )  # fmt: skip

    def run(self, tasks: Sequence[Task]) -> Iterator[Decoded]:
        """Yield the results of tasks in order.

        Another run may begin between two results: this one then starts anew from there.
        """
        own, done = None, 0
        while done < len(tasks):
            if own is None or self.running is not own:
                self.plan[:] = tasks[done:]
                with warnings.catch_warnings():  # of Python 3.12: a worker waits for no lock of torch's threads
                    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
                    with _as_fault(), _signals_blocked():
                        results = iter(self.loader)
                own = self.running = object()
            with _as_fault():
                result = next(results)
            done += 1
            yield result


def worker_fault(error: BaseException) -> MachineFault | None:
    """Return the fault for what torch raises, anywhere, when a worker was killed; None for other exceptions."""
    text = " ".join(str(error).split())
    if not isinstance(error, RuntimeError) or "DataLoader worker" not in text or "Caught" in text:
        return None
    shared = "its shared memory is too small, more of it (/dev/shm)"
    needs = shared if "shared memory" in text or "Bus error" in text else "often for want of memory: less of it is used"
    return MachineFault(f"a process that decodes images was killed, {needs} with fewer --workers")


@contextmanager
def _as_fault() -> Iterator[None]:
    """Turn what torch raises when a worker was killed into a MachineFault."""
    try:
        yield
    except RuntimeError as error:
        raise worker_fault(error) or error
    except (OSError, EOFError) as error:  # the socket to a worker that died while it handed over memory
        raise MachineFault(f"a process that decodes images is gone: {first_line(error)}")


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Start workers with signals blocked, and keep this process's handler for the death of a child.

    A new worker must not receive a signal while it still has its parent's handlers. And torch's own handler would raise
    wherever this process is, also within a checkpoint half written; a result that does not come shows a dead worker
    within seconds.
    """
    before, of_children = (
        signal.pthread_sigmask(signal.SIG_BLOCK, [*IGNORED, signal.SIGTERM]),
        signal.getsignal(signal.SIGCHLD),
    )
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, of_children)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _as_is(decoded: Decoded) -> Decoded:
    return decoded


def _begin(worker: int) -> None:
    """Set up a new worker: its signals, in place of its parent's handlers, and its end with its parent."""
    torch.set_num_threads(1)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGTERM])  # the thread below receives it, and with it the sender
    parent = multiprocessing.parent_process().pid
    threading.Thread(target=_end_at_sigterm, args=(parent,), daemon=True).start()
    if multiprocessing.get_start_method() != "forkserver":  # whose processes have another parent, which lives on
        follow(parent)  # torch does not notice a parent that has just ended


def _end_at_sigterm(parent: int) -> None:
    """End at a SIGTERM from the parent at once; at one from elsewhere after GRACE seconds."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        signal.alarm(GRACE)
    os._exit(0)
