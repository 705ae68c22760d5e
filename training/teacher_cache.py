"""What a teacher says of each training image, computed once: `--cache_teacher`.

    criterion.cache = cache = reserve(criterion, data, precision)    # RequestError where the memory does not suffice
    fill(step, data)                                                 # asks the teacher about every image
    taught = cache(batch.numbers)                                    # the rows of a batch, on the device that trains

The images have to be the same in every epoch. The last bits of what a network says of an image depend on the batch that it is in.
So the cache is filled before the first step of every process, with the batches of the first epoch: a resumed run has what an
unbroken one has, to the bit, and the first epoch is that of a run without a cache.
"""

from itertools import islice

import torch
from torch import Tensor
from tqdm import tqdm

from distill import Distill, Taught
from input.batches import Feed
from system import memory
from system.errors import MachineFault, RequestError
from training.step import Precision, TrainStep

SHARE = 0.5  # of the memory that is free, which the cache may take: training needs the rest


class TeacherCache:
    """What a teacher says of images, by their numbers.

    Args: one: what it says of one image; numbers (N,): the images that may be kept; place: the device that keeps them.
    """

    def __init__(self, one: Taught, numbers: Tensor, place: torch.device):
        self.device, count = one.tensors()[0].device, len(numbers)
        self.kept = one.map(lambda each: torch.zeros(count, *each.shape[1:], device=place))
        largest = int(numbers.max()) + 1
        rows = torch.zeros(largest, dtype=torch.int64)
        rows[numbers.cpu()] = torch.arange(count)
        self.rows = rows.to(place)
        self.known = torch.zeros(largest, dtype=torch.bool)  # on the CPU: reading it waits for no device

    @torch.no_grad()
    def keep(self, numbers: Tensor, taught: Taught) -> None:
        """Keep what the teacher says of images (n,), given by number."""
        rows = self.rows[numbers.to(self.rows.device)]
        for kept, new in zip(self.kept.tensors(), taught.tensors()):
            kept[rows] = new.to(kept.device)
        self.known[numbers.cpu()] = True

    def __call__(self, numbers: Tensor) -> Taught:
        """Return what the teacher says of images (n,), on the device that trains.

        Raise MachineFault for a photograph that is whole now, but was not when the teacher was asked.
        """
        if not numbers.is_cuda and not self.known[numbers].all():
            number = numbers[~self.known[numbers]][0].item()
            raise MachineFault(
                f"training image {number} can be read now, but could not when the teacher was asked about it"
            )
        rows = self.rows[numbers.to(self.rows.device)]
        return self.kept.map(lambda each: each[rows].to(self.device, non_blocking=True))

    def line(self) -> str:
        """Return what it holds and where, in words."""
        return (
            f"teacher: its answers for {len(self.kept.tensors()[0]):,} training images are computed once and take "
            f"{megabytes(self.kept.bytes())} of memory on {self.rows.device}"
        )


@torch.no_grad()
def reserve(criterion: Distill, data: Feed, precision: Precision) -> TeacherCache:
    """Return an empty cache for the training images, on the device that trains or, where that is too large, on the CPU.

    Raise RequestError where it takes more than SHARE of what is free on either.
    """
    numbers = torch.as_tensor(data.training.numbers)
    with precision():
        one = criterion.ask(torch.zeros(1, 3, data.side, data.side, device=data.device))
    needed, free = one.bytes() * len(numbers), {}
    for place in dict.fromkeys((data.device, torch.device("cpu"))):
        free[place] = free_on(place)
        if needed <= SHARE * free[place]:
            return TeacherCache(one, numbers, place)
    shown = " and ".join(f"{megabytes(SHARE * left)} on {place}" for place, left in free.items())
    raise RequestError(
        f"--cache_teacher: the teacher's answers for {len(numbers):,} images take {megabytes(needed)}, more than half of the "
        f"free memory, which is {shown}"
    )


def free_on(place: torch.device) -> int:
    """Return the bytes that are free on a device, those that torch holds back for later included."""
    if place.type != "cuda":
        return memory.free()
    held_back = torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
    return torch.cuda.mem_get_info(place)[0] + held_back


def megabytes(count: float) -> str:
    """Return a number of bytes in words."""
    return f"{count / 1e6:,.1f} MB"


def cache_of(step: TrainStep) -> TeacherCache | None:
    """Return what keeps the teacher's answers; None where there is no teacher, or where it is asked in every step."""
    return getattr(step.criterion, "cache", None)


@torch.no_grad()
def fill(step: TrainStep, data: Feed, batches: int | None = None) -> None:
    """Ask the teacher about every training image, or about those of the first `batches`; do nothing without a cache.

    The batches, and their parts, are those of the first epoch.
    """
    cache = cache_of(step)
    if cache is None:
        return
    steps = data.steps(data.training)
    first = islice(data.train(0), batches)
    for batch in tqdm(
        first, total=min(steps, batches or steps), desc="asking the teacher", unit="batch", disable=None, leave=False
    ):
        for x, y, numbers in step.split(batch) if batch.images else ():
            if len(y):
                with step.precision():
                    taught = step.criterion.ask(x)
                cache.keep(numbers, taught)
