"""Checks of arguments from users, cards and command lines, which may be anything."""

from __future__ import annotations

import math
import operator
import re
import textwrap
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from numbers import Integral, Real
from pathlib import Path

import numpy as np

from offmap.errors import ArgumentError

_LARGEST = 2**63 - 1


def whole(name: str, value: object, low: int = 1, high: int | None = None) -> int:
    """A whole number, as Python's own.

    Args:
        name: of the argument, for the message.
        value: the argument.
        low: the least that it may be.
        high: the most, if there is one; none is beyond 64 bits, which no tensor holds.

    Raises:
        ArgumentError: it is not a whole number, or outside.

    >>> whole("k", 5)
    5
    """
    try:
        number = low - 1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = low - 1
    most = _LARGEST if high is None else high
    if not low <= number <= most:
        upto = "" if high is None and number <= most else f" and at most {most}"
        raise ArgumentError(
            f"{name} must be a whole number of at least {low}{upto}; seen {_described(value)}"
        )
    return number


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The nearest name, as the beginning of a message; empty if none is near.

    Capitals, hyphens and the like make no difference.

    >>> did_you_mean("CIFAR-1O", ["cifar10", "svhn"])
    "did you mean 'cifar10'? "
    """
    by_letters: dict[str, str] = {}
    for candidate in names:  # of names that differ in signs alone, as mds and mds++, the first
        by_letters.setdefault(re.sub(r"[\W_]", "", candidate.lower()), candidate)
    close = get_close_matches(re.sub(r"[\W_]", "", name.lower()), by_letters, n=1)
    return f"did you mean {by_letters[close[0]]!r}? " if close else ""


def does_not_exist(path: Path) -> str:
    """A message that the first missing part of a path does not exist, with the nearest name.

    >>> does_not_exist(Path(".") / "no such folder" / "test")
    'no such folder does not exist: '
    """
    while not path.parent.exists():
        path = path.parent
    return f"{path} does not exist: {did_you_mean(path.name, names_in(path.parent))}"


def names_in(folder: Path) -> list[str]:
    """Names in a folder, the first 2000: a folder may hold a million files."""
    try:
        return [entry.name for entry in islice(folder.iterdir(), 2000)]
    except OSError:  # a file, or a folder that may not be read
        return []


def number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> int | float:
    """A finite real number, as Python's own.

    Args:
        name: of the argument, for the message.
        value: a number of Python or NumPy, or a fraction.
        above: what it must exceed.
        least: the least that it may be.
        below: what it must stay below.
        most: the most that it may be.

    Raises:
        ArgumentError: it is not a finite number, or outside.

    >>> number("temperature", 2, above=0)
    2
    """
    real = _as_real(value)
    if (
        real is None
        or (above is not None and not real > above)
        or (least is not None and not real >= least)
        or (below is not None and not real < below)
        or (most is not None and not real <= most)
    ):
        low, high = (above if least is None else least), (below if most is None else most)
        limits = "be a number"
        if low is not None and high is not None:
            limits = f"lie in {'[('[least is None]}{low:g}, {high:g}{')]'[most is not None]}"
        elif low is not None:
            limits += f" {'of at least' if above is None else 'above'} {low:g}"
        raise ArgumentError(f"{name} must {limits}; seen {_described(value)}")
    return real


def share(name: str, value: object) -> int | float:
    """A number in [0, 1); what :func:`number` raises."""
    return number(name, value, least=0, below=1)


def positive(name: str, value: object) -> int | float:
    """A finite number above 0; what :func:`number` raises."""
    return number(name, value, above=0)


def flag(name: str, value: object) -> bool:
    """A truth value; text such as "no", which Python counts as true, is refused.

    Raises:
        ArgumentError: it is not a truth value.
    """
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(f"{name} must be True or False; seen {_described(value)}")
    return bool(value)


def one_of(name: str, value: object, choices: Iterable[str]) -> str:
    """One of several words.

    Raises:
        ArgumentError: it is none of them.
    """
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(f"{name} must be one of {', '.join(choices)}; seen {_described(value)}")
    return str(value)


def name_or_names(name: str, value: object) -> str | list[str]:
    """A name as text, or a list of them.

    Raises:
        ArgumentError: it is neither, or an empty one.
    """
    if isinstance(value, str) and value:
        return str(value)
    names = list(value) if isinstance(value, list | tuple) else []
    if not names or not all(isinstance(item, str) and item for item in names):
        raise ArgumentError(f"{name} must be a name or a list of names; seen {_described(value)}")
    return names


def _as_real(value: object) -> int | float | None:
    """The number as an int or float of Python, ``None`` if it is not finite and real."""
    if getattr(value, "ndim", None) == 0 and not isinstance(value, np.generic):
        value = np.asarray(value)[()]  # a tensor or an array of one number
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        # Narrow types by the decimal that was typed: float32's 0.1 is above 0.1.
        real = float(str(value) if isinstance(value, np.floating) else value)
    except (OverflowError, TypeError, ValueError):
        return None
    if not math.isfinite(real):
        return None
    return int(value) if isinstance(value, Integral) and abs(int(value)) <= _LARGEST else real


def _described(value: object) -> str:
    """A value in one short line, for messages."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "a number beyond 64 bits"
    return textwrap.shorten(repr(value), 80, placeholder=" ...")
