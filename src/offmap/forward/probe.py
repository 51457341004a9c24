"""A network with its head found and hooked, without touching the network's code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
from operator import attrgetter
from typing import Any, Never

import torch
from torch import Tensor, nn
from torch.func import functional_call

from offmap._utils.inputs import Inputs, Prepared, count_of
from offmap._utils.precision import without_autocast
from offmap.activations import Activations, Head, Heads, Sample, Tap
from offmap.errors import ArgumentError, NeedsError
from offmap.forward._calls import LINEAR, VECTOR, Call, Vectors, capturing, recording
from offmap.forward._compiled import Compiled, Place
from offmap.forward._device import as_device, device_of, dtype_of, placed
from offmap.forward._evaluating import EAGER, evaluating
from offmap.forward._head import Found, check_others, found, found_for, number_of, tolerance
from offmap.forward._keeping import Keeping, hook_before
from offmap.forward._layers import editing, hooked
from offmap.forward._outputs import (
    is_compiled,
    logits_of,
    unwrapped,
    vectors_of,
)
from offmap.forward._preparing import Preparing, copied
from offmap.forward._scale import OUTPUTS, as_logits, check_scale
from offmap.forward._taps import Taps, module_of
from offmap.forward.any_probe import AnyProbe
from offmap.forward.computing import COMPUTING
from offmap.forward.normalization import Normalization
from offmap.forward.options import check_options

_NO_LOGITS = "the network returns features, and no logits"
_ANOTHER_WAY = (
    "was called for the first batch, and not for this one: name a layer that all inputs pass, by "
    "head="
)


class Probe(AnyProbe):
    """Runs a network on images and keeps what the detectors read.

    The head is the last linear map, a layer or a call of torch's ``linear``, for which ``W h + b``
    equals the logits on the first batch, up to one factor; or the mean of the last two. The
    features are its input. Otherwise ``head`` is ``None``, ``why_no_head`` says why, and
    the features are the input of the layer that was named, of the map that comes nearest, or
    missing. Use it as a context manager: evaluation mode is set at the start, and mode, device and
    hooks are as before at the end; a call outside of it opens it for that call. Threads may share a
    probe. The head is looked for once in the life of a probe.

    Args:
        network: any classifier; its output may be a tensor, tuple, dict, or object with ``logits``.
        head: name of the last linear layer, as in ``network.named_modules()``, or two joined by
            "+" whose outputs are averaged; by default the network's attribute ``head_layer``, where
            it has one; or the head itself, :class:`Head`, where no layer is it:
            then the features are the vectors from which it makes the logits.
        taps: other layers to keep, each with the reduction that is applied inside the hook.
        device: where to run; by default where the network is.
        precision: "fp32", or "bf16" for autocast. Activations leave as float32 in either.
        channels_last: memory layout of the images; by default channels last, unless the network
            refuses that.
        normalization: applied to uint8 images, and to floats if the first lie in [0, 1]; by default
            uint8 images are brought to [0, 1], and refused where the first images were floats that
            lie outside of it.
        outputs: what the network returns: "logits", "probabilities", "log_probabilities"; or
            "features" alone, for the detectors that need no logits: an encoder, or
            ``torch.nn.Identity()`` over features that are at hand.

    Raises:
        HeadError: on the first batch, if the layer named is not called, or the head that was given
            fits nothing in the network.
        ShapeError: what the network returns holds no logits, or not first.
        DataError: it returns probabilities where logits are expected.
        ArgumentError: a name is not one of the network's modules, there is no such device,
            or no such argument.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        head: str | Head | None = None,
        taps: Sequence[Tap] = (),
        device: str | torch.device | None = None,
        precision: str = "fp32",
        channels_last: bool | None = None,
        normalization: Callable[[Tensor], Tensor] | None = None,
        outputs: str = "logits",
        **unknown: Never,
    ) -> None:
        check_options(unknown, Probe)
        super().__init__()
        self._opaque = isinstance(unwrapped(network), torch.jit.ScriptModule)
        if self._opaque and (head is not None or taps):
            raise ArgumentError("TorchScript takes no hooks: give the network it was made from")
        if outputs not in OUTPUTS:
            raise ArgumentError(f"outputs must be one of {', '.join(OUTPUTS)}; seen {outputs!r}")
        if precision not in ("fp32", "bf16"):
            raise ArgumentError(f"precision must be 'fp32' or 'bf16'; seen {precision!r}")
        self.network = unwrapped(network)
        self._fast = Compiled.of(network)
        # Where no map gives the logits, a network may say itself whose input its features are.
        own = getattr(self.network, "head_layer", None)
        head = own if head is None and isinstance(own, str) else head
        self.asked_head = head
        self.head_name = None if isinstance(head, Head) else head
        self.head: Head | None = None
        self.why_no_head = "the network has not run yet"
        self._taps = Taps(self.network, taps)
        self.precision = precision
        self.outputs = outputs
        self.preparing = Preparing(normalization, channels_last)
        self.asked_device = as_device(device)
        self._modules = list(self.network.modules())
        self.device = self.asked_device or device_of(self._modules)
        self._dtype = dtype_of(self._modules)
        self._found: Found | None = None
        self._unhooked: list[tuple[int, Call]] = []  # parts of the features that no hook sees
        self._compiled = any(is_compiled(module) for module in self._modules)
        for name in head.split("+") if isinstance(head, str) else []:
            if not name.startswith(LINEAR):
                module_of(self.network, name)

    def _renew(self) -> None:
        super()._renew()
        self._keeping = Keeping()

    def _renew_locks(self) -> None:
        super()._renew_locks()
        self._finding = threading.RLock()
        self._differentiating = threading.RLock()
        self._compiling = threading.RLock()

    @property
    def normalization(self) -> Any:
        """What is applied to images."""
        return self.preparing.normalization

    @property
    def floats(self) -> str | None:
        """In what form float images come."""
        return self.preparing.floats

    @floats.setter
    def floats(self, form: str | None) -> None:
        self.preparing.floats = form

    @property
    def channels_last(self) -> bool | None:
        """Memory layout of images."""
        return self.preparing.channels_last

    @property
    def unverified(self) -> str:
        """Why the features may not be the input of the head, if it was not said that they are."""
        if self._found is None or not self._found.calls or self.knows_head or self.asked_head:
            return ""
        return str(self.why_no_head)

    def _prepare(self, stack: ExitStack) -> None:
        evaluating(self.network, self._modules, stack)
        self._copy: nn.Module | None = None
        self._dtype = dtype_of(self._modules)
        self.device = placed(self.network, self._modules, self.asked_device, stack)
        self._taps.hook(self._keeping, stack)
        if self._found is not None:
            self._hook_features(self._found)
            self._hook_compiled()

    def __call__(self, inputs: Inputs | Prepared) -> Activations:
        """The activations of a batch of images, uint8 or normalised, or of other inputs."""
        with self.opened():
            if not self._taps.resolved:
                with self._finding:
                    if not self._taps.resolved:
                        run = partial(self._ran, inputs)
                        acts = self._taps.resolve(run, self._keeping, self._stack)
                        self._hook_compiled()
                        return acts
            return self._ran(inputs)

    def _ran(self, inputs: Inputs | Prepared) -> Activations:
        if self._found is None:
            with self._finding:
                if self._found is None:
                    return self._first(inputs)
        return self._kept(*self._run(inputs), count_of(inputs))

    def _kept(self, output: Any, kept: dict[str, Tensor], samples: int) -> Activations:
        """The activations of what the network returned and the hooks kept."""
        assert self._found is not None
        if self.outputs == "features":
            return Activations(None, _own(vectors_of(output, samples)), kept)
        logits = self._logits(output, samples)
        calls = enumerate(self._found.calls)
        parts = [self._part(kept, _key(i), call, logits) for i, call in calls]
        there = [part for part in parts if part is not None]
        if len(there) < len(parts):
            return Activations(logits, None, kept, absent=f"{self.head_name!r} {_ANOTHER_WAY}")
        features = there[0] if len(there) == 1 else torch.cat(there, dim=1) if there else None
        return Activations(logits, features, kept, absent=self.why_no_head)

    def _part(self, kept: dict[str, Tensor], key: str, call: Call, logits: Tensor) -> Tensor | None:
        """One part of the features, if it was kept."""
        if not call.name.startswith(VECTOR):
            return kept.pop(key, None)
        names = [name for name in kept if name.startswith(key)]
        vectors = {int(name.removeprefix(key)[1:-1]): kept.pop(name) for name in names}
        number = call.number
        if bool(logits.isfinite().all(1).any()):  # else nothing tells which they are
            assert self.head is not None
            near = tolerance(self.precision, self._dtype, self.device)
            plain = {n: x.detach() for n, x in vectors.items()}
            with torch.no_grad(), without_autocast(self.device):
                number = number_of(self.head, plain, logits.detach(), near)
        return None if number is None else vectors.get(number)

    @property
    def taps(self) -> tuple[Tap, ...]:
        """Other layers that are kept."""
        return tuple(self._taps)

    @property
    def layers(self) -> dict[str, Any]:
        """The layers that each rule stands for."""
        return dict(self._taps.layers)

    def resolve(self, layers: Mapping[str, Sequence[str]]) -> None:
        """Take the layers that rules stand for from an earlier run of the same network."""
        self._taps.layers = {rule: tuple(names) for rule, names in layers.items()}

    def sample(self, inputs: Inputs | Prepared) -> Sample:
        """The activations of a batch, with the way to run other inputs with gradients."""
        if not isinstance(inputs, Tensor):
            raise NeedsError(
                "a detector runs the network on other inputs, and these are several tensors by "
                "name: such detectors are for images and other single tensors of floats"
            )
        with self.opened():
            acts = self(copied(inputs))
            unit = self._is_unit(inputs)
            x = self._unit(inputs) if unit else self.prepared(inputs)
        assert isinstance(x, Tensor)
        again, under = partial(self._again, unit=unit), partial(self._logits_under, unit=unit)
        return Sample(acts, x, again, dict(self.network.named_parameters()), under)

    def _unit(self, x: Tensor) -> Tensor:
        """Images in [0, 1], on the device."""
        x = x.to(self.device)
        return x.float() / 255 if x.dtype == torch.uint8 else x.float()

    def _is_unit(self, x: Tensor) -> bool:
        """Whether the normalisation is ours, and can be done with gradients."""
        normalised_here = x.dtype == torch.uint8 or self.preparing.floats == "unit"
        return normalised_here and isinstance(self.normalization, Normalization)

    def _again(
        self, inputs: Tensor, *, edit: Mapping[str, Callable[..., Tensor]] | None = None, unit: bool
    ) -> Activations:
        """The activations of other inputs, with gradients where they are asked for."""
        x = self.normalization.of_unit(inputs) if unit else inputs
        edits = {self._taps.named(layer): change for layer, change in (edit or {}).items()}
        with editing(self.network, edits):
            # A copy: the network may work in place, and these are run again, or have gradients.
            x = self.preparing.laid_out(self._typed(x)).clone()
            return self._kept(*self._pass(x, gradients=True), len(inputs))

    def _logits_under(
        self, inputs: Tensor, parameters: Mapping[str, Tensor], *, unit: bool
    ) -> Tensor:
        """The logits of inputs for other values of the parameters; hooks keep nothing."""
        if self._compiled or self._opaque:
            raise NeedsError(
                "a detector differentiates with respect to the network's parameters, and compiled "
                "code hides them: give the network that it was compiled from"
            )
        x = self.normalization.of_unit(inputs) if unit else inputs
        # Not the network itself: other threads may run it while its parameters are exchanged.
        with self._differentiating:
            self._keeping.begin(gradients=True)
            twin = self._twin()
            try:
                output = functional_call(twin, dict(parameters), (self._typed(x).clone(),))
            finally:
                self._keeping.end()
        return self._logits(output, len(inputs))

    def _twin(self) -> nn.Module:
        """A copy of the network that shares its tensors."""
        if self._copy is None:
            tensors = [*self.network.parameters(), *self.network.buffers()]
            self._copy = deepcopy(self.network, {id(x): x for x in tensors})
        return self._copy

    def traced(self, images: Tensor) -> Activations:
        """The same as a call, in terms that a trace can follow."""
        x = self._traced_inputs(images)
        calls = self._found.calls if self._found else ()
        inputs: list[list[Tensor]] = [[] for _ in calls]
        layers: dict[str, Tensor] = {}
        with ExitStack() as stack:
            stack.enter_context(self._taps.traced(layers))
            for call, own in zip(calls, inputs, strict=True):
                stack.enter_context(self._tracing(call, own))
            output = self.network(x)
        if self.outputs == "features":
            return Activations(None, vectors_of(output, x.shape[0]).float(), layers)
        logits = self._logits(output, x.shape[0])
        parts = [call.reduce(own[-1]).float() for call, own in zip(calls, inputs, strict=True)]
        features = torch.cat(parts, dim=1) if parts else None
        return Activations(logits, features, layers, absent=self.why_no_head)

    def _tracing(self, call: Call, own: list[Tensor]) -> AbstractContextManager[Any]:
        if call.number is None:
            return hooked(self.network.get_submodule(call.name), own)
        raise NeedsError(
            f"the features come from {call.name}, a call of no layer, which a graph does not show: "
            "call the layer itself, as self.fc(h), to export this guard"
        )

    def traced_logits(self, images: Tensor) -> Tensor:
        x = self._traced_inputs(images)
        return self._logits(self.network(x), x.shape[0])

    def _traced_inputs(self, images: Tensor) -> Tensor:
        x = images
        if images.dtype == torch.uint8:
            x = self.normalization(images)
        elif self._is_unit(images):
            x = self.normalization.of_unit(images)
        return self._typed(x)

    def _typed(self, x: Tensor) -> Tensor:
        """Floats in the network's type; whole numbers, such as tokens, as they are."""
        return x.to(self._dtype) if x.is_floating_point() else x

    def logits(self, inputs: Inputs | Prepared) -> Tensor:
        """The logits of a batch alone, for which no head is looked for."""
        with self.opened():
            return self._logits(self._run(inputs)[0], count_of(inputs))

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

    def prepared(self, inputs: Inputs | Prepared) -> Inputs:
        """The inputs as the network takes them: on its device, normalised, in its layout."""
        return self.preparing(inputs, self.device, self._dtype)

    def _run(self, inputs: Inputs | Prepared) -> tuple[Any, dict[str, Tensor]]:
        """What the network returns, and what the hooks kept."""
        if not torch.is_grad_enabled():
            return self._prepared_pass(inputs)
        with torch.no_grad():
            return self._prepared_pass(inputs)

    def _prepared_pass(self, inputs: Inputs | Prepared) -> tuple[Any, dict[str, Tensor]]:
        try:
            return self._pass(self.prepared(inputs))
        except RuntimeError as error:
            if not self.preparing.refuses(error):
                raise
            return self._pass(self.prepared(inputs))

    def _pass(self, x: Inputs, *, gradients: bool = False) -> tuple[Any, dict[str, Tensor]]:
        if self._fast is not None and self._fast.ready and not gradients:
            with COMPUTING, self._autocast():
                passed = self._fast(x, self._compiling)
            if passed is not None:
                return passed
        kept = self._keeping.begin(gradients=gradients)
        # Hooks do not fire inside compiled code, so compiled parts of the network run as written.
        with COMPUTING, self._around(x):
            output = self.network(x) if isinstance(x, Tensor) else self.network(**x)
        self._keeping.end()
        return output, kept

    @property
    def bears_inference(self) -> bool:
        """Whether it runs as it is written, and without autocast."""
        if self._compiled or self._opaque or self._fast or self.precision == "bf16":
            return False
        # Autocast would keep the weights that it cast for the caller, too.
        return not torch.is_autocast_enabled(self.device.type)

    def _around(self, x: Inputs) -> AbstractContextManager[Any]:
        """What a pass is run in: its precision, and what sees to all that hooks do not."""
        if not self._compiled and not self._unhooked:
            return self._autocast()
        stack = ExitStack()
        stack.enter_context(self._autocast())
        if self._compiled:
            stack.enter_context(EAGER)
        for i, call in self._unhooked:
            stack.enter_context(capturing(call, count_of(x), partial(self._keep, i, call)))
        return stack

    def _keep(self, i: int, call: Call, x: Tensor, place: str) -> None:
        self._keeping.keeper(_key(i) + place, call.reduce)(x)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return without_autocast(self.device)

    def _first(self, inputs: Inputs | Prepared) -> Activations:
        """Run the first batch, and keep the place in the network where the features are."""
        if not (samples := count_of(inputs)):
            raise ArgumentError("the first batch holds no images, and the head is looked for on it")
        if self.outputs == "features":
            self._found = Found((), None, _NO_LOGITS)
            self.why_no_head = _NO_LOGITS
            return self._kept(*self._run(inputs), samples)
        near = tolerance(self.precision, self._dtype, self.device)
        look = self._fit_head if isinstance(self.asked_head, Head) else self._look_for_head
        of, kept, logits = look(inputs, samples, near)
        features = of.features
        self.head_name, self.head, self.why_no_head = of.name, self._whole(of.head), of.why
        self._hook_features(of)
        self._unhooked = [(i, call) for i, call in enumerate(of.calls) if call.number is not None]
        self._found = of.without_features()
        self._hook_compiled()
        return Activations(logits, features, kept, absent=of.why)

    def _whole(self, head: Head | None) -> Head | None:
        """The head with the rows for names that are no class, where the network has such."""
        rows = getattr(self.network, "negatives", None)
        if head is None or head.negatives is not None or not isinstance(rows, Tensor):
            return head
        return replace(head, negatives=rows.detach().float())

    def _look_for_head(
        self, inputs: Inputs | Prepared, samples: int, near: float
    ) -> tuple[Found, dict[str, Tensor], Tensor]:
        modules = {} if self._opaque else dict(self.network.named_modules())
        with recording(modules, self.head_name) as calls:
            output, kept = self._run(inputs)
        logits = self._logits(output, samples)
        with without_autocast(self.device):
            check_scale(logits, self.outputs)
            of = found(calls, modules, self.head_name, logits, near)
            if of.head is None:
                check_others(calls, output, logits, near)
        return of, kept, logits

    def _fit_head(
        self, inputs: Inputs | Prepared, samples: int, near: float
    ) -> tuple[Found, dict[str, Tensor], Tensor]:
        head, arrays = self.asked_head.to(self.device), []
        shape = (samples, head.weight.shape[1])
        with Vectors(shape, lambda number, x: arrays.append((number, x.detach().clone()))):
            output, kept = self._run(inputs)
        logits = self._logits(output, samples)
        with without_autocast(self.device):
            return found_for(head, arrays, logits, near), kept, logits

    def _logits(self, output: Any, samples: Any) -> Tensor:
        return as_logits(_own(logits_of(output, samples)), self.outputs)

    def _hook_compiled(self) -> None:
        """Keep all in compiled code, once it is known which layers that are."""
        calls = self._found.calls if self._found else ()
        if self._fast is None or self._unhooked or not self._taps.resolved:
            return
        parts = [Place(_key(i), call.name, call.reduce) for i, call in enumerate(calls)]
        places = self._taps.places()
        layers = [Place(key, name, reduce, behind=True) for name, reduce, key in places]
        self._fast.hook([*parts, *layers], self._stack)

    def _hook_features(self, of: Found) -> None:
        for i, call in enumerate(of.calls):
            if call.number is None:
                keep = self._keeping.keeper(_key(i), call.reduce)
                layer = _getter(call.name)(self.network)
                self._stack.callback(hook_before(layer, keep).remove)


@cache
def _getter(name: str) -> Callable[[nn.Module], Any]:
    # get_submodule() says more of a wrong name, and takes longer at every call of a guard.
    return attrgetter(name) if name else lambda network: network  # one that is itself the layer


@cache
def _key(i: int) -> str:
    """Under which part ``i`` of the features is kept: no layer has such a name."""
    return f"features {i}"


def _own(x: Tensor) -> Tensor:
    """A float32 copy: a network may hand on its input, or fill the same output again."""
    return x.float() if torch.compiler.is_exporting() else x.to(torch.float32, copy=True)
