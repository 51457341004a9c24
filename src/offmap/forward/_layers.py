"""Layers by rule, and what happens to layers while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from offmap.activations import Tap
from offmap.activations.taps import Reduction
from offmap.errors import ArgumentError
from offmap.forward._calls import first_input
from offmap.forward._outputs import first_tensor

Edit = Callable[[Tensor], Tensor]
_NORMS = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
# Their outputs of three axes are lines, (n, c, s); those of others are tokens, (n, t, c).
_OF_LINES = nn.Conv1d | nn.BatchNorm1d | nn.SyncBatchNorm | nn.InstanceNorm1d
# The reductions that tell channels from positions.
_BY_CHANNEL = ("mean", "max", "moments", "norm", "gram")
# Layers that pass their input on, and attention weights, give no feature map of their own.
_NO_LAYERS = (
    *(nn.Identity, nn.Softmax, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.AlphaDropout, nn.FeatureAlphaDropout),
)
_NORM = ()  # stands for a size of map
# Ends kept of each size: the last ones may turn out to be called again, on another size.
_CANDIDATES = 8


@dataclass(frozen=True)
class End:
    """The end of a layer's forward pass.

    Args:
        name: of the layer.
        place: in the order of all ends.
        rows: of its output.
        values: its output, reduced by each tap.
    """

    name: str
    place: int
    rows: int
    values: dict[Tap, Tensor]


class Ends:
    """Which layers end last: of each size of feature map, and of the batch normalisations.

    A stage ends behind its blocks. Maps of one pixel are vectors. The values are those of the taps,
    so the batch on which rules are resolved need not run twice.

    Hooks keep the last call of a layer. So one ReLU that serves all stages is the last layer of no
    earlier size, and that of the last size only where there is no other.

    Args:
        taps: rules, each with its reduction.
    """

    def __init__(self, taps: Sequence[Tap]) -> None:
        self._taps = taps
        self._ends: dict[tuple[int, ...], dict[str, End]] = {}
        self._sizes: dict[str, set[tuple[int, ...] | None]] = {}
        self._count = 0

    def record(self, name: str, module: nn.Module, output: Any) -> None:
        """Record the end of a layer."""
        for ends in self._ends.values():
            ends.pop(name, None)
        tensor = isinstance(output, Tensor)
        is_map = tensor and output.ndim == 4 and max(output.shape[2:]) > 1
        size = tuple(output.shape[2:]) if is_map else None
        self._sizes.setdefault(name, set()).add(size)
        if size is not None and not isinstance(module, _NO_LAYERS):
            self._add(size, name, module, output)
        if tensor and isinstance(module, _NORMS):
            self._add(_NORM, name, module, output)

    def _add(self, size: tuple[int, ...], name: str, module: nn.Module, output: Tensor) -> None:
        self._count += 1
        taps = [tap for tap in self._taps if (tap.layer == ":last_norm") is (size == _NORM)]
        values = {tap: reducer(module, tap)(output.detach()).float().clone() for tap in taps}
        ends = self._ends.setdefault(size, {})
        ends[name] = End(name, self._count, len(output), values)
        if len(ends) > _CANDIDATES:
            del ends[next(iter(ends))]

    def of_rules(self, samples: int) -> dict[str, list[End]]:
        """The layers of each rule, among those that give one row a sample."""
        by_size = {}
        for size, by_name in self._ends.items():
            ends = [end for end in by_name.values() if end.rows == samples]
            one_size = [end for end in ends if len(self._sizes[end.name]) == 1]
            by_size[size] = (one_size or ends)[-1:]
        norm = by_size.pop(_NORM, [])
        stages = sorted((end for ends in by_size.values() for end in ends), key=lambda e: e.place)
        return {":stages": stages, ":last_map": stages[-1:], ":last_norm": norm}


def reducer(module: nn.Module, tap: Tap) -> Reduction:
    """The reduction of a tap, for the outputs of such a layer."""
    of_lines = isinstance(module, _OF_LINES) and tap.reduction in _BY_CHANNEL
    return partial(_reduce_lines, tap) if of_lines else tap


def _reduce_lines(tap: Tap, output: Tensor) -> Tensor:
    return tap(output[:, :, None] if output.ndim == 3 else output)


@contextmanager
def watching(network: nn.Module, taps: Sequence[Tap]) -> Iterator[Ends]:
    """While the block runs: which layers end last."""
    ends = Ends(taps)

    def recorder(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: ends.record(name, module, output)

    with ExitStack() as stack:
        for name, module in network.named_modules():
            if name:
                stack.callback(module.register_forward_hook(recorder(name)).remove)
        yield ends


@contextmanager
def editing(network: nn.Module, edits: Mapping[str, Edit]) -> Iterator[None]:
    """Replace the outputs of layers by functions of them while the block runs."""
    modules = dict(network.named_modules())
    if unknown := [name for name in edits if name not in modules]:
        raise ArgumentError(f"the network has no layer {unknown[0]!r} to edit")

    def editor(edit: Edit) -> Callable[..., Any]:
        def change(module: nn.Module, inputs: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (edit(output[0]), *output[1:])
            return edit(first_tensor(output))

        return change

    with ExitStack() as stack:
        for name, edit in edits.items():
            # First of all hooks: the values kept of the layer are those after the edit.
            handle = modules[name].register_forward_hook(editor(edit), prepend=True)
            stack.callback(handle.remove)
        yield


@contextmanager
def hooked(layer: nn.Module, inputs: list[Tensor]) -> Iterator[None]:
    """Append the inputs of a layer while the block runs."""

    def keep(_: nn.Module, args: Any, kwargs: Any = None) -> None:
        inputs.append(first_input(args, kwargs))

    handle = layer.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
