"""Calls in inference mode, where a guard allows it: a batch of one takes some percent less time.

A tensor made in that mode can never take part in training, so none may stay behind in the network,
such as a table of positions that it makes for a new length, or in a detector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from offmap._utils.inputs import Inputs

M = TypeVar("M")
T = TypeVar("T")
_SHAPES = 256  # that are remembered
_DEPTH = 4  # of containers in a module that are searched
_TRIALS = 2  # calls with a shape: a normal one, and one after which tensors are searched


class Light:
    """Runs a network in inference mode from the second call with a shape on.

    The first call is a normal one, in which layers make what they keep for a shape. After the
    second the modules are searched: if one holds a tensor of inference mode, or failed in it, as
    those do that take gradients inside, that call is repeated, and all later ones are normal.
    ``make`` runs outside of the mode, so what it returns can be used in any mode.
    """

    def __init__(self) -> None:
        self._calls: dict[Any, int] = {}
        self._enabled = True

    def __call__(
        self, module: nn.Module, x: Inputs, run: Callable[[], M], make: Callable[[M], T]
    ) -> T:
        """``make(run())``, of which ``run`` is in inference mode where that is possible."""
        calls = self._count(x)
        if not self._enabled or calls == 0:
            return make(run())
        try:
            with torch.inference_mode():
                acts = run()
            output = make(acts)
        except RuntimeError:
            output = make(run())  # an error with another cause is raised again
            self._enabled = False
            return output
        remains = (x for part in module.modules() for x in _tensors(vars(part), _DEPTH))
        if calls < _TRIALS and any(x.is_inference() for x in remains):
            self._enabled = False
            return make(run())
        return output

    def _count(self, x: Inputs) -> int:
        """How many calls there were before with inputs of this shape."""
        shape = _shape(x) if isinstance(x, Tensor) else tuple((n, _shape(v)) for n, v in x.items())
        calls = self._calls.get(shape, 0)
        if calls < _TRIALS and (calls or len(self._calls) < _SHAPES):
            self._calls[shape] = calls + 1
        return calls


def _shape(x: Tensor) -> tuple[Any, ...]:
    return x.shape, x.dtype, x.device


def _tensors(value: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, dict | list | tuple | set):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _tensors(each, depth - 1)
