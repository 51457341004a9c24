"""Passes in inference mode, which take a batch of one some percent less, where a network bears it.

What is made in that mode can never take part in a training, so nothing of it may stay behind in the
network, such as a table of positions that it makes when it meets a new length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from offmap._utils.inputs import Inputs

_SHAPES = 256  # that are kept in mind
_DEPTH = 4  # of containers in a module that are looked into
_LOOKED_AT = 2  # passes of a shape: one as usual, and one whose remains are looked for


class Light:
    """Runs a network in inference mode from the second pass of a shape on.

    The first pass is one without gradients, as what is kept for a shape is made then. After the
    second the network is looked through: if it holds a tensor of that mode, or failed in it, as one
    does that takes gradients inside, that pass is done again, and all others are as the first.
    """

    def __init__(self) -> None:
        self._passes: dict[Any, int] = {}
        self._borne = True

    def __call__(self, network: nn.Module, x: Inputs, run: Callable[[], Any]) -> tuple[Any, bool]:
        """What ``run()`` gives for inputs, and whether that was made in inference mode."""
        passes = self._count(x)
        if not self._borne or passes == 0 or _casts():
            return run(), False
        try:
            with torch.inference_mode():
                output = run()
        except RuntimeError:
            output = run()  # an error that has another cause comes again
            self._borne = False
            return output, False
        if passes < _LOOKED_AT and any(map(_left_behind, network.modules())):
            self._borne = False
            return run(), False
        return output, True

    def _count(self, x: Inputs) -> int:
        """How many passes of this shape there were."""
        shape = _shape(x) if isinstance(x, Tensor) else tuple((n, _shape(v)) for n, v in x.items())
        passes = self._passes.get(shape, 0)
        if passes < _LOOKED_AT and (passes or len(self._passes) < _SHAPES):
            self._passes[shape] = passes + 1
        return passes


def _casts() -> bool:
    """Whether autocast keeps the weights that it cast, for the caller too."""
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


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
