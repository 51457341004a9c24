"""The options by which a network is run, as types, and a check of their names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor

from offmap._utils.arguments import did_you_mean
from offmap.activations import Tap
from offmap.errors import ArgumentError


class RunOptions(TypedDict, total=False):
    """Arguments of :class:`Probe`, without the normalisation."""

    head: Any  # a name or a head; of an ensemble, one of these for each member
    taps: Sequence[Tap]
    device: str | torch.device | None
    precision: str
    channels_last: bool | None
    outputs: str


class ProbeOptions(RunOptions, total=False):
    """Arguments of :class:`Probe`."""

    normalization: Callable[[Tensor], Tensor] | None


_OPTIONS = tuple(ProbeOptions.__annotations__)


def check_options(options: Iterable[str], call: Callable[..., Any]) -> None:
    """Refuse options that neither a probe nor the called function takes.

    Args:
        options: the names that were given.
        call: the function or class, whose own arguments are options too.

    Raises:
        ArgumentError: there is no such option; the message suggests the nearest.
    """
    if unknown := next((name for name in options if name not in _OPTIONS), None):
        parameters = inspect.signature(call).parameters.values()
        arguments = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
        names = list(dict.fromkeys([*arguments, *_OPTIONS]))
        raise ArgumentError(
            f"{call.__name__} has no option {unknown!r}: {did_you_mean(unknown, names)}It takes "
            f"{', '.join(names)}"
        )
