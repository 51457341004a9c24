"""Checks of the arguments that networks share; a card or a command line may hold anything."""

from __future__ import annotations

import math
from typing import Any

from offmap.errors import ArgumentError


def count(name: str, value: Any) -> None:
    """Refuse what is no whole number from 1 up."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ArgumentError(f"{name} must be a whole number from 1 up; seen {value!r}")


def share(name: str, value: Any) -> None:
    """Refuse what is not in [0, 1)."""
    if not _is_number(value) or not 0 <= value < 1:
        raise ArgumentError(f"{name} must be a number from 0 up and below 1; seen {value!r}")


def factor(name: str, value: Any) -> None:
    """Refuse what is no finite number above 0."""
    if not _is_number(value) or not 0 < value < math.inf:
        raise ArgumentError(f"{name} must be a number above 0; seen {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
