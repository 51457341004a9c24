"""What is said beside the error of a network that fails on what it is given."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from offmap._utils.failures import of_machine
from offmap._utils.inputs import Inputs, Prepared
from offmap.errors import OffmapError

_FAILS = "the network fails on "


def tell_given(error: Exception, inputs: Inputs | Prepared) -> None:
    """Note what a network was given, where it may be of a size that it does not take."""
    if isinstance(error, OffmapError) or of_machine(error) or failed_on(error):
        return
    given = inputs.inputs if isinstance(inputs, Prepared) else inputs
    shapes = _shape(given) if isinstance(given, Tensor) else _shapes(given)
    error.add_note(f"{_FAILS}inputs of shape {shapes}: is it that of what it was trained on?")


def failed_on(error: BaseException) -> str | None:
    """What was noted of a network's error; ``None`` of all others."""
    notes: Sequence[str] = getattr(error, "__notes__", ())
    return next((note for note in notes if note.startswith(_FAILS)), None)


def _shape(x: Tensor) -> str:
    return str(tuple(x.shape))


def _shapes(given: Inputs) -> str:
    assert not isinstance(given, Tensor)
    return ", ".join(f"{name} {_shape(x)}" for name, x in given.items())
