"""One network with its head, found and hooked without a change of the network's code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Never

import torch
from torch import Tensor, nn

from offmap._utils.inputs import Inputs, Prepared, count_of
from offmap._utils.precision import without_autocast
from offmap.activations import Activations, Head, Heads, Tap
from offmap.errors import ArgumentError, NeedsError
from offmap.forward._calls import LINEAR, VECTOR, Call, Vectors, recording
from offmap.forward._compiled import Place
from offmap.forward._head import (
    HeadMatch,
    check_others,
    confirm_head,
    find_head,
    match_head,
    number_of,
    tolerance,
)
from offmap.forward._keeping import hook_before, key_of, layer_of
from offmap.forward._layers import hooked
from offmap.forward._one_network import OneNetwork, is_opaque, own_copy
from offmap.forward._order import Origins, check_order
from offmap.forward._outputs import vectors_of
from offmap.forward._scale import ScaleCheck
from offmap.forward._taps import module_of
from offmap.forward._tokens import token_inputs
from offmap.forward.options import check_options

_NO_LOGITS = "the network returns features, and no logits"


class Probe(OneNetwork):
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
        if is_opaque(network) and (head is not None or taps):
            raise ArgumentError("TorchScript takes no hooks: give the network it was made from")
        super().__init__(
            network, taps=taps, device=device, precision=precision, channels_last=channels_last,
            normalization=normalization, outputs=outputs,
        )  # fmt: skip
        # Where no map gives the logits, a network may itself name the layer of its features.
        layer = getattr(self.network, "head_layer", None)
        head = layer if head is None and isinstance(layer, str) else head
        self.asked_head = head
        self.head_name = None if isinstance(head, Head) else head
        self.head: Head | None = None
        self.why_no_head = "the network has not run yet"
        self._match: HeadMatch | None = None
        self._scale = ScaleCheck(outputs)
        for name in head.split("+") if isinstance(head, str) else []:
            if not name.startswith(LINEAR):
                module_of(self.network, name)

    def _renew_locks(self) -> None:
        super()._renew_locks()
        self._search_lock = threading.RLock()

    def _prepare(self, stack: ExitStack) -> None:
        super()._prepare(stack)
        if self.head is not None and self.head.weight.device != self.home:
            self.head = self.head.to(self.home)  # the network was moved since
        if self._match is not None:
            self._hook_features(self._match)
            self._hook_compiled()

    def __call__(self, inputs: Inputs | Prepared) -> Activations:
        """The activations of a batch of images, uint8 or normalised, or of other inputs."""
        with self.opened():
            if not self._taps.resolved:
                with self._search_lock:
                    if not self._taps.resolved:
                        run = partial(self._run_batch, inputs)
                        acts = self._taps.resolve(run, self._keeping, self._stack)
                        self._hook_compiled()
                        return acts
            return self._run_batch(inputs)

    def _run_batch(self, inputs: Inputs | Prepared) -> Activations:
        if self._match is None:
            with self._search_lock:
                if self._match is None:
                    return self._run_first(inputs)
        return self._activations(*self._run(inputs), count_of(inputs))

    def _activations(self, output: Any, values: dict[str, Tensor], samples: int) -> Activations:
        """The activations of what the network returned and the hooks kept."""
        assert self._match is not None
        if self.outputs == "features":
            return Activations(None, own_copy(vectors_of(output, samples)).to(self.home), values)
        logits = self._logits(output, samples)
        self._scale.look_at(logits)
        calls = enumerate(self._match.calls)
        parts = [self._feature_part(values, key_of(i), call, logits) for i, call in calls]
        arrays = [x for x in parts if x is not None]
        if len(arrays) < len(parts):
            absent = (
                f"{self.head_name!r} was called for the first batch, and not for this one: name a "
                "layer that all inputs pass, by head="
            )
            return Activations(logits, None, values, absent=absent)
        features = torch.cat(arrays, dim=1) if len(arrays) > 1 else next(iter(arrays), None)
        if self._match.of_one and features is not None and self.head is not None:
            margin = tolerance(self.precision, self._dtype, self.device)
            with without_autocast(self.device):
                self._match = confirm_head(self._match, self.head, features, logits, margin)
        return Activations(logits, features, values, absent=self.why_no_head)

    def _feature_part(
        self, values: dict[str, Tensor], key: str, call: Call, logits: Tensor
    ) -> Tensor | None:
        """One part of the features, ``None`` if its layer did not run."""
        if not call.name.startswith(VECTOR):
            x = values.pop(key, None)
            return None if x is None else self._head_input(call, x, logits)
        names = [name for name in values if name.startswith(key)]
        vectors = {int(name.removeprefix(key)[1:-1]): values.pop(name) for name in names}
        number = call.number
        if bool(logits.isfinite().all(1).any()):  # else nothing shows which they are
            assert self.head is not None
            margin = tolerance(self.precision, self._dtype, self.device)
            detached = {n: x.detach() for n, x in vectors.items()}
            with torch.no_grad(), without_autocast(self.device):
                number = number_of(self.head, detached, logits.detach(), margin)
        return None if number is None else vectors.get(number)

    def _head_input(self, call: Call, x: Tensor, logits: Tensor) -> Tensor:
        """The input of a head: of all tokens, the one that the logits come from."""
        return token_inputs(x, self.head, logits) if call.one_token and self.head else x

    def traced(self, images: Tensor) -> Activations:
        """The same as a call, by operations that can be traced."""
        x = self._traced_inputs(images)
        calls = self._match.calls if self._match else ()
        inputs: list[list[Tensor]] = [[] for _ in calls]
        layers: dict[str, Tensor] = {}
        with self._taps.traced(layers), ExitStack() as stack:
            for call, layer_inputs in zip(calls, inputs, strict=True):
                stack.enter_context(self._tracing(call, layer_inputs))
            output = self.network(x)
        if self.outputs == "features":
            return Activations(None, vectors_of(output, x.shape[0]).float(), layers)
        logits = self._logits_on_device(output, x.shape[0])
        rows = [c.reduce(xs[-1]).float() for c, xs in zip(calls, inputs, strict=True)]
        parts = [self._head_input(c, x, logits) for c, x in zip(calls, rows, strict=True)]
        features = torch.cat(parts, dim=1) if parts else None
        return Activations(logits, features, layers, absent=self.why_no_head)

    def _tracing(self, call: Call, inputs: list[Tensor]) -> AbstractContextManager[Any]:
        if call.number is None:
            return hooked(self.network.get_submodule(call.name), inputs)
        raise NeedsError(
            f"the features come from {call.name}, a call of no layer, which a graph does not show: "
            "call the layer itself, as self.fc(h), to export this guard"
        )

    @property
    def unverified(self) -> str:
        """Why the features may not be the input of the head, unless the user named its layer."""
        if self._match is None or not self._match.calls or self.knows_head or self.asked_head:
            return ""
        return str(self.why_no_head)

    @property
    def knows_head(self) -> bool:
        """Whether a head was found."""
        return self.head is not None

    def adopt(self, head: Head | Heads | None) -> None:
        """Take the head from an earlier run of the same network."""
        assert not isinstance(head, tuple)
        self.head = None if head is None else head.to(self.home)
        absent = "no head was found when these activations were stored"
        self.why_no_head = "" if self.knows_head else absent

    def _run_first(self, inputs: Inputs | Prepared) -> Activations:
        """Run the first batch, find the head, and hook the layers of its input."""
        if not (samples := count_of(inputs)):
            raise ArgumentError("the first batch holds no images, and the head is looked for on it")
        if self.outputs == "features":
            self._match = HeadMatch((), None, _NO_LOGITS)
            self.why_no_head = _NO_LOGITS
            return self._activations(*self._run(inputs), samples)
        margin = tolerance(self.precision, self._dtype, self.device)
        search = self._fit_head if isinstance(self.asked_head, Head) else self._look_for_head
        match, layers, logits = search(inputs, samples, margin)
        match, logits = match.to(self.home), logits.to(self.home)
        self.head_name, self.why_no_head = match.name, match.reason
        self.head = self._with_negatives(match.head)
        self._hook_features(match)
        self._unhooked = [(key_of(i), c) for i, c in enumerate(match.calls) if c.number is not None]
        self._match = match.without_features()
        self._hook_compiled()
        return Activations(logits, match.features, layers, absent=match.reason)

    def _with_negatives(self, head: Head | None) -> Head | None:
        """The head with the rows of a zero-shot network for names that are no class."""
        rows = getattr(self.network, "negatives", None)
        if head is None or head.negatives is not None or not isinstance(rows, Tensor):
            return head
        return replace(head, negatives=rows.detach().float().to(self.home))

    def _look_for_head(
        self, inputs: Inputs | Prepared, samples: int, margin: float
    ) -> tuple[HeadMatch, dict[str, Tensor], Tensor]:
        modules = {} if self._opaque else dict(self.network.named_modules())
        with recording(modules, self.head_name) as calls, Origins(samples) as made:
            output, layers = self._run(inputs)
        logits = self._logits_on_device(output, samples)
        with without_autocast(self.device):
            self._scale.look_at(logits)
            match = find_head(calls, modules, self.head_name, logits, margin)
            check_others(calls, match, output, logits, margin, made)
            check_order(output, logits, made)
        return match, layers, logits

    def _fit_head(
        self, inputs: Inputs | Prepared, samples: int, margin: float
    ) -> tuple[HeadMatch, dict[str, Tensor], Tensor]:
        head, arrays = self.asked_head.to(self.device), []
        shape = (samples, head.weight.shape[1])
        with Vectors(shape, lambda number, x: arrays.append((number, x.detach().clone()))):
            output, layers = self._run(inputs)
        logits = self._logits_on_device(output, samples)
        with without_autocast(self.device):
            return match_head(head, arrays, logits, margin), layers, logits

    def _hook_compiled(self) -> None:
        """Hook the compiled network, once its layers are resolved."""
        if self._fast is None or self._unhooked or not self._taps.resolved:
            return
        calls = enumerate(self._match.calls if self._match else ())
        parts = [Place(key_of(i), call.name, call.reduce) for i, call in calls]
        layers = [Place(key, n, reduce, of_output=True) for n, reduce, key in self._taps.places()]
        self._fast.hook([*parts, *layers], self._stack)

    def _hook_features(self, match: HeadMatch) -> None:
        for i, call in enumerate(match.calls):
            if call.number is None:
                keep = self._keeping.keeper(key_of(i), call.reduce)
                self._stack.callback(hook_before(layer_of(call.name)(self.network), keep).remove)
