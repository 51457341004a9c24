"""Reading of arguments that the parser lacks."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def several(arguments: Sequence[str], options: Collection[str]) -> list[str]:
    """Let an option take several values: ``--near a b`` becomes ``--near a --near b``.

    >>> several(["--near", "a", "b", "--limit", "9"], {"--near"})
    ['--near', 'a', '--near', 'b', '--limit', '9']
    """
    read: list[str] = []
    current = ""
    for argument in arguments:
        if argument.startswith("-"):
            current = argument if argument in options else ""
        elif current and read[-1] != current:
            read.append(current)
        read.append(argument)
    return read
