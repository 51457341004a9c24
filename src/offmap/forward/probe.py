"""A network with its head found and hooked, without touching the network's code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from offmap.activations import Activations, Head, Heads
from offmap.errors import ArgumentError, HeadError, ShapeError
from offmap.forward._lent import EAGER, evaluating
from offmap.forward._opened import Opened
from offmap.forward._outputs import (
    arrays_of,
    features_of,
    is_compiled,
    logits_of,
    unwrapped,
)
from offmap.forward.normalization import Normalization
from offmap.precision import without_autocast

Reduction = Callable[[Tensor], Tensor]

# By how much W h + b may miss the logits, as a share of the sum of its absolute terms.
_TOLERANCE = {"fp32": 1e-5, "tf32": 2e-3, "bf16": 1e-2}


class Probe(Opened):
    """Runs a network on images and keeps what the detectors read.

    The head is the last linear layer in call order, or the one named, if ``W h + b`` equals the
    logits on the first batch; otherwise :attr:`head` is ``None`` and :attr:`why_no_head` says why.
    The features are that layer's input. Use it as a context manager: evaluation mode is set at the
    start, and mode, device and hooks are as before at the end. Threads may share a probe. The head
    is looked for once in the life of a probe.

    Args:
        network: any classifier; its output may be a tensor, tuple, dict, or object with ``logits``.
        head: name of the last linear layer, as in ``network.named_modules()``.
        layers: other layers to keep by name, each with the reduction applied inside the hook.
        device: where to run; by default where the network is.
        precision: "fp32", or "bf16" for autocast. Activations leave as float32 in either.
        channels_last: memory layout of the images.
        normalization: applied to uint8 images, on the device; by default they are brought to
            [0, 1], and refused where the first images were floats that lie outside of it.

    Raises:
        HeadError: on the first batch, if the network calls no linear layer and none was named.
        ShapeError: what the network returns holds no logits, or not first.
        ArgumentError: a name is not one of the network's modules, or there is no such device.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        head: str | None = None,
        layers: Mapping[str, Reduction] | None = None,
        device: str | torch.device | None = None,
        precision: str = "fp32",
        channels_last: bool = True,
        normalization: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(unwrapped(network), torch.jit.ScriptModule):
            raise ArgumentError("TorchScript takes no hooks: give the network it was made from")
        if precision not in ("fp32", "bf16"):
            raise ArgumentError(f"precision must be 'fp32' or 'bf16'; seen {precision!r}")
        self.network = unwrapped(network)
        self.asked_head = head
        self.head_name = head
        self.head: Head | None = None
        self.why_no_head = "the network has not run yet"
        self.layers = dict(layers or {})
        self.precision = precision
        self.channels_last = channels_last
        self.normalization = normalization or Normalization()
        self._assumed = normalization is None
        self.asked_device = as_device(device)
        self._modules = list(self.network.modules())
        self.device = self.asked_device or device_of(self._modules)
        self._dtype = dtype_of(self._modules)
        self._captured = _Captured()
        self._finding = threading.Lock()
        self._head_layer: nn.Module | None = None
        self._compiled = any(is_compiled(module) for module in self._modules)
        for name in [*self.layers, *([head] if head else [])]:
            _module(self.network, name)

    def _prepare(self, stack: ExitStack) -> None:
        evaluating(self.network, self._modules, stack)
        self._dtype = dtype_of(self._modules)
        self.device = placed(self.network, self._modules, self.asked_device, stack)
        for name, reduction in self.layers.items():
            module = _module(self.network, name)
            stack.callback(module.register_forward_hook(self._keeper(name, reduction)).remove)
        if self._head_layer is not None:
            stack.callback(self._hook_head(self._head_layer).remove)

    def __call__(self, images: Tensor) -> Activations:
        """The activations of a batch of images, uint8 or normalised."""
        if self._head_layer is None:
            with self._finding:
                if self._head_layer is None:
                    return self._first(images)
        output, kept = self._run(images)
        features = kept.pop("features")
        return Activations(_logits(output, images), features, kept)

    def logits(self, images: Tensor) -> Tensor:
        """The logits of a batch alone, for which no head is looked for."""
        return _logits(self._run(images)[0], images)

    @property
    def knows_head(self) -> bool:
        """Whether a head was found."""
        return self.head is not None

    def adopt(self, head: Head | Heads | None) -> None:
        """Take the head from an earlier run of the same network."""
        assert not isinstance(head, tuple)
        self.head = None if head is None else head.to(self.device)
        self.why_no_head = (
            "" if self.knows_head else "no head was found when these activations were stored"
        )

    def prepared(self, images: Tensor) -> Tensor:
        """The images as the network takes them: on its device, normalised, in its layout."""
        images = images.to(self.device, non_blocking=True)
        if self._assumed:
            self._look_at(images)
        x = self.normalization(images) if images.dtype == torch.uint8 else images
        x = x.to(self._dtype)
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return x

    def _look_at(self, images: Tensor) -> None:
        """From the first images: were they normalised by somebody else?"""
        self._assumed = not len(images)
        if images.is_floating_point() and bool(((images < 0) | (images > 1)).any()):
            self.normalization = Normalization(known=False)

    @torch.no_grad()
    def _run(self, images: Tensor) -> tuple[Any, dict[str, Tensor]]:
        """What the network returns, and what the hooks kept."""
        kept: dict[str, Tensor] = {}
        self._captured.kept = kept
        x = self.prepared(images)
        # Hooks do not fire inside compiled code, so compiled parts of the network run as written.
        eager = EAGER if self._compiled else nullcontext()
        with eager, self._autocast():
            output = self.network(x)
        self._captured.kept = {}  # what others run of these modules is not of this batch
        return output, kept

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return without_autocast(self.device)

    def _first(self, images: Tensor) -> Activations:
        """Run the first batch with all linear layers hooked, and keep the one that is the head."""
        if not len(images):
            raise ArgumentError("the first batch holds no images, and the head is looked for on it")
        calls: dict[str, tuple[nn.Module, Tensor]] = {}
        modules = dict(self.network.named_modules())
        wanted = {self.head_name} if self.head_name else set(modules)
        handles = [
            module.register_forward_pre_hook(_recorder(name, calls))
            for name, module in modules.items()
            if name in wanted and (isinstance(module, nn.Linear) or self.head_name)
        ]
        try:
            output, kept = self._run(images)
        finally:
            for handle in handles:
                handle.remove()
        if not calls:
            raise HeadError(self._no_layer(modules))
        name, (module, inputs) = list(calls.items())[-1]
        logits, features = _logits(output, images), features_of(inputs).float()
        with without_autocast(self.device):
            head, why = self._verified(name, module, features, logits)
            if head is None:
                self._check_others(name, module, features, output, logits)
        self.head_name, self.head, self.why_no_head = name, head, why
        self._stack.callback(self._hook_head(module).remove)
        self._head_layer = module
        return Activations(logits, features, kept)

    def _check_others(
        self, name: str, module: nn.Module, features: Tensor, output: Any, logits: Tensor
    ) -> None:
        """Refuse a network that returns features first, and then logits."""
        for where, other in arrays_of(output, len(logits)):
            wide = other.shape[1] != logits.shape[1]
            if wide and self._verified(name, module, features, other.float())[0] is not None:
                raise ShapeError(
                    f"the network returns several arrays; the first, of shape "
                    f"{tuple(logits.shape)}, was taken for the logits, but {where} is what its "
                    f"last linear layer {name!r} gives: return that one first, or as 'logits'"
                )

    def _verified(
        self, name: str, module: nn.Module, features: Tensor, logits: Tensor
    ) -> tuple[Head | None, str]:
        """The head, if applying it to the features gives the logits."""
        if not isinstance(module, nn.Linear) or features.shape[1] != module.in_features:
            return None, f"{name!r} is not a linear layer applied to one vector a sample"
        weight = module.weight.detach().float().clone()
        bias = None if module.bias is None else module.bias.detach().float().clone()
        head = Head(weight, bias)
        if len(weight) != logits.shape[1]:
            return None, f"{name!r} has {len(weight)} outputs, not {logits.shape[1]}"
        terms = Head(weight.abs(), None if bias is None else bias.abs())(features.abs())
        miss = ((head(features) - logits).abs() / terms.clamp(min=1e-30)).max()
        if not miss <= self._tolerance:
            return None, f"the logits are not the output of the last linear layer, {name!r}"
        return head, ""

    @property
    def _tolerance(self) -> float:
        if self.precision == "bf16" or self._dtype in (torch.bfloat16, torch.float16):
            return _TOLERANCE["bf16"]
        return _TOLERANCE["tf32" if self.device.type == "cuda" and _tf32() else "fp32"]

    def _no_layer(self, modules: Mapping[str, nn.Module]) -> str:
        if self.head_name:
            return f"the layer {self.head_name!r} was never called: name one that is, by head="
        leaves = [name for name, m in modules.items() if name and not list(m.children())]
        return (
            "the network calls no torch.nn.Linear, so its features cannot be found: name the layer "
            f"whose input they are by head=; candidates, last first: {', '.join(leaves[:-9:-1])}"
        )

    def _hook_head(self, module: nn.Module) -> RemovableHandle:
        keep: Callable[..., None] = self._keeper("features", features_of)
        return module.register_forward_pre_hook(keep)

    def _keeper(self, name: str, reduction: Reduction) -> Callable[..., None]:
        def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any = None) -> None:
            value = inputs[0] if output is None else output
            self._captured.kept[name] = reduction(value.detach()).float()

        return keep


class _Captured(threading.local):
    """What the hooks keep: two threads must not see each other's features."""

    def __init__(self) -> None:
        # Not only in a run: another probe may run a module that this one has hooked too.
        self.kept: dict[str, Tensor] = {}


def _logits(output: Any, images: Tensor) -> Tensor:
    return logits_of(output, len(images)).float()


def _recorder(name: str, calls: dict[str, tuple[nn.Module, Tensor]]) -> Callable[..., None]:
    def record(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        calls.pop(name, None)  # a layer called again moves to the end: the order is that of calls
        if inputs and isinstance(inputs[0], Tensor):
            calls[name] = (module, inputs[0].detach())

    return record


def _tf32() -> bool:
    matmul = torch.backends.cuda.matmul
    # Torch 2.9 brought another name, and once it is used the older one raises.
    newer = getattr(matmul, "fp32_precision", None)
    return bool(matmul.allow_tf32) if newer is None else newer == "tf32"


def _module(network: nn.Module, name: str) -> nn.Module:
    modules = dict(network.named_modules())
    if name not in modules or not name:
        raise ArgumentError(
            f"the network has no layer {name!r}; it has {', '.join(list(modules)[1:40])}"
        )
    module: nn.Module = modules[name]
    return module


def as_device(device: str | torch.device | None) -> torch.device | None:
    """A device that is there.

    Raises:
        ArgumentError: there is none of that name, or this machine or build of torch lacks it.
    """
    if device is None:
        return None
    try:
        made = torch.device(device)
    except RuntimeError as error:
        raise ArgumentError(f"device {device!r}: {str(error).splitlines()[0]}") from error
    if made.type == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(f"device {device!r} was asked for, and torch sees no such device here")
    return made


def device_of(modules: Sequence[nn.Module]) -> torch.device:
    """Where the first of the modules' tensors is."""
    # Asked at every call of a guard, and network.parameters() would walk every module's children.
    for module in modules:
        for tensor in chain(module._parameters.values(), module._buffers.values()):
            if tensor is not None:
                return tensor.device
    return torch.device("cpu")


def dtype_of(modules: Sequence[nn.Module]) -> torch.dtype:
    """What the first of the modules' real parameters is made of."""
    for module in modules:
        for tensor in module._parameters.values():
            if tensor is not None and tensor.is_floating_point():
                return tensor.dtype
    return torch.float32


def placed(
    network: nn.Module,
    modules: Sequence[nn.Module],
    asked: torch.device | None,
    stack: ExitStack,
) -> torch.device:
    """Where a network runs: moved to where it is asked to be, until the stack closes."""
    home = device_of(modules)  # the caller may have moved it since
    if asked is None or asked == home:
        return home
    stack.callback(network.to, home)
    network.to(asked)
    return asked
