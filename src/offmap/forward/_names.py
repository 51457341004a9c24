"""Inputs by name: the columns of a batch that a network takes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from torch import Tensor, nn

from offmap._utils.warning import warn_user
from offmap.errors import DataError, InputsWarning


class InputFilter:
    """Leaves out of a batch what a network does not take, such as row numbers; warns once of each.

    Args:
        network: the signature of its ``forward`` names its inputs.

    Attributes:
        parameters: the names of its parameters.
    """

    def __init__(self, network: nn.Module) -> None:
        kinds = inspect.Parameter
        try:
            parameters = list(inspect.signature(network.forward).parameters.values())
            takes_any = any(p.kind is kinds.VAR_KEYWORD for p in parameters)
        except (TypeError, ValueError):  # of code that is not Python's
            parameters, takes_any = [], True
        several = (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
        self.parameters = frozenset(p.name for p in parameters if p.kind not in several)
        self._names = None if takes_any else self.parameters
        self._reported: set[str] = set()

    def __call__(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The inputs that it takes.

        Raises:
            DataError: it takes none of them.
        """
        if self._names is None or self._names.issuperset(inputs):
            return inputs
        extras = [name for name in inputs if name not in self._names]
        if len(extras) == len(inputs):
            raise DataError(
                f"the batches hold {', '.join(extras)}, and the network takes "
                f"{', '.join(sorted(self._names))}: give what it takes under these names, or one "
                "tensor alone"
            )
        if not self._reported.issuperset(extras):
            self._reported.update(extras)
            words = f"the network takes no {', '.join(extras)}, and is run without"
            warn_user(words, InputsWarning)
        return {name: x for name, x in inputs.items() if name in self._names}
