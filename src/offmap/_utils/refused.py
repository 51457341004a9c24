"""Notes on the error of a network that fails on its inputs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from offmap._utils.failures import of_machine
from offmap._utils.inputs import Inputs, Prepared
from offmap.errors import OffmapError

_FAILS = "the network fails on "


def note_inputs(error: Exception, inputs: Inputs | Prepared) -> None:
    """Add a note of the inputs' shapes to an error that they may have caused."""
    if isinstance(error, OffmapError) or of_machine(error) or failed_on(error):
        return
    tensors = inputs.inputs if isinstance(inputs, Prepared) else inputs
    if isinstance(tensors, Tensor):
        shapes = str(tuple(tensors.shape))
    else:
        shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in tensors.items())
    error.add_note(f"{_FAILS}inputs of shape {shapes}: is it that of what it was trained on?")


def failed_on(error: BaseException) -> str | None:
    """The note on a network's error; ``None`` for other errors."""
    notes: Sequence[str] = getattr(error, "__notes__", ())
    return next((note for note in notes if note.startswith(_FAILS)), None)
