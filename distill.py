"""What a network is taught by: losses, of labels alone (`Supervised`) or of labels and a teacher (`Distill`).

Attention transfer: Zagoruyko & Komodakis 2017 (1612.03928), activation-based with p = 2. Knowledge distillation:
Hinton, Vinyals & Dean 2015 (1503.02531).

    criterion = Distill(teacher, alpha=0.0, beta=1000.0, temperature=4.0)
    output = criterion(student, x, y)            # output.loss, output.logits, output.parts["attention"]

The loss with the labels is cross-entropy, or a function of a user's own (training/own_loss.py).

A loss returns named parts that sum to it, with those that the modules of a network offer by a method `auxiliary_losses() ->
dict[str, Tensor]`. Losses are registered by name, with their flags, in training/registry.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layers.base import Replacement
from models.output import Output

AUXILIARY_WEIGHT = 0.4  # of an auxiliary head's cross-entropy: Liu et al. 2018 (1806.09055), section 3.2


class LabelLoss(NamedTuple):
    """A loss with labels by its name among the parts: `function` maps logits (B, classes) in fp32 and labels (B,) to a scalar.

    Where it has `state_dict` and `load_state_dict`, a checkpoint keeps its state.
    """

    name: str
    function: Callable[[Tensor, Tensor], Tensor]

    def state_dict(self) -> dict:
        """Return what a resumed run needs of it."""
        return self.function.state_dict() if hasattr(self.function, "state_dict") else {}


CROSS_ENTROPY = LabelLoss("cross_entropy", F.cross_entropy)


class LossOutput(NamedTuple):
    """The loss (scalar), the logits (B, classes) and the parts (scalars) that sum to the loss."""

    loss: Tensor
    logits: Tensor
    parts: dict[str, Tensor]


def attention_map(feature: Tensor) -> Tensor:
    """Return the attention map of a feature: (B, C, H, W) -> (B, H·W), in fp32.

    That is the mean over channels of the squares, flattened, of L2 norm 1 per image.
    """
    return F.normalize(_Energy.apply(feature).flatten(1), dim=1, eps=1e-12)


class _Energy(torch.autograd.Function):
    """(B, C, H, W) -> (B, H, W): the mean over channels of the squares, in fp32.

    To the bit what autograd makes of it. But it keeps the feature alone, and its gradient is the only large tensor of the backward
    pass, which begins with it.
    """

    @staticmethod
    def forward(ctx, feature: Tensor) -> Tensor:
        ctx.save_for_backward(feature)
        return feature.float().pow(2).mean(1)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (feature,) = ctx.saved_tensors
        return (feature * (gradient / feature.shape[1] * 2)[:, None]).to(feature.dtype)


def attention_maps(taps: list[Tensor]) -> list[Tensor]:
    """Return the attention maps of all taps, each (B, H, W)."""
    return [attention_map(tap).view(len(tap), *tap.shape[2:]) for tap in taps]


def check_taps(student: list[Tensor], teacher: list[Tensor]) -> None:
    """Raise ValueError where there is no tap, or where the taps of two networks differ in number or size."""
    _check_sizes([tap.shape[2:] for tap in student], [tap.shape[2:] for tap in teacher])


def _check_sizes(student: list[torch.Size], teacher: list[torch.Size]) -> None:
    if student != teacher or not student:
        shown = [", ".join("×".join(map(str, size)) for size in sizes) or "none" for sizes in (student, teacher)]
        raise ValueError(f"the student's attention maps ({shown[0]}) do not match the teacher's ({shown[1]})")


def attention_transfer(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """Return Σ over taps of (3/#taps) · the mean over batch and positions of the squared difference of the attention maps.

    Args: student: its taps; teacher: its `attention_maps`, which are hundreds of times smaller than its taps. Raise
    ValueError where they differ in number or size. The weight β is the caller's.
    """
    _check_sizes([tap.shape[2:] for tap in student], [taught.shape[1:] for taught in teacher])
    distances = [F.mse_loss(attention_map(tap), taught.flatten(1)) for tap, taught in zip(student, teacher)]
    return torch.stack(distances).sum() * (3 / len(distances))


def soften(logits: Tensor, temperature: float) -> Tensor:
    """Return the logarithm of the softmax of logits (B, classes) at a temperature, in fp32."""
    return F.log_softmax(logits.float() / temperature, dim=1)


def knowledge_distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T² · KL(teacher ‖ student) of the softmaxes at temperature T, summed over classes, mean over B.

    Args: student: its logits (B, classes); teacher: its logits, softened.
    """
    softened = soften(student, temperature)
    return F.kl_div(softened, teacher, reduction="batchmean", log_target=True) * temperature**2


class Taught(NamedTuple):
    """What a teacher says of B images: its softened logits (B, classes) and its attention maps (each B, H, W), where they are used."""

    softened: Tensor | None
    maps: list[Tensor]

    def tensors(self) -> list[Tensor]:
        """Return all of them."""
        return [*self.maps, *([] if self.softened is None else [self.softened])]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Taught":
        """Return the results of a function of each."""
        return Taught(
            None if self.softened is None else function(self.softened), [function(each) for each in self.maps]
        )

    def bytes(self) -> int:
        """Return the bytes that they take."""
        return sum(each.nbytes for each in self.tensors())


class _Offers:
    """The modules of a network that offer losses of their own, looked for once.

    `hold` says whether every module still has the children that it had then, which takes a twentieth of the time.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self.children = [(module._modules, tuple(module._modules.values())) for module in model.modules()]
        self.modules = [module for module in model.modules() if _offers_losses(module)]

    def hold(self, model: nn.Module) -> bool:
        return model is self.model and all(tuple(now.values()) == then for now, then in self.children)


def _offers_losses(module: nn.Module) -> bool:
    method = getattr(module, "auxiliary_losses", None)
    return method is not None and getattr(method, "__func__", None) is not Replacement.auxiliary_losses


class Criterion(ABC):
    """A loss. A subclass returns `loss_output(...)` of its own parts when it is called with (model, x, y)."""

    takes_numbers = False  # whether it is also given the images' numbers in their dataset
    _offers: _Offers | None = None

    @abstractmethod
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> LossOutput:
        """Run the model on images (B, 3, H, W) with labels (B,) and return the loss with its parts."""

    def networks(self) -> list[nn.Module]:
        """Return the networks that it runs beside the one that is trained."""
        return []

    def state_dict(self) -> dict:
        """Return what changes in it from step to step and a resumed run needs, as plain types and tensors."""
        return {}

    def load_state_dict(self, state: dict) -> None:  # noqa: B027  most losses have no state
        """Put that back."""

    def loss_output(self, model: nn.Module, output: Output, y: Tensor, parts: dict[str, Tensor]) -> LossOutput:
        """Add 0.4 of each auxiliary head's cross-entropy and every module's `auxiliary_losses()`; sum up."""
        if output.auxiliary_logits is not None:
            logits = output.auxiliary_logits.float()
            heads = [logits] if logits.dim() == 2 else logits
            parts["auxiliary"] = AUXILIARY_WEIGHT * sum(F.cross_entropy(head, y) for head in heads)
        if self._offers is None or not self._offers.hold(model):
            self._offers = _Offers(model)
        for module in self._offers.modules:
            for name, loss in module.auxiliary_losses().items():
                parts[name] = parts[name] + loss if name in parts else loss
        return LossOutput(torch.stack(list(parts.values())).sum(), output.logits, parts)


class Supervised(Criterion):
    """Cross-entropy with the labels, or another loss with them."""

    def __init__(self, label_loss: LabelLoss = CROSS_ENTROPY):
        self.label_loss = label_loss

    def state_dict(self) -> dict:
        """Return the state of the loss with labels."""
        return self.label_loss.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Put it back."""
        self.label_loss.function.load_state_dict(state)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> LossOutput:
        """Return one part of its own, `cross_entropy` or that of the other loss."""
        output = model(x)
        name, function = self.label_loss
        return self.loss_output(model, output, y, {name: function(output.logits.float(), y)})


class Distill(Supervised):
    """(1 − α)·cross-entropy (or another loss with labels) + α·knowledge distillation + β·attention transfer from a frozen teacher in eval mode.

    `cache` returns what the teacher says of images by their numbers, where that is kept (training/teacher_cache.py).
    """

    cache: Callable[[Tensor], Taught] | None = None

    def __init__(
        self, teacher: nn.Module, alpha: float, beta: float, temperature: float, label_loss: LabelLoss = CROSS_ENTROPY
    ):
        super().__init__(label_loss)
        self.teacher = teacher.eval().requires_grad_(False)
        self.alpha, self.beta, self.temperature = alpha, beta, temperature

    @property
    def takes_numbers(self) -> bool:
        """Whether there is a cache to look them up in."""
        return self.cache is not None

    def networks(self) -> list[nn.Module]:
        """Return the teacher."""
        return [self.teacher]

    @torch.no_grad()  # inference_mode saves 1 % of this, but the loss may not keep what is made in it
    def ask(self, x: Tensor) -> Taught:
        """Return what the teacher says of images, in memory that no later pass writes over, as a CUDA graph would."""
        logits, taps, _ = self.teacher(x)
        return Taught(
            soften(logits, self.temperature) if self.alpha else None, attention_maps(taps) if self.beta else []
        )

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, numbers: Tensor | None = None) -> LossOutput:
        """Return the part of the labels and, where they have a weight, `distillation` and `attention`.

        Args: numbers (B,): of the images in their dataset, where there is a cache to look them up in.
        """
        softened, maps = self.ask(x) if numbers is None else self.cache(numbers)
        output = model(x)
        name, function = self.label_loss
        parts = {name: (1 - self.alpha) * function(output.logits.float(), y)}
        if self.alpha:
            parts["distillation"] = self.alpha * knowledge_distillation(output.logits, softened, self.temperature)
        if self.beta:
            parts["attention"] = self.beta * attention_transfer(output.taps, maps)
        return self.loss_output(model, output, y, parts)
