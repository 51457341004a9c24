"""Which of several outputs are the logits: not one from which the network makes another."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from offmap._utils.warning import warn_user
from offmap.errors import OutputsWarning
from offmap.forward._outputs import arrays_of


class Origins(TorchFunctionMode):
    """Records which arrays functions of torch make from which, of one row a sample.

    Args:
        samples: their number.
    """

    def __init__(self, samples: int) -> None:
        super().__init__()
        self._samples = samples
        self._numbers: dict[int, int] = {}  # of the array at each place in memory
        self._sources: list[set[int]] = []  # the numbers of those that each was made from

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if place := self._place(result):
            lists = (x if isinstance(x, tuple | list) else [x] for x in args)
            places = {self._place(x) for xs in lists for x in [*xs, *(kwargs or {}).values()]}
            sources = {self._numbers[p] for p in places - {place} if p in self._numbers}
            if place in places and place in self._numbers:  # a view, or changed in place
                self._sources[self._numbers[place]] |= sources
            else:  # what lay there before is gone
                self._numbers[place] = len(self._sources)
                self._sources.append(sources)
        return result

    def _place(self, x: Any) -> int:
        if not isinstance(x, Tensor):
            return 0
        try:
            return x.data_ptr() if x.ndim and len(x) == self._samples else 0
        except (RuntimeError, ValueError):  # some kinds of tensor have no memory, or none yet
            return 0

    def lead(self, source: Tensor, result: Tensor) -> bool:
        """Whether an array was made from another, in any number of steps."""
        start = self._numbers.get(self._place(source))
        waiting, seen = [self._numbers.get(self._place(result))], set[int]()
        while waiting:
            number = waiting.pop()
            if number is None or number in seen:
                continue
            seen.add(number)
            waiting += self._sources[number]
        return start in seen and self._place(source) != self._place(result)


def check_order(output: Any, logits: Tensor, origins: Origins) -> None:
    """Warn of a network that makes a later output from its first one, as logits of an embedding.

    Args:
        output: what the network returned.
        logits: what was taken for the logits, its first array.
        origins: recorded meanwhile.

    Warns:
        OutputsWarning: it does, and the later one has another number of columns.
    """
    first, *others = [*arrays_of(output, len(logits))] or [("", logits)]
    for place, array in others:
        if array.shape[1] != logits.shape[1] and origins.lead(first[1], array):
            warn_user(
                f"the network returns several arrays; the first, of shape {tuple(logits.shape)}, "
                f"is taken for the logits, and {place}, of shape {tuple(array.shape)}, is made "
                "from it. If that one holds the logits, return it first, or as 'logits'",
                OutputsWarning,
            )
            return
