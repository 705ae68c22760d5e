"""What is measured while an epoch is trained: means of losses and errors over its images, the norm of the gradient.

meter = Meter()
meter.add({"loss": loss_sum, "top1_error": wrong, "images": n, "gradient_norm": norm})     # tensors, of every step
meter.metrics()                                                                            # of the whole epoch
"""

import math
from collections import Counter

import torch
from torch import Tensor

from distributed.process_group import ALONE, Ranks
from system.errors import Diverged, MachineFault


class Meter:
    """Means over an epoch so far: of losses and errors over its images, of the gradient's norm over its steps.

    What is measured stays on the device until `read`, so that the loop waits for it once in many steps. Then a loss or a gradient
    that is not finite is noticed: Diverged names the first such step, the part of the loss and `when`.
    """

    def __init__(self, ranks: Ranks = ALONE, when: str = "") -> None:
        self.ranks, self.when = ranks, when
        self.names: list[str] = []
        self.waiting: list[Tensor] = []
        self.sums: Counter[str] = Counter()
        self.images = self.steps = 0
        self.seconds = self.largest_gradient = self.gradients = 0.0

    def add(self, measured: dict[str, Tensor]) -> None:
        """Take what a TrainStep has measured. The gradient's norm is the same on all ranks, all else is added up."""
        if not self.ranks.is_first:
            measured["gradient_norm"] = torch.zeros_like(measured["gradient_norm"])
        self.names = list(measured)
        self.waiting.append(torch.stack([value.double() for value in measured.values()]))

    def read(self) -> dict[str, float]:
        """Return means so far. All ranks call it at the same steps."""
        if self.waiting:
            for values in self.ranks.all_reduce(torch.stack(self.waiting)).tolist():
                self.steps += 1
                measured = dict(zip(self.names, values))
                gradient_norm = measured.pop("gradient_norm")
                self.images += int(measured.pop("images"))
                where = f"is not finite in step {self.steps} of {self.when}"
                if bad := [name.removeprefix("loss_") for name, value in measured.items() if not math.isfinite(value)]:
                    parts = ", ".join(name for name in bad if name != "loss") or "the sum of its parts"
                    raise Diverged(f"the loss {where}: {parts}")
                if not math.isfinite(gradient_norm):
                    raise Diverged(f"the gradient {where}: its norm is {gradient_norm}")
                self.sums.update(measured)
                self.gradients += gradient_norm
                self.largest_gradient = max(self.largest_gradient, gradient_norm)
            self.waiting.clear()
        return means(self.sums, self.images) if self.images else dict.fromkeys(self.names, math.nan)

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
    return {name: value / images * (100 if name.endswith("error") else 1) for name, value in sums.items()}
