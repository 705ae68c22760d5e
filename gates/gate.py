"""Gates: which channels of a convolution are open, chosen for each image from what the convolution is given.

Naive: the maxima of the output's channels are predicted from those of the input's, and the largest are computed. FBS: feature
boosting and suppression, Gao et al. 2019, Dynamic channel pruning (1810.05331), equations 4 to 7.

    gate = FBS(in_channels=64, out_channels=128, density=0.5, weight=1e-8)
    gate.look(x)                                   # x: what the convolution is given, (B, 64, H, W)
    y = gate.choose(norm(conv(x)))                 # 64 of the 128 channels of each image are not 0
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from fractions import Fraction

import torch
from torch import Generator, Tensor, nn

from layers.tracing import exporting

NAIVE_DEVIATION = 0.01  # of the normal distribution from which Naive's matrix is drawn, cut off at twice that

JOINING = 0.1  # times W of an FBS gate that is put into a trained network


def open_count(channels: int, density: Fraction | float) -> int:
    """Return ⌈channels · density⌉, of a density as it is written in decimals."""
    return math.ceil(channels * (density if isinstance(density, Fraction) else Fraction(repr(density))))


def largest(scores: Tensor, count: Tensor | int) -> Tensor:
    """Return which of the scores (B, c), none below 0, are the `count` largest of each row, as a mask; of equal ones the first are."""
    if exporting():  # by comparisons: other programs sort otherwise where numbers are equal
        before = torch.ones(scores.shape[1], scores.shape[1], dtype=torch.bool).tril(-1)
        one, other = scores[:, :, None], scores[:, None]
        return ((other > one) | (other == one) & before).sum(2) < count
    keys = ranking(scores)
    if scores.device.type == "cpu" and not torch.compiler.is_compiling():
        return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, keys.topk(int(count), sorted=False)[1], True)
    first = keys.sort(1, descending=True)[0]  # without asking the device for the count
    return keys >= first.index_select(1, torch.as_tensor(count, device=keys.device).view(1) - 1)


def ranking(scores: Tensor) -> Tensor:
    """Return int64 numbers that are all unlike within a row of scores (B, c), and in the order in which they are chosen.

    The bits of numbers that are not negative are in the order of the numbers. Below them stands the place, counted from the end:
    so no stable sort is needed, which takes many times as long.
    """
    places = torch.arange(scores.shape[1] - 1, -1, -1, device=scores.device)
    return (scores.float() + 0.0).view(torch.int32).long() << 32 | places  # + 0.0: −0 has other bits


class Gate(nn.Module, ABC):
    """The gate of one convolution with i channels in and o out: g = relu(W·p(x) + b), W (o, i), b (o,).

    `look` is given x before the convolution runs, `choose` its output, normalised where a batch-norm follows. Between them `mask`
    (B, o) says which channels are open: exactly `open` of each image. `open` is part of the state, since it changes in a warm-up.
    """

    draws_itself = True
    always_trains = True  # whatever --train_where says
    scales = False  # whether the scores scale what is open, and not the γ of a batch-norm behind the convolution

    def __init__(self, in_channels: int, out_channels: int, density: float, weight: float):
        super().__init__()
        self.density, self.loss_weight = density, weight
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.register_buffer("open", torch.empty((), dtype=torch.int64))
        self.scores: Tensor | None = None
        self.mask: Tensor | None = None
        self.loss: Tensor | None = None

    def __getstate__(self) -> dict:
        """Return what a copy is made of: not what a pass has left, which may hang on a graph."""
        return {**self.__dict__, "scores": None, "mask": None, "loss": None}

    @property
    def out_channels(self) -> int:
        """The channels of the convolution's output."""
        return len(self.weight)

    @property
    def mult_adds(self) -> int:
        """The multiply-adds of its own that an image takes: o·i."""
        return self.weight.numel()

    def set_density(self, density: Fraction | float) -> None:
        """Open ⌈o · density⌉ channels from now on."""
        self.open.fill_(open_count(self.out_channels, density))

    def look(self, x: Tensor) -> None:
        """Score the channels of the output that an input (B, i, H, W) will have, and decide which are open."""
        self.scores = self.score(self.pooled(x))
        self.mask = largest(self.scores.detach(), self.open)

    def score(self, pooled: Tensor) -> Tensor:
        """Return g (B, o) of p(x) (B, i), in full precision."""
        with torch.autocast(pooled.device.type, enabled=False):
            return torch.relu(nn.functional.linear(pooled.to(self.weight.dtype), self.weight, self.bias))

    @abstractmethod
    def pooled(self, x: Tensor) -> Tensor:
        """Return p(x), a number for each channel of (B, i, H, W): (B, i)."""

    @abstractmethod
    def choose(self, y: Tensor) -> Tensor:
        """Return the convolution's output (B, o, H, W) with the channels that are not open set to 0."""

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """Return the weighted loss of the last batch as `gate`."""
        return {"gate": self.loss_weight * self.loss}

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw W, set b to its start, and the number of open channels to what the density says."""
        self._draw(generator)
        self.set_density(self.density)

    def join(self) -> None:
        """Get ready to be put into a network that has been trained without it, whose parameters it has been drawn beside."""

    @abstractmethod
    def _draw(self, generator: Generator | None) -> None:
        """Draw W and set b."""


class Naive(Gate):
    """g predicts m, the maximum of each channel of y = relu(norm(conv(x))), from p, the maxima of x: the loss is the mean of (m − g)².

    Neither p nor m passes a gradient on. The output is y in the channels with the largest g, by as many as are open.
    """

    def pooled(self, x: Tensor) -> Tensor:
        """Return the maximum of each channel, detached."""
        return x.detach().amax((2, 3))

    def choose(self, y: Tensor) -> Tensor:
        """Note how far the prediction is from the maxima of relu(y); mask y."""
        target = torch.relu(y.detach().amax((2, 3)).to(self.scores.dtype))
        self.loss = (target - self.scores).square().mean()
        return y * self.mask[:, :, None, None].to(y.dtype)

    def _draw(self, generator: Generator | None) -> None:
        limit = 2 * NAIVE_DEVIATION
        nn.init.trunc_normal_(self.weight, 0.0, NAIVE_DEVIATION, -limit, limit, generator)
        nn.init.zeros_(self.bias)


class FBS(Gate):
    """s = relu(W·p(x) + b), p the mean of |x| over each channel; y = relu(mask · s · (norm(conv(x)) + β)); the loss is the mean of s.

    `norm` has no scale that is trained, since s scales: its γ stays as it is, 1 in a new network. β is its shift.
    """

    scales = True

    def pooled(self, x: Tensor) -> Tensor:
        """Return the mean of |x| over each channel."""
        return x.abs().sum((2, 3)) / x[0, 0].numel()  # the gradient of `mean` would be divided at every pixel

    def choose(self, y: Tensor) -> Tensor:
        """Note the mean of the scores; return mask · s · y."""
        self.loss = self.scores.mean()
        return y * (self.scores * self.mask).to(y.dtype)[:, :, None, None]

    @torch.no_grad()
    def join(self) -> None:
        """Make s nearly 1 by a tenth of W.

        The batch-norms of a trained network know other scales than those that W would make: with their running statistics an image
        of eight layers overflows fp32 then, and gates that are trained alone would never get a finite loss.
        """
        self.weight.mul_(JOINING)

    def _draw(self, generator: Generator | None) -> None:
        nn.init.normal_(self.weight, 0.0, math.sqrt(2 / self.weight.shape[1]), generator)
        nn.init.ones_(self.bias)


KINDS: dict[str, type[Gate]] = {"Naive": Naive, "FBS": FBS}
