"""A loss of a user's own, from a Python file (`--loss FILE.py:CLASS`).

    criterion({"loss": "mine.py:Focal", "mode": "teacher", …})       # Supervised, with it in place of cross-entropy

An instance is called with logits (B, classes) in fp32 and labels (B,), and returns a scalar. It takes the place of the
cross-entropy with the labels, alone and beside what a teacher says. A class derived from `distill.Criterion` is the whole
loss: it is called with (model, x, y), and built with those of `teacher`, `alpha`, `beta` and `temperature` that it takes.
"""

import inspect
from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any

import torch
from torch import Tensor, nn

from distill import Criterion, LabelLoss
from system.errors import RequestError, first_line
from system.user_code import called, class_of
from training import registry

TEACHING = ("alpha", "beta", "temperature")


def criterion(config: Mapping[str, Any], teacher: nn.Module | None = None) -> Criterion:
    """Return the loss of a run with --loss. Raise RequestError where its class cannot be built."""
    name = config["loss"]
    if issubclass(class_of("--loss", name), Criterion):
        of_teacher = {} if teacher is None else {key: config[key] for key in TEACHING}
        taught = {} if teacher is None else {"teacher": teacher.eval().requires_grad_(False)}
        return called("--loss", name, taught | of_teacher)
    entry = registry.loss_of(config)
    taught = {"teacher": teacher} if entry.needs_teacher else {}
    return resolve_name(entry.target)(**taught, **entry.arguments(config), label_loss=_label_loss(name))


def check(config: Mapping[str, Any], classes: int) -> None:
    """Raise RequestError where --loss is no loss for so many classes, or a flag is given of which it knows nothing."""
    name = config["loss"]
    kind, entry = class_of("--loss", name), registry.loss_of(config)
    if not (issubclass(kind, Criterion) or "label_loss" in inspect.signature(resolve_name(entry.target)).parameters):
        flags = ", ".join(flag.name for flag in entry.flags)
        raise RequestError(f"--loss {name} does not go with {flags}: the loss {entry.name!r} has no other with labels")
    if not issubclass(kind, Criterion):
        _try(_label_loss(name).function, name, classes)
        return
    takes = inspect.signature(kind).parameters
    if config["mode"] != "student" and "teacher" in takes and takes["teacher"].default is inspect.Parameter.empty:
        raise RequestError(f"--loss {name} needs a teacher, so it goes with student mode")
    for flag in registry.teaching_flags() if config["mode"] == "student" else ():
        value = config.get(flag.dest)
        if flag.dest not in takes and value != flag.default:
            given = flag.name if value is True else f"{flag.name} {value}"
            raise RequestError(f"{given}: the class of --loss {name} takes no {flag.dest}")


def _label_loss(name: str) -> LabelLoss:
    """Return an instance of the class as a loss with labels; its part is called `labels`."""
    loss = called("--loss", name, {})
    if not callable(loss):
        raise RequestError(f"--loss {name}: what the class makes cannot be called with logits and labels")
    if isinstance(loss, nn.Module) and any(each.requires_grad for each in loss.parameters()):
        raise RequestError(f"--loss {name} has parameters, which nothing would train: make them buffers")
    return LabelLoss("labels", _OnDevice(loss) if isinstance(loss, nn.Module) else loss)


class _OnDevice:
    """A loss whose buffers follow the logits to their device."""

    def __init__(self, loss: nn.Module):
        self.loss = loss
        self.state_dict, self.load_state_dict = loss.state_dict, loss.load_state_dict

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        if any(each.device != logits.device for each in self.loss.buffers()):
            self.loss.to(logits.device)
        return self.loss(logits, labels)


def _try(function: Callable[[Tensor, Tensor], Tensor], name: str, classes: int) -> None:
    """Raise RequestError where a loss with labels does not return a finite scalar that logits can be trained by."""
    logits = torch.linspace(-1, 1, 2 * classes).view(2, classes).requires_grad_()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            loss = function(logits, torch.tensor([0, classes - 1]))
        except Exception as error:  # of the user's own code
            raise RequestError(f"--loss {name}: {type(error).__name__}: {first_line(error)}")
    wrong = None
    if not isinstance(loss, Tensor) or loss.dim():
        wrong = f"a tensor {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
    elif not loss.requires_grad:
        wrong = "one that does not depend on them (what is detached, rounded or counted does not)"
    elif not loss.isfinite():
        wrong = f"{loss.item()}"
    if wrong:
        raise RequestError(f"--loss {name}: a finite number that depends on the logits is wanted, not {wrong}")
