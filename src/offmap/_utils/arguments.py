"""Checks of numbers that users, cards and command lines give; they may hold anything."""

from __future__ import annotations

import math
import operator

from offmap.errors import ArgumentError


def whole(name: str, value: object, low: int = 1, high: int | None = None) -> int:
    """A whole number.

    Args:
        name: of the argument, for the message.
        value: what the caller gave.
        low: the least that it may be.
        high: the most, if there is one.

    Raises:
        ArgumentError: it is not a whole number, or outside.

    >>> whole("k", 5)
    5
    """
    try:
        number = low - 1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = low - 1
    if not low <= number <= (number if high is None else high):
        upto = "" if high is None else f" and at most {high}"
        raise ArgumentError(
            f"{name} must be a whole number of at least {low}{upto}; seen {value!r}"
        )
    return number


def share(name: str, value: object) -> None:
    """Refuse what is not a number in [0, 1).

    Raises:
        ArgumentError: it is not.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise ArgumentError(f"{name} must be a number from 0 up and below 1; seen {value!r}")


def positive(name: str, value: object) -> None:
    """Refuse what is not a finite number above 0.

    Raises:
        ArgumentError: it is not.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ArgumentError(f"{name} must be a number above 0; seen {value!r}")
