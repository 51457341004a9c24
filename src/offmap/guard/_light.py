"""Calls in inference mode, which take a batch of one some percent less, where a guard bears it.

What is made in that mode can never take part in a training, so nothing of it may stay behind in the
network, such as a table of positions that it makes when it meets a new length, or in a detector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from offmap._utils.inputs import Inputs

M = TypeVar("M")
T = TypeVar("T")
_SHAPES = 256  # that are kept in mind
_DEPTH = 4  # of containers in a module that are looked into
_LOOKED_AT = 2  # calls of a shape: one as usual, and one whose remains are looked for


class Light:
    """Runs a network in inference mode from the second call with a shape on.

    The first call is one as usual, as what is kept for a shape is made then. After the second the
    modules are looked through: if they hold a tensor of that mode, or failed on one, as those do
    that take gradients inside, that call is done again, and all others are as the first. What is
    made of its output is made outside of the mode, and so in tensors that any mode takes.
    """

    def __init__(self) -> None:
        self._calls: dict[Any, int] = {}
        self._borne = True

    def __call__(
        self, module: nn.Module, x: Inputs, run: Callable[[], M], make: Callable[[M], T]
    ) -> T:
        """``make(run())``, for inputs."""
        calls = self._count(x)
        if not self._borne or calls == 0:
            return make(run())
        try:
            with torch.inference_mode():
                made = run()
            output = make(made)
        except RuntimeError:
            output = make(run())  # an error that has another cause comes again
            self._borne = False
            return output
        if calls < _LOOKED_AT and any(map(_left_behind, module.modules())):
            self._borne = False
            return make(run())
        return output

    def _count(self, x: Inputs) -> int:
        """How many calls with this shape there were."""
        shape = _shape(x) if isinstance(x, Tensor) else tuple((n, _shape(v)) for n, v in x.items())
        calls = self._calls.get(shape, 0)
        if calls < _LOOKED_AT and (calls or len(self._calls) < _SHAPES):
            self._calls[shape] = calls + 1
        return calls


def _shape(x: Tensor) -> tuple[Any, ...]:
    return x.shape, x.dtype, x.device


def _left_behind(module: nn.Module) -> bool:
    return any(x.is_inference() for x in _tensors(vars(module), _DEPTH))


def _tensors(value: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, dict | list | tuple | set):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _tensors(each, depth - 1)
