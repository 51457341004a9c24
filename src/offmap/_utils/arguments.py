"""Checks of numbers that users, cards and command lines give; they may hold anything."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

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


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The name that was meant, as the beginning of a message; empty if none is like it.

    Capitals, hyphens and the like make no difference.

    >>> did_you_mean("CIFAR-1O", ["cifar10", "svhn"])
    "did you mean 'cifar10'? "
    """
    plain: dict[str, str] = {}
    for known in names:  # of names that are one without signs, such as mds and mds++, the first
        plain.setdefault(re.sub(r"[\W_]", "", known.lower()), known)
    close = get_close_matches(re.sub(r"[\W_]", "", name.lower()), plain, n=1)
    return f"did you mean {plain[close[0]]!r}? " if close else ""


def does_not_exist(path: Path) -> str:
    """That the first missing part of a path is not there, and which of its neighbours was meant.

    >>> does_not_exist(Path(".") / "no such folder" / "test")
    'no such folder does not exist: '
    """
    while not path.parent.exists():
        path = path.parent
    return f"{path} does not exist: {did_you_mean(path.name, names_in(path.parent))}"


def names_in(folder: Path) -> list[str]:
    """What lies in a folder, or the beginning of it: a folder may hold a million files."""
    try:
        return [entry.name for entry in islice(folder.iterdir(), 2000)]
    except OSError:  # a file, or a folder that may not be read
        return []


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
