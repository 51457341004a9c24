"""Inputs by name: those that a network takes, of the columns that stand in a batch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from torch import Tensor, nn

from offmap._utils.warning import warn_user
from offmap.errors import DataError, InputsWarning


class Taking:
    """Leaves out of a batch what a network does not take, such as the number of a row, once told.

    Args:
        network: whose ``forward`` says what it takes.

    Attributes:
        named: what it takes by a name of its own.
    """

    def __init__(self, network: nn.Module) -> None:
        self.named, others = _names_of(network)
        self._names = None if others else self.named
        self._told: set[str] = set()

    def __call__(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The inputs that it takes.

        Raises:
            DataError: it takes none of them.
        """
        if self._names is None or self._names.issuperset(inputs):
            return inputs
        others = [name for name in inputs if name not in self._names]
        if len(others) == len(inputs):
            raise DataError(
                f"the batches hold {', '.join(others)}, and the network takes "
                f"{', '.join(sorted(self._names))}: give what it takes under these names, or one "
                "tensor alone"
            )
        if not self._told.issuperset(others):
            self._told.update(others)
            words = f"the network takes no {', '.join(others)}, and is run without"
            warn_user(words, InputsWarning)
        return {name: x for name, x in inputs.items() if name in self._names}


def _names_of(network: nn.Module) -> tuple[frozenset[str], bool]:
    """What a network can be given by name, and whether it may be given other names, too."""
    try:
        parameters = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):  # of code that is not Python's
        return frozenset(), True
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = frozenset(each.name for each in parameters if each.kind not in several)
    return names, any(each.kind is each.VAR_KEYWORD for each in parameters)
