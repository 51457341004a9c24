"""Reading of arguments that the parser lacks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence


def several(arguments: Sequence[str], options: Mapping[str, Collection[str]]) -> list[str]:
    """Let options of a command take several values: ``--near a b`` becomes ``--near a --near b``.

    >>> several(["bench", "--near", "a", "b", "--limit", "9"], {"bench": ["--near"]})
    ['bench', '--near', 'a', '--near', 'b', '--limit', '9']
    """
    chosen = options.get(next((a for a in arguments if not a.startswith("-")), ""), ())
    read: list[str] = []
    current = ""
    for argument in arguments:
        if argument.startswith("-"):
            current = argument if argument in chosen else ""
        elif current and read[-1] != current:
            read.append(current)
        read.append(argument)
    return read
