"""Layers by rule, and what happens to layers while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from offmap.activations import Tap
from offmap.errors import ArgumentError
from offmap.forward._calls import given_to
from offmap.forward._outputs import first_tensor

Edit = Callable[[Tensor], Tensor]
_NORMS = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm


Found = dict[tuple[int, ...], tuple[str, dict[Tap, Tensor]]]


@contextmanager
def watching(network: nn.Module, taps: Sequence[Tap]) -> Iterator[tuple[Found, Found]]:
    """While the block runs: by size of feature map the layer that is finished last, and its values.

    Beside it, without a size, the batch normalisation that is finished last. A stage is finished
    behind its blocks. Maps of one pixel are vectors. The values are those of the taps, so the batch
    on which rules are resolved need not run twice.
    """
    last: Found = {}
    norm: Found = {}

    def values(output: Tensor, *, of_norm: bool) -> dict[Tap, Tensor]:
        wanted = [tap for tap in taps if (tap.layer == ":last_norm") is of_norm]
        return {tap: tap(output.detach()).float().clone() for tap in wanted}

    def recorder(name: str) -> Callable[..., None]:
        def record(module: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                return
            if output.ndim == 4 and max(output.shape[2:]) > 1:
                size = tuple(output.shape[2:])
                last.pop(size, None)  # the order is that of the ends
                last[size] = name, values(output, of_norm=False)
            if isinstance(module, _NORMS):
                norm[()] = name, values(output, of_norm=True)

        return record

    with ExitStack() as stack:
        for name, module in network.named_modules():
            if name:
                stack.callback(module.register_forward_hook(recorder(name)).remove)
        yield last, norm


@contextmanager
def editing(network: nn.Module, edits: Mapping[str, Edit]) -> Iterator[None]:
    """Put functions of layers' outputs in their place while the block runs."""
    modules = dict(network.named_modules())
    if missing := [name for name in edits if name not in modules]:
        raise ArgumentError(f"the network has no layer {missing[0]!r} to edit")

    def editor(edit: Edit) -> Callable[..., Any]:
        def change(module: nn.Module, inputs: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (edit(output[0]), *output[1:])
            return edit(first_tensor(output))

        return change

    with ExitStack() as stack:
        for name, edit in edits.items():
            # First of all hooks: what is kept of the layer is what came out of the edit.
            handle = modules[name].register_forward_hook(editor(edit), prepend=True)
            stack.callback(handle.remove)
        yield


@contextmanager
def hooked(layer: nn.Module, inputs: list[Tensor]) -> Iterator[None]:
    """Append the inputs of a layer while the block runs."""

    def keep(_: nn.Module, args: Any, kwargs: Any = None) -> None:
        inputs.append(given_to(args, kwargs))

    handle = layer.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
