"""What is measured while an epoch is trained: means of losses and errors over its images, the norm of the gradient.

meter = Meter()
meter.add(step(batch))                       # of every step
meter.metrics()                              # of the whole epoch
"""

import math
from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor

from distributed.process_group import ALONE, Ranks
from system.errors import Diverged, MachineFault


class Measured(NamedTuple):
    """What a step has measured, as it lies on the device: what reads it waits for the step.

    `losses` (names,) are sums over the `images` of this process, by `names`: "loss" and its parts as "loss_NAME". `hits` (at most
    5,) counts the images whose label is first, second … among the logits. `gradient_norm` is a scalar.
    """

    names: tuple[str, ...]
    losses: Tensor
    hits: Tensor
    images: int
    gradient_norm: Tensor | None = None

    def plus(self, other: "Measured") -> "Measured":
        """Return the sums over the images of both."""
        return Measured(self.names, self.losses + other.losses, self.hits + other.hits, self.images + other.images)

    def sums(self) -> dict[str, float]:
        """Return the losses, `top1_error`, `top5_error` and `images`, as sums over the images."""
        return dict(zip(self.names, self.losses.tolist())) | {
            "images": self.images,
            **errors(self.hits.tolist(), self.images),
        }


def errors(hits: list[float], images: int) -> dict[str, float]:
    """Return of `images` how many were wrong, by how often the label was first, second … fifth.

    An image is wrong where its label is not first (`top1_error`), or not among the first five (`top5_error`; of fewer classes all
    are among them).
    """
    return {"top1_error": images - hits[0], "top5_error": images - sum(hits)}


class Meter:
    """Means over an epoch so far: of losses and errors over its images, of the gradient's norm over its steps.

    What is measured stays on the device until `read`, so that the loop waits for it once in many steps. Then a loss or a gradient
    that is not finite is noticed: Diverged names the first such step, the part of the loss and `when`.
    """

    def __init__(self, ranks: Ranks = ALONE, when: str = "") -> None:
        self.ranks, self.when = ranks, when
        self.names: list[str] = []
        self.waiting: list[Measured] = []
        self.sums: Counter[str] = Counter()
        self.images = self.steps = 0
        self.seconds = self.largest_gradient = self.gradients = 0.0

    def add(self, measured: Measured) -> None:
        """Take what a TrainStep has measured."""
        self.waiting.append(measured)

    def read(self) -> dict[str, float]:
        """Return means so far. All ranks call it at the same steps."""
        if self.waiting:
            self.names = [*self.waiting[-1].names, "top1_error", "top5_error"]
            rows = self.ranks.all_reduce(self._gathered()).tolist()
            self.waiting.clear()
            for *values, images, gradient_norm in rows:
                self.steps += 1
                self._take(values, int(images), gradient_norm)
        return means(self.sums, self.images) if self.images else dict.fromkeys(self.names, math.nan)

    def _gathered(self) -> Tensor:
        """Return what waits as float64 (steps, values) on its device; the gradient's norm, which all ranks have, of the first alone."""
        columns = [
            torch.stack(each) for each in zip(*((m.losses, m.hits, m.gradient_norm[None]) for m in self.waiting))
        ]
        losses, hits, norms = (column.double() for column in columns)
        images = torch.tensor([[float(each.images)] for each in self.waiting], dtype=torch.float64).to(losses.device)
        return torch.cat([losses, hits, images, norms if self.ranks.is_first else torch.zeros_like(norms)], 1)

    def _take(self, values: list[float], images: int, gradient_norm: float) -> None:
        losses = dict(zip(self.names[:-2], values))
        where = f"is not finite in step {self.steps} of {self.when}"
        if bad := [name.removeprefix("loss_") for name, value in losses.items() if not math.isfinite(value)]:
            parts = ", ".join(name for name in bad if name != "loss") or "the sum of its parts"
            raise Diverged(f"the loss {where}: {parts}")
        if not math.isfinite(gradient_norm):
            raise Diverged(f"the gradient {where}: its norm is {gradient_norm}")
        self.images += images
        self.sums.update(losses | errors(values[len(losses) :], images))
        self.gradients += gradient_norm
        self.largest_gradient = max(self.largest_gradient, gradient_norm)

    def metrics(self) -> dict[str, float]:
        """Return the metrics of a whole epoch, as they are recorded."""
        means = {f"train_{name}": value for name, value in self.read().items()}
        gradients = {"gradient_norm": self.gradients / self.steps, "gradient_norm_max": self.largest_gradient}
        return {"images_per_second": self.images / self.seconds, "seconds": self.seconds, **means, **gradients}

    def state_dict(self) -> dict:
        """Return what a checkpoint within an epoch keeps."""
        kept = ("names", "images", "steps", "seconds", "largest_gradient", "gradients")
        return {name: getattr(self, name) for name in kept} | {"sums": dict(self.sums)}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` returned."""
        vars(self).update(state | {"sums": Counter(state["sums"]), "waiting": []})


def means(sums: dict[str, float], images: int) -> dict[str, float]:
    """Turn sums over images into means, errors into percent. Raise MachineFault where there is no image."""
    if not images:
        raise MachineFault("none of the images could be read")
    return {name: (100 * value if name.endswith("error") else value) / images for name, value in sums.items()}
