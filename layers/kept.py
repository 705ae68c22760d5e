"""`Kept`: what a module forms from its parameters, kept until one of them changes, where no gradient is needed.

    matrix = self.kept(self, self.matrix) if may_keep(self) else self.matrix()

Version counters do not tell of writes through `.data`, NumPy or shared memory. So on a CPU the bytes of the parameters
are compared with a copy at every call: structured maps have few, and 15,000 numbers take 4 µs. On a GPU that would wait
for the device, so there the version counters decide: write in place under torch.no_grad(), not through `.data`. (torch's
fused optimizers and replays of CUDA graphs do not count either; training/optim.SGD does.) New tensors, storages, strides and dtypes are noticed everywhere.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

Formed = Tensor | tuple[Tensor, ...]
Place = tuple[dict, str, object]  # of a module: one of its dictionaries, a name in it, what is there
DEVICES = ("cpu", "cuda")
DECISIONS = 1000  # so many are remembered


def may_keep(module: nn.Module) -> bool:
    """Return whether what `module` forms now needs no gradient and is part of no graph that is being recorded."""
    if torch.is_grad_enabled():
        parameter = None  # the tensors of a replica of torch.nn.parallel are no parameters, but may need gradients
        for parameter in module.parameters():
            if parameter.requires_grad:
                return False
        if parameter is None:
            return False
    return not torch.compiler.is_compiling() and not torch.jit.is_tracing()


def in_full_precision(form: Callable[[], Formed]) -> Formed:
    """Return `form()` as without autocast: to round a map's small factors one by one takes longer than its products spare."""
    for device in DEVICES:
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return form()
    return form()


class Kept:
    """What one module forms, for which state of its tensors, and what it decided from shapes.

    Copies of it, pickled ones too, are empty. `ahead` is what was formed for the next pass alone (layers/ahead.py).
    """

    def __init__(self):
        self.ahead: Tensor | None = None
        self._record: _Record | None = None
        self._decisions: dict[int, bool] = {}

    def __call__(self, module: nn.Module, form: Callable[[], Formed]) -> Formed:
        """Return `form()`, the same as last time if the parameters and buffers of `module` are the same.

        Args: form: a function of these tensors alone, but for the module's own `bias`.
        """
        record, name = self._record, form.__name__
        if record is None or not record.holds(module):
            self._record = record = None
            if _can_be_watched(module):
                record = _Record(module)
        elif name in record.formed:
            return record.formed[name]
        formed = _outside_inference_mode(form)
        if record is not None and all(map(_is_plain, formed if isinstance(formed, tuple) else (formed,))):
            formed = record.formed[name] = record.rounded(formed)
            self._record = record
        return formed

    def decision(self, decide: Callable[[int], bool], pixels: int) -> bool:
        """Return `decide(pixels)`, which is asked once for each number of pixels."""
        decisions = self._decisions
        if pixels not in decisions:
            if len(decisions) == DECISIONS:
                decisions.clear()
            decisions[pixels] = decide(pixels)
        return decisions[pixels]

    def was_yes(self) -> bool:
        """Return whether any decision was yes."""
        return any(self._decisions.values())

    def take_ahead(self) -> Tensor | None:
        """Return what was formed ahead, once."""
        formed, self.ahead = self.ahead, None
        return formed

    def clear(self) -> None:
        """Free what is kept. Decisions stay."""
        self._record = None

    def forget(self) -> None:
        """Forget all, as after a move to another device."""
        self._record = None
        self._decisions.clear()

    def __reduce__(self):
        return Kept, ()


class _Record:
    """The tensors of a module at one time, and what was formed from them, by the name of what formed it."""

    def __init__(self, module: nn.Module):
        self.owner = module._parameters
        self.places = list(_places(module))
        tensors = [found for *_, found in self.places if isinstance(found, Tensor)]
        self.device = tensors[0].device.type
        self.autocast = self._autocast()
        self.formed: dict[str, Formed] = {}
        self.on_gpu = self.device != "cpu"
        # An alias keeps its storage alive, so that no other has the same address.
        self.seen = [(each, each.data_ptr(), each.dtype, each.detach(), *self._state(each)) for each in tensors]

    def _state(self, tensor: Tensor) -> tuple:
        """Return what of a tensor tells of a write, as it is now and as it is at any later time: its memory on a CPU."""
        if self.on_gpu:
            return tensor._version, None
        live = _bytes_of(tensor)
        return bytearray(live), live

    def _autocast(self) -> torch.dtype | None:
        return torch.get_autocast_dtype(self.device) if torch.is_autocast_enabled(self.device) else None

    def rounded(self, formed: Formed) -> Formed:
        """Return what was formed as convolutions take it, so that autocast need not round it at every call."""
        if self.autocast is None:
            return formed
        if isinstance(formed, Tensor):
            return formed.to(self.autocast)
        return tuple(part.to(self.autocast) for part in formed)

    def holds(self, module: nn.Module) -> bool:
        """Return whether the module (no replica of it) and the precision of autocast are as they were."""
        if module._parameters is not self.owner:
            return False
        for place, name, found in self.places:
            if place.get(name) is not found:
                return False
        for tensor, address, dtype, alias, before, live in self.seen:
            if tensor.data_ptr() != address:  # or what is compared may be freed
                return False
            now = tensor._version if live is None else live
            if before != now:  # a bytearray on the left compares memory, a memoryview entry by entry
                return False
            if tensor.dtype is not dtype or not tensor.is_set_to(alias):
                return False
        if self._autocast() is not self.autocast:
            return False
        return not (self.on_gpu and _is_captured(self.seen[0][0]))


def _places(module: nn.Module) -> Iterator[Place]:
    """Yield where parameters, buffers and submodules are, all the way down, but for the module's own bias."""
    for place in (module._parameters, module._buffers):
        yield from ((place, name, tensor) for name, tensor in place.items() if name != "bias")
    for name, child in module._modules.items():
        yield module._modules, name, child
        yield from _places(child) if child is not None else ()


def _can_be_watched(module: nn.Module) -> bool:
    tensors = [tensor for *_, tensor in _places(module) if isinstance(tensor, Tensor)]
    return bool(tensors) and all(map(_is_plain, tensors)) and not _is_captured(tensors[0])


def _is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor is an ordinary one, in memory that can be compared; not a traced, fake or sharded one."""
    ordinary = type(tensor) is nn.Parameter or type(tensor) is Tensor and not tensor.requires_grad
    versioned = tensor.device.type == "cpu" or not tensor.is_inference()
    return ordinary and tensor.device.type in DEVICES and tensor.layout is torch.strided and versioned


def _bytes_of(tensor: Tensor) -> memoryview:
    """Return the memory that a tensor spans, as it is at any later time."""
    span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride())) if tensor.numel() else 0
    return memoryview(tensor.detach().as_strided((span,), (1,)).view(torch.uint8).numpy())


def _is_captured(tensor: Tensor) -> bool:
    """Return whether a CUDA graph is being captured, which must form anew what it uses at every replay."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


def _outside_inference_mode(form: Callable[[], Formed]) -> Formed:
    """Form tensors that later passes with gradients may use, too."""
    if not torch.is_inference_mode_enabled():
        return form()
    with torch.inference_mode(False), torch.no_grad():
        return form()
