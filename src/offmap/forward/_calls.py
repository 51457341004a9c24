"""What a network calls on its way to the logits: the maps that may be its head, and their inputs.

Layers are seen by hooks. Maps that no hook sees (``self.fc.forward(h)``, ``F.linear(h, weight)``)
are seen as calls of torch's functions, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from offmap.activations import Head
from offmap.forward._outputs import features_of

_CONVOLUTIONS = nn.Conv1d | nn.Conv2d | nn.Conv3d
# Names of what has none: the calls of linear, and the vectors that any function takes or gives.
LINEAR, VECTOR = ":linear", ":vector"


@dataclass(frozen=True)
class Call:
    """One call of a map.

    Args:
        name: of the layer, or ``:linear[k]`` for the k-th call of torch's function.
        features: what it is given, one row a sample where that is so, ``(n, d)``.
        reduce: makes such rows of any input.
        map: the linear map, ``None`` for other layers.
        number: among the calls of that function, where no hook sees it.
    """

    name: str
    features: Tensor
    reduce: Callable[[Tensor], Tensor]
    map: Head | None
    number: int | None = None

    def without_features(self) -> Call:
        """The same without the rows of a batch, and without a map of that time."""
        return replace(self, features=self.features[:0], map=None)


def tokens(x: Tensor) -> Tensor:
    """Vectors ``(n, d)``: those of several tokens ``(n, ..., d)`` are averaged."""
    return x if x.ndim < 3 else x.flatten(1, -2).mean(1)


def maps(x: Tensor) -> Tensor:
    """Vectors ``(n, d)`` of feature maps ``(n, d, ...)``."""
    return x if x.ndim < 3 else x.flatten(2).mean(2)


def map_of(module: nn.Module | None) -> tuple[Head | None, Callable[[Tensor], Tensor]]:
    """The linear map of a layer, and how its inputs become rows: other layers have none."""
    if isinstance(module, nn.Linear):
        return Head(module.weight.detach(), _detached(module.bias)), tokens
    if isinstance(module, _CONVOLUTIONS) and set(module.kernel_size) == {1} == {module.groups}:
        return Head(module.weight.detach().flatten(1), _detached(module.bias)), maps
    return None, features_of


def _detached(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach()


def given_to(args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> Any:
    """The first of a layer's inputs, by place or by name."""
    return args[0] if args else next(iter((kwargs or {}).values()), None)


@contextmanager
def recording(modules: Mapping[str, nn.Module], named: str | None) -> Iterator[list[Call]]:
    """While the block runs: the last call of each layer that is a linear map, or was named."""
    calls: dict[str, Call] = {}
    names = named.split("+") if named else []
    wanted = {n: m for n, m in modules.items() if (n in names if names else map_of(m)[0])}

    def recorder(name: str, module: nn.Module) -> Callable[..., None]:
        linear, reduce = map_of(module)

        def record(_: nn.Module, args: tuple[Any, ...], kwargs: Any = None) -> None:
            calls.pop(name, None)  # a layer called again moves to the end, in the order of calls
            if isinstance(x := given_to(args, kwargs), Tensor) and x.ndim:
                # A copy, because what follows may work in place.
                calls[name] = Call(name, reduce(x.detach()).clone(), reduce, linear)

        return record

    by_weight = {id(m.weight): n for n, m in modules.items() if isinstance(m, nn.Linear)}

    def see(number: int, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        name = by_weight.get(id(weight), f"{LINEAR}[{number}]")
        if name in calls or (names and name not in names):
            return  # a hook saw it, or nobody asked
        linear = Head(weight.detach(), _detached(bias))
        calls[name] = Call(name, tokens(x.detach()).clone(), tokens, linear, number)

    with ExitStack() as stack:
        for name, module in wanted.items():
            hook = recorder(name, module)
            handle = module.register_forward_pre_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        stack.enter_context(_Linears(see))
        result: list[Call] = []
        yield result
        result.extend(calls[n] for n in names or calls if n in calls)


class _Linears(TorchFunctionMode):
    """Tells of every call of torch's linear."""

    def __init__(self, see: Callable[..., None]) -> None:
        super().__init__()
        self.see, self.number = see, 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear:
            values = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
            self.see(self.number, values["input"], values["weight"], values.get("bias"))
            self.number += 1
        return func(*args, **kwargs)


class Vectors(TorchFunctionMode):
    """Tells of every array of one shape that a function of torch takes or gives."""

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


def capturing(call: Call, samples: int, keep: Callable[[Tensor], None]) -> TorchFunctionMode:
    """A context in which the input of a call is kept that no hook sees."""

    def see(number: int, x: Tensor, *_: Any) -> None:
        if number == call.number:
            keep(x)

    if call.name.startswith(VECTOR):
        return Vectors((samples, call.features.shape[1]), see)
    return _Linears(see)
