"""Reading of arguments, as far as the parser does not do it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from offmap.errors import ArgumentError

_NAMED = re.compile(r"(?P<name>[\w.-]*\w)=(?P<value>.+)")


@dataclass
class _Run:
    """An option, its values, and the other words up to the next option.

    Args:
        option: as it was written.
        parameter: of the parser, if it knows the option.
    """

    option: str = ""
    parameter: Any = None
    values: list[str] = field(default_factory=list)
    free: list[str] = field(default_factory=list)

    @property
    def most(self) -> float:
        """How many values the option takes; none if it is unknown, or a flag."""
        if self.parameter is None or getattr(self.parameter, "is_flag", False):
            return 0
        return math.inf if self.parameter.multiple else 1

    @classmethod
    def each(cls, arguments: Sequence[str], options: Mapping[str, Any]) -> Iterator[Self]:
        """The runs of a command's own arguments, given its options by their names."""
        run = cls()
        for argument in arguments:
            # "-" is standard input, and behind "--" no word is an option.
            if argument.startswith("-") and argument != "-" and run.option != "--":
                yield run
                run = cls(argument, options.get(argument))
            elif len(run.values) < run.most:
                run.values.append(argument)
            else:
                run.free.append(argument)
        yield run

    def lend(self, keep: int) -> None:
        """Give all values but the first ``keep`` to the command."""
        self.values, self.free = self.values[:keep], [*self.values[keep:], *self.free]

    def words(self) -> Iterator[str]:
        """The option before each of its values, or alone."""
        if self.option and not self.values:
            yield self.option
        for value in self.values:
            yield from (self.option, value)
        yield from self.free


def command_of(root: Any, arguments: Sequence[str]) -> tuple[Any, int]:
    """The command that arguments name, and how many of them stand before its own."""
    command, start = root, 0
    while commands := getattr(command, "commands", None):
        word = next((i for i in range(start, len(arguments)) if arguments[i][:1] != "-"), None)
        if word is None or arguments[word] not in commands:
            return command, start
        command, start = commands[arguments[word]], word + 1
    return command, start


def several(arguments: Sequence[str], root: Any) -> list[str]:
    """Let options of a command take several values: ``--near a b`` becomes ``--near a --near b``.

    What the command itself needs, such as a folder, is left to it: ``--ood a b RUN`` is
    ``--ood a --ood b RUN``.

    Args:
        arguments: of the command line.
        root: the parser, with its commands.
    """
    command, start = command_of(root, arguments)
    options = {name: p for p in command.params for name in p.opts if name.startswith("-")}
    needed = [p for p in command.params if p.param_type_name == "argument" and p.required]
    runs = list(_Run.each(arguments[start:], options))
    missing = len(needed) - sum(len(run.free) for run in runs)
    lenders = [run for run in runs if len(run.values) > missing > 0]
    if lenders:  # the command lacks arguments: they are the last values of an option, best paths
        with_paths = [run for run in lenders if Path(run.values[-missing]).exists()]
        run = (with_paths or lenders)[-1]
        run.lend(1 if any(p.nargs == -1 for p in needed) else len(run.values) - missing)
    return [*arguments[:start], *(word for run in runs for word in run.words())]


def named(values: Sequence[str]) -> dict[str, str]:
    """Data, networks or results by name, from ``NAME=DATA`` or ``DATA``, which is its own name.

    >>> named(["cameras=./other/cameras", "noise:gaussian", "./a=b/c"])
    {'cameras': './other/cameras', 'noise:gaussian': 'noise:gaussian', './a=b/c': './a=b/c'}

    Raises:
        ArgumentError: two of one name.
    """
    by_name: dict[str, str] = {}
    for value in values:
        match = None if Path(value).exists() else _NAMED.fullmatch(value)
        name, data = (match["name"], match["value"]) if match else (value, value)
        if name in by_name:
            raise ArgumentError(f"two of these are called {name!r}: give each a name, NAME={data}")
        by_name[name] = data
    return by_name


def parted(values: Sequence[str]) -> list[str]:
    """Values between commas, but for those inside brackets and quotes.

    >>> parted(["msp,ViM(dim=12)", "Combine([energy, knn], how='max')"])
    ['msp', 'ViM(dim=12)', "Combine([energy, knn], how='max')"]
    """
    parts = []
    for value in values:
        parts.append("")
        depth, quote = 0, ""
        for letter in value:
            if quote or letter in "'\"":
                quote = "" if letter == quote else quote or letter
            elif letter == "," and depth == 0:
                parts.append("")
                continue
            else:
                depth += (letter in "([") - (letter in ")]")
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def refuse_unused(options: Mapping[str, Any], why: str) -> None:
    """Refuse options that have no effect here, where they were given.

    >>> refuse_unused({"--ood": True, "--groups": None}, "without --data: give it")
    Traceback (most recent call last):
    offmap.errors.ArgumentError: --ood has no effect without --data: give it

    Args:
        options: values by name; ``None``, ``False`` and no values at all were not given.
        why: the rest of the message.

    Raises:
        ArgumentError: one was given.
    """
    names = [n for n, x in options.items() if x is not None and x is not False and x != []]
    if names:
        raise ArgumentError(f"{', '.join(names)} has no effect {why}")
