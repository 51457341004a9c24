"""Refusals of arguments that no work should be begun with."""

from __future__ import annotations

import operator

from offmap.errors import ArgumentError


def whole(name: str, value: object, low: int = 1, high: int | None = None) -> int:
    """A whole number.

    Args:
        name: of the argument, for the message.
        value: what was given.
        low: the least that it may be.
        high: the most, if there is one.

    Raises:
        ArgumentError: it is none, or outside.

    >>> whole("k", 5)
    5
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = low - 1
    if not low <= number <= (number if high is None else high):
        upto = "" if high is None else f" and at most {high}"
        raise ArgumentError(
            f"{name} must be a whole number of at least {low}{upto}; seen {value!r}"
        )
    return number
