"""The linear maps that a network calls, any of which may be its head, and their inputs.

Layers are recorded by hooks. Maps that no hook sees (``self.fc.forward(h)``,
``F.linear(h, weight)``) are recorded as calls of torch's functions, and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from offmap.activations import Head
from offmap.forward._outputs import features_of
from offmap.forward._tokens import all_tokens

_CONVOLUTIONS = nn.Conv1d | nn.Conv2d | nn.Conv3d
# Names for calls without a layer: those of torch's linear, by the shape of their weights, and the
# vectors that any function takes or returns.
LINEAR, VECTOR = ":linear", ":vector"


@dataclass(frozen=True)
class Call:
    """One call of a map.

    Args:
        name: of the layer, or ``:linear[4x16][k]`` for the k-th call of torch's function with
            weights of that shape.
        features: its input, reduced to one row a sample where that is possible, ``(n, d)``.
        reduce: makes such rows of any input.
        map: the linear map, ``None`` for other layers.
        number: among the calls of that function with weights of one shape, where no hook sees it:
            how many calls precede the head may differ from batch to batch.
        tokens: its input, where that is several vectors a sample, ``(n, t, d)``; kept for the last
            call alone, as all of a transformer's would take its memory many times.
        one_token: whether the features are those of the token that the logits are made of.
        shape: of the weights, where no hook sees the call.
    """

    name: str
    features: Tensor
    reduce: Callable[[Tensor], Tensor]
    map: Head | None
    number: int | None = None
    tokens: Tensor | None = None
    one_token: bool = False
    shape: tuple[int, ...] = ()

    def without_features(self) -> Call:
        """The same without the rows of the batch, and without the map as it was then."""
        return replace(self, features=self.features[:0], map=None, tokens=None)

    def repeats(self, other: Call) -> bool:
        """Whether it applies the same map to the same vectors as another call."""
        if self.map is None or other.map is None:
            return False
        pairs = [(self.features, other.features), (self.map.weight, other.map.weight)]
        if self.map.bias is not None and other.map.bias is not None:
            pairs.append((self.map.bias, other.map.bias))
        elif self.map.bias is not other.map.bias:
            return False
        return all(same(x, y) for x, y in pairs)


def same(x: Tensor, y: Tensor) -> bool:
    """Whether two arrays are equal in shape, type, device and values; NaN equals NaN."""
    kinds = [(z.shape, z.dtype, z.device) for z in (x, y)]
    return kinds[0] == kinds[1] and torch.equal(x.nan_to_num(), y.nan_to_num())


def tokens(x: Tensor) -> Tensor:
    """Vectors ``(n, d)``: those of several tokens ``(n, ..., d)`` are averaged."""
    if x.ndim < 3:
        return x if x.ndim == 2 else x[None]  # of one sample, squeezed
    return all_tokens(x).mean(1)


def maps(x: Tensor) -> Tensor:
    """Vectors ``(n, d)`` of feature maps ``(n, d, ...)``."""
    return x if x.ndim < 3 else x.flatten(2).mean(2)


def map_of(module: nn.Module) -> tuple[Head | None, Callable[[Tensor], Tensor]]:
    """The linear map of a layer, and how its inputs become rows: other layers have none."""
    if not _is_map(module):
        return None, features_of
    weight, bias = module.weight.detach(), _detached(module.bias)  # type: ignore[operator, arg-type]
    return Head(weight.flatten(1), bias), tokens if isinstance(module, nn.Linear) else maps


def _is_map(module: nn.Module) -> bool:
    """Whether a layer is a linear map, of vectors or of the channels at each position."""
    if isinstance(module, _CONVOLUTIONS):
        return set(module.kernel_size) == {1} == {module.groups}
    return isinstance(module, nn.Linear)


def _detached(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach()


def first_input(args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> Any:
    """The first input of a layer, positional or by name."""
    return args[0] if args else next(iter((kwargs or {}).values()), None)


@contextmanager
def recording(modules: Mapping[str, nn.Module], head_name: str | None) -> Iterator[list[Call]]:
    """While the block runs: the last call of each linear map, or of the layers in ``head_name``."""
    calls: dict[str, Call] = {}
    names = head_name.split("+") if head_name else []
    layers = {n: m for n, m in modules.items() if (n in names if names else _is_map(m))}

    def keep(call: Call, x: Tensor) -> None:
        for name, earlier in calls.items():
            if earlier.tokens is not None:
                calls[name] = replace(earlier, tokens=None)
        if call.reduce is tokens and x.ndim > 2:
            # No copy, which would take the memory of a layer: no head's input is changed in place.
            call = replace(call, tokens=all_tokens(x.detach()))
        calls[call.name] = call

    def recorder(name: str) -> Callable[..., None]:
        def record(module: nn.Module, args: tuple[Any, ...], kwargs: Any = None) -> None:
            calls.pop(name, None)  # a layer called again moves to the end, in the order of calls
            if isinstance(x := first_input(args, kwargs), Tensor) and x.ndim:
                # Of this call: weights may be made, or made anew, just before it.
                linear, reduce = map_of(module)
                keep(Call(name, reduce(x.detach()).clone(), reduce, linear), x)

        return record

    # Not m.weight, which a parametrised layer computes anew at every access.
    linears = ((n, m) for n, m in modules.items() if isinstance(m, nn.Linear))
    weights = ((n, linear._parameters.get("weight")) for n, linear in linears)
    by_weight = {id(weight): n for n, weight in weights if weight is not None}

    def see(number: int, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        shape = tuple(weight.shape)
        name = by_weight.get(id(weight), f"{LINEAR}[{'x'.join(map(str, shape))}][{number}]")
        if name in calls or (names and name not in names):
            return  # recorded by a hook, or not named
        linear = Head(weight.detach(), _detached(bias))
        call = Call(name, tokens(x.detach()).clone(), tokens, linear, number, shape=shape)
        # A hooked layer may compute its weights anew, or share them with another one.
        if not any(call.repeats(layer) for layer in calls.values() if layer.number is None):
            keep(call, x)

    with ExitStack() as stack:
        for name, module in layers.items():
            handle = module.register_forward_pre_hook(recorder(name), with_kwargs=True)
            stack.callback(handle.remove)
        stack.enter_context(_Linears(see))
        result: list[Call] = []
        yield result
        result.extend(calls[n] for n in names or calls if n in calls)


class _Linears(TorchFunctionMode):
    """Reports every call of torch's linear, with its number among those of one weight shape."""

    def __init__(self, see: Callable[..., None]) -> None:
        super().__init__()
        self.see, self.calls = see, Counter[tuple[int, ...]]()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear:
            values = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
            shape = tuple(values["weight"].shape)
            self.see(self.calls[shape], values["input"], values["weight"], values.get("bias"))
            self.calls[shape] += 1
        return func(*args, **kwargs)


class Vectors(TorchFunctionMode):
    """Reports every array of one shape that a function of torch takes or returns."""

    def __init__(self, shape: tuple[int, int], see: Callable[[int, Tensor], None]) -> None:
        super().__init__()
        self.shape, self.see, self.number = shape, see, 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        for value in (*args, *kwargs.values()):
            self._look_at(value)
        result = func(*args, **kwargs)
        self._look_at(result)
        return result

    def _look_at(self, value: Any) -> None:
        if isinstance(value, Tensor) and tuple(value.shape) == self.shape:
            self.see(self.number, value)
            self.number += 1


def capturing(call: Call, samples: int, keep: Callable[[Tensor, str], None]) -> TorchFunctionMode:
    """A context in which the input of a call that no hook sees is kept.

    For a head given as :class:`Head`, every array that may be its input is kept with its number:
    how many there are differs between batches, as weights with as many rows have that shape too.
    """

    def see(number: int, x: Tensor, weight: Tensor, *_: Any) -> None:
        if (number, tuple(weight.shape)) == (call.number, call.shape):
            keep(x, "")

    if call.name.startswith(VECTOR):
        shape = samples, call.features.shape[1]
        return Vectors(shape, lambda number, x: keep(x, f"[{number}]"))
    return _Linears(see)
