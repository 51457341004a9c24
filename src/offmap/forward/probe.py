"""A network with its head found and hooked, without touching the network's code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from offmap._utils.precision import without_autocast
from offmap.activations import Activations, Head, Heads, Sample, Tap
from offmap.errors import ArgumentError, NeedsError
from offmap.forward._device import as_device, device_of, dtype_of, placed
from offmap.forward._evaluating import EAGER, evaluating
from offmap.forward._head import check_others, last_of, recording, tolerance, verified
from offmap.forward._layers import editing, hooked, watching
from offmap.forward._outputs import (
    features_of,
    first_tensor,
    is_compiled,
    logits_of,
    unwrapped,
)
from offmap.forward.any_probe import AnyProbe
from offmap.forward.normalization import Normalization


class Probe(AnyProbe):
    """Runs a network on images and keeps what the detectors read.

    The head is the last linear layer in call order, or the one named, if ``W h + b`` equals the
    logits on the first batch; otherwise :attr:`head` is ``None`` and :attr:`why_no_head` says why.
    The features are that layer's input. Use it as a context manager: evaluation mode is set at the
    start, and mode, device and hooks are as before at the end. Threads may share a probe. The head
    is looked for once in the life of a probe.

    Args:
        network: any classifier; its output may be a tensor, tuple, dict, or object with ``logits``.
        head: name of the last linear layer, as in ``network.named_modules()``.
        taps: other layers to keep, each with the reduction that is applied inside the hook.
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
        taps: Sequence[Tap] = (),
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
        self.taps = tuple(dict.fromkeys(taps))
        self._layers: dict[str, tuple[str, ...]] = {}
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
        named = [tap.layer for tap in self.taps if not tap.layer.startswith(":")]
        for name in [*named, *([head] if head else [])]:
            _module(self.network, name)

    def _renew(self) -> None:
        super()._renew()
        self._captured = _Captured()
        self._finding = threading.RLock()

    def _prepare(self, stack: ExitStack) -> None:
        evaluating(self.network, self._modules, stack)
        self._hooked: set[str] = set()  # taps that have their hooks
        self._dtype = dtype_of(self._modules)
        self.device = placed(self.network, self._modules, self.asked_device, stack)
        self._hook_taps()
        if self._head_layer is not None:
            stack.callback(self._hook_head(self._head_layer).remove)

    def __call__(self, images: Tensor) -> Activations:
        """The activations of a batch of images, uint8 or normalised."""
        if self._rules - set(self._layers):
            with self._finding:
                if self._rules - set(self._layers):
                    return self._find_layers(images)
        return self._ran(images)

    def _ran(self, images: Tensor) -> Activations:
        if self._head_layer is None:
            with self._finding:
                if self._head_layer is None:
                    return self._first(images)
        output, kept = self._run(images)
        features = kept.pop("features")
        return Activations(_logits(output, images), features, kept)

    @property
    def _rules(self) -> set[str]:
        return {tap.layer for tap in self.taps if tap.layer.startswith(":")}

    def _find_layers(self, images: Tensor) -> Activations:
        """Resolve the rules of the taps on the first images, and hook what they stand for.

        A rule stands for no layer where none gives feature maps.
        """
        taps = [tap for tap in self.taps if tap.layer in self._rules]
        with watching(self.network, taps) as found:
            acts = self._ran(images)
        stages = list(found.values())
        layers = {":stages": stages, ":last_map": stages[-1:]}
        values = {
            tap.key(i): of[tap] for tap in taps for i, (_, of) in enumerate(layers[tap.layer])
        }
        self._layers = {r: tuple(name for name, _ in layers[r]) for r in self._rules}
        self._hook_taps()
        return acts.replace(layers={**acts.layers, **values})

    def _hook_taps(self) -> None:
        for tap in self.taps:
            if tap.key() in self._hooked:
                continue
            named = (
                (tap.layer,) if not tap.layer.startswith(":") else self._layers.get(tap.layer, ())
            )
            for i, name in enumerate(named):
                self._hooked.add(tap.key())
                keep = self._keeper(tap.key(i), tap)
                module = _module(self.network, name)
                self._stack.callback(module.register_forward_hook(keep).remove)

    @property
    def layers(self) -> dict[str, Any]:
        """The layers that each rule stands for."""
        return dict(self._layers)

    def resolve(self, layers: Mapping[str, Sequence[str]]) -> None:
        """Take the layers that rules stand for from an earlier run of the same network."""
        self._layers = {rule: tuple(names) for rule, names in layers.items()}

    def sample(self, images: Tensor) -> Sample:
        """The activations of a batch, with the way to run other inputs with gradients."""
        acts = self(images)
        unit = images.dtype == torch.uint8 and isinstance(self.normalization, Normalization)
        inputs = images.to(self.device).float() / 255 if unit else self.prepared(images)
        return Sample(acts, inputs, partial(self._again, unit=unit))

    def _again(
        self, inputs: Tensor, *, edit: Mapping[str, Callable[..., Tensor]] | None = None, unit: bool
    ) -> Activations:
        """The activations of other inputs, with gradients where they are asked for."""
        assert self._head_layer is not None
        x = self.normalization.of_unit(inputs) if unit else inputs
        edits = {self._named(layer): change for layer, change in (edit or {}).items()}
        with editing(self.network, edits):
            output, kept = self._pass(self._laid_out(x.to(self._dtype)), gradients=True)
        features = kept.pop("features")
        return Activations(_logits(output, inputs), features, kept)

    def _named(self, layer: str) -> str:
        """The name of a layer, which may be given as a place in a rule: ``:stages[-1]``."""
        rule, _, place = layer.partition("[")
        if not rule.startswith(":"):
            return layer
        names = self._layers[rule]
        number = int(place.rstrip("]") or -1)
        if not -len(names) <= number < len(names):
            raise NeedsError(f"{layer}: the network has {len(names)} of these layers: {names}")
        return names[number]

    def traced(self, images: Tensor) -> Activations:
        """The same as a call, in terms that a trace can follow."""
        x = self._traced_inputs(images)
        if self.head_name is None:
            return Activations(logits_of(self.network(x), x.shape[0]).float())
        with hooked(self.network.get_submodule(self.head_name)) as inputs:
            logits = logits_of(self.network(x), x.shape[0])
        return Activations(logits.float(), features_of(inputs[-1]).float())

    def traced_logits(self, images: Tensor) -> Tensor:
        x = self._traced_inputs(images)
        return logits_of(self.network(x), x.shape[0]).float()

    def _traced_inputs(self, images: Tensor) -> Tensor:
        return self.normalization(images) if images.dtype == torch.uint8 else images.float()

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
        return self._laid_out(x.to(self._dtype))

    def _laid_out(self, x: Tensor) -> Tensor:
        if self.channels_last and x.ndim == 4:
            return x.contiguous(memory_format=torch.channels_last)
        return x

    def _look_at(self, images: Tensor) -> None:
        """From the first images: were they normalised by somebody else?"""
        self._assumed = not len(images)
        if images.is_floating_point() and bool(((images < 0) | (images > 1)).any()):
            self.normalization = Normalization(known=False)

    @torch.no_grad()
    def _run(self, images: Tensor) -> tuple[Any, dict[str, Tensor]]:
        """What the network returns, and what the hooks kept."""
        return self._pass(self.prepared(images))

    def _pass(self, x: Tensor, *, gradients: bool = False) -> tuple[Any, dict[str, Tensor]]:
        kept: dict[str, Tensor] = {}
        self._captured.kept, self._captured.gradients = kept, gradients
        # Hooks do not fire inside compiled code, so compiled parts of the network run as written.
        eager = EAGER if self._compiled else nullcontext()
        with eager, self._autocast():
            output = self.network(x)
        # What others run of these modules is not of this batch.
        self._captured.kept, self._captured.gradients = {}, False
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

    def _keeper(self, name: str, reduction: Callable[[Tensor], Tensor]) -> Callable[..., None]:
        def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any = None) -> None:
            value = inputs[0] if output is None else first_tensor(output)
            if self._captured.gradients:
                self._captured.kept[name] = reduction(value).float()
                return
            value = value.detach()
            reduced = reduction(value).float()
            # What comes behind may work in place, and what is kept must not change with it.
            self._captured.kept[name] = reduced.clone() if _share(reduced, value) else reduced

        return keep


def _share(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors lie in the same memory; what is traced lies in none."""
    if torch.compiler.is_exporting():
        return False
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


class _Captured(threading.local):
    """What the hooks keep: two threads must not see each other's features."""

    def __init__(self) -> None:
        # Not only in a run: another probe may run a module that this one has hooked too.
        self.kept: dict[str, Tensor] = {}
        self.gradients = False


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
