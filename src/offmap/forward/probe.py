"""A network with its head found and hooked, without touching the network's code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from offmap._utils.precision import without_autocast
from offmap.activations import Activations, Head, Heads
from offmap.errors import ArgumentError
from offmap.forward._head import check_others, last_of, recording, tolerance, verified
from offmap.forward._lent import EAGER, evaluating
from offmap.forward._opened import Opened
from offmap.forward._outputs import features_of, is_compiled, logits_of, unwrapped
from offmap.forward._place import as_device, device_of, dtype_of, placed
from offmap.forward.normalization import Normalization

Reduction = Callable[[Tensor], Tensor]


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
        self._head_layer: nn.Module | None = None
        self._compiled = any(is_compiled(module) for module in self._modules)
        for name in [*self.layers, *([head] if head else [])]:
            _module(self.network, name)

    def _renew(self) -> None:
        super()._renew()
        self._captured = _Captured()
        self._finding = threading.Lock()

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
        modules = dict(self.network.named_modules())
        with recording(modules, self.head_name) as calls:
            output, kept = self._run(images)
        name, module, inputs = last_of(calls, modules, self.head_name)
        logits, features = _logits(output, images), features_of(inputs).float()
        near = tolerance(self.precision, self._dtype, self.device)
        with without_autocast(self.device):
            head, why = verified(name, module, features, logits, near)
            if head is None:
                check_others(name, module, features, output, logits, near)
        self.head_name, self.head, self.why_no_head = name, head, why
        self._stack.callback(self._hook_head(module).remove)
        self._head_layer = module
        return Activations(logits, features, kept)

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


def _module(network: nn.Module, name: str) -> nn.Module:
    modules = dict(network.named_modules())
    if name not in modules or not name:
        raise ArgumentError(
            f"the network has no layer {name!r}; it has {', '.join(list(modules)[1:40])}"
        )
    module: nn.Module = modules[name]
    return module
