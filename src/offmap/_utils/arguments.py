"""Refusals of arguments that no work should be begun with."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from difflib import get_close_matches

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


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The name that was meant, as the beginning of a message; empty if none is like it.

    Capitals, hyphens and the like make no difference.

    >>> did_you_mean("CIFAR-1O", ["cifar10", "svhn"])
    "did you mean 'cifar10'? "
    """
    plain = {re.sub(r"[\W_]", "", known.lower()): known for known in names}
    close = get_close_matches(re.sub(r"[\W_]", "", name.lower()), plain, n=1)
    return f"did you mean {plain[close[0]]!r}? " if close else ""
