"""One network, run on a device, in a precision, with layers kept."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from offmap._utils.inputs import Inputs, Prepared, count_of
from offmap._utils.precision import without_autocast
from offmap._utils.refused import note_inputs
from offmap.activations import Activations, Sample, Tap
from offmap.errors import ArgumentError, NeedsError
from offmap.forward._calls import Call, capturing
from offmap.forward._compiled import Compiled
from offmap.forward._device import as_device, device_of, dtype_of, placed
from offmap.forward._evaluating import EAGER, evaluating
from offmap.forward._keeping import Keeping
from offmap.forward._layers import editing
from offmap.forward._names import InputFilter
from offmap.forward._outputs import is_compiled, logits_of, unwrapped
from offmap.forward._preparing import Preparing, copied
from offmap.forward._scale import OUTPUTS, as_logits
from offmap.forward._taps import Taps
from offmap.forward.any_probe import AnyProbe
from offmap.forward.computing import COMPUTING
from offmap.forward.normalization import Normalization


class OneNetwork(AnyProbe):
    """Runs one network, without a head or features.

    The arguments are those of :class:`offmap.Probe`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        taps: Sequence[Tap],
        device: str | torch.device | None,
        precision: str,
        channels_last: bool | None,
        normalization: Callable[[Tensor], Tensor] | None,
        outputs: str,
    ) -> None:
        super().__init__()
        if outputs not in OUTPUTS:
            raise ArgumentError(f"outputs must be one of {', '.join(OUTPUTS)}; seen {outputs!r}")
        if precision not in ("fp32", "bf16"):
            raise ArgumentError(f"precision must be 'fp32' or 'bf16'; seen {precision!r}")
        self.network = unwrapped(network)
        self._opaque = is_opaque(network)
        self._fast = Compiled.of(network)
        self._taps = Taps(self.network, taps)
        self.precision = precision
        self.outputs = outputs
        self.preparing = Preparing(normalization, channels_last)
        self.asked_device = as_device(device)
        self._modules = list(self.network.modules())
        self.device = self.asked_device or device_of(self._modules)
        self._dtype = dtype_of(self._modules)
        self._filter = InputFilter(self.network)
        self.takes = self._filter.parameters
        self._compiled = any(is_compiled(module) for module in self._modules)
        self._unhooked: list[tuple[str, Call]] = []  # keys and calls without hooks

    def _renew(self) -> None:
        super()._renew()
        self._keeping = Keeping()
        self._copy: nn.Module | None = None

    def _renew_locks(self) -> None:
        super()._renew_locks()
        self._differentiating = threading.RLock()
        self._compiling = threading.RLock()

    def _prepare(self, stack: ExitStack) -> None:
        evaluating(self.network, self._modules, stack)
        self._copy = None
        self._dtype = dtype_of(self._modules)
        self.device = placed(self.network, self._modules, self.asked_device, stack)
        self._taps.hook(self._keeping, stack)

    @property
    def normalization(self) -> Any:
        """The function applied to images."""
        return self.preparing.normalization

    @property
    def floats(self) -> str | None:
        """The form of float images, once some came."""
        return self.preparing.floats

    @floats.setter
    def floats(self, form: str | None) -> None:
        self.preparing.floats = form

    @property
    def channels_last(self) -> bool | None:
        """Memory layout of images."""
        return self.preparing.channels_last

    @property
    def taps(self) -> tuple[Tap, ...]:
        """Other layers that are kept."""
        return tuple(self._taps)

    @property
    def layers(self) -> dict[str, Any]:
        """The layers of each rule."""
        return dict(self._taps.layers)

    def resolve(self, layers: Mapping[str, Sequence[str]]) -> None:
        """Take the layers of each rule from an earlier run of the same network."""
        self._taps.layers = {rule: tuple(names) for rule, names in layers.items()}

    def prepared(self, inputs: Inputs | Prepared) -> Inputs:
        """The inputs as the network takes them: on its device, normalised, in its layout."""
        return self.preparing(inputs, self.device, self._dtype)

    def taken(self, inputs: Any) -> Any:
        """The inputs without columns that the network does not take, such as row numbers."""
        return inputs if isinstance(inputs, Tensor) else self._filter(inputs)

    def _typed(self, x: Tensor) -> Tensor:
        """Floats in the network's type; whole numbers, such as tokens, as they are."""
        return x.to(self._dtype) if x.is_floating_point() else x

    def logits(self, inputs: Inputs | Prepared) -> Tensor:
        """The logits of a batch alone, for which no head is looked for."""
        with self.opened():
            return self._logits(self._run(inputs)[0], count_of(inputs))

    def _logits(self, output: Any, samples: Any) -> Tensor:
        return self._logits_on_device(output, samples).to(self.home)

    def _logits_on_device(self, output: Any, samples: Any) -> Tensor:
        """The logits on the device of the network."""
        return as_logits(own_copy(logits_of(output, samples)), self.outputs)

    def _run(self, inputs: Inputs | Prepared) -> tuple[Any, dict[str, Tensor]]:
        """The output of the network, and the values that the hooks kept."""
        if not torch.is_grad_enabled():
            return self._prepared_pass(inputs)
        with torch.no_grad():
            return self._prepared_pass(inputs)

    def _prepared_pass(self, inputs: Inputs | Prepared) -> tuple[Any, dict[str, Tensor]]:
        try:
            return self._pass(self.prepared(inputs))
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            if not self.preparing.refuses(error):
                note_inputs(error, inputs)
                raise
            return self._pass(self.prepared(inputs))

    def _pass(self, x: Inputs, *, gradients: bool = False) -> tuple[Any, dict[str, Tensor]]:
        x = self.taken(x)
        if self._fast is not None and self._fast.ready and not gradients:
            with COMPUTING, self._autocast():
                result = self._fast(x, self._compiling)
            if result is not None:
                return result[0], self._at_home(result[1])
        values = self._keeping.begin(gradients=gradients)
        # Hooks do not fire inside compiled code, so compiled parts of the network run as written.
        try:
            with COMPUTING, self._pass_context(x):
                output = self.network(x) if isinstance(x, Tensor) else self.network(**x)
        finally:  # a pass that failed, too, must not hold on to what it kept
            self._keeping.end()
        return output, self._at_home(values)

    def _at_home(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        home = self.home
        return {name: x.to(home) for name, x in values.items()}

    def _pass_context(self, x: Inputs) -> AbstractContextManager[Any]:
        """The context of a pass: its precision, and the capture of calls that no hook sees."""
        if not self._compiled and not self._unhooked:
            return self._autocast()
        stack = ExitStack()
        stack.enter_context(self._autocast())
        if self._compiled:
            stack.enter_context(EAGER)
        for key, call in self._unhooked:
            stack.enter_context(capturing(call, count_of(x), partial(self._keep, key, call)))
        return stack

    def _keep(self, key: str, call: Call, x: Tensor, place: str) -> None:
        self._keeping.keeper(key + place, call.reduce)(x)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return without_autocast(self.device)

    @property
    def bears_inference(self) -> bool:
        """Whether it runs uncompiled and without autocast."""
        if self._compiled or self._opaque or self._fast or self.precision == "bf16":
            return False
        # Autocast would keep the weights that it cast for the caller, too.
        return not torch.is_autocast_enabled(self.device.type)

    @abstractmethod
    def _activations(self, output: Any, values: dict[str, Tensor], samples: int) -> Activations:
        """The activations from the network's output and the values that the hooks kept."""

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
        rerun, under = partial(self._rerun, unit=unit), partial(self._logits_under, unit=unit)
        return Sample(acts, x, rerun, dict(self.network.named_parameters()), under)

    def _unit(self, x: Tensor) -> Tensor:
        """Images in [0, 1], on the device."""
        x = x.to(self.device)
        return x.float() / 255 if x.dtype == torch.uint8 else x.float()

    def _is_unit(self, x: Tensor) -> bool:
        """Whether these images are normalised here, by a function with gradients."""
        normalised_here = x.dtype == torch.uint8 or self.preparing.floats == "unit"
        return normalised_here and isinstance(self.normalization, Normalization)

    def _rerun(
        self, inputs: Tensor, *, edit: Mapping[str, Callable[..., Tensor]] | None = None, unit: bool
    ) -> Activations:
        """The activations of other inputs, with gradients where enabled."""
        x = self.normalization.of_unit(inputs) if unit else inputs
        edits = {self._taps.layer_name(layer): change for layer, change in (edit or {}).items()}
        with editing(self.network, edits):
            # A copy: the network may work in place, and these are run again, or have gradients.
            x = self.preparing.laid_out(self._typed(x)).clone()
            return self._activations(*self._pass(x, gradients=True), len(inputs))

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

    def traced_logits(self, images: Tensor) -> Tensor:
        x = self._traced_inputs(images)
        return self._logits_on_device(self.network(x), x.shape[0])

    def _traced_inputs(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            return self._typed(self.normalization(images))
        return self._typed(self.normalization.of_unit(images) if self._is_unit(images) else images)


def is_opaque(network: nn.Module) -> bool:
    """Whether it is TorchScript, which takes no hooks."""
    return isinstance(unwrapped(network), torch.jit.ScriptModule)


def own_copy(x: Tensor) -> Tensor:
    """A copy in float32: a network may return its input, or fill the same output again."""
    return x.float() if torch.compiler.is_exporting() else x.to(torch.float32, copy=True)
