"""Networks from text, without running it: ``place:factory(argument=value, ...)``."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from offmap.errors import ArgumentError

# The place ends at the first colon after which a call follows: arguments and paths may hold more.
_FORM = re.compile(r"(?:(?P<place>.+?):)?(?P<name>[^\W\d]\w*)(?P<arguments>\(.*\))?", re.DOTALL)


@dataclass(frozen=True)
class Spec:
    """What a text asks for.

    Args:
        text: as it was given.
        place: a module or file; empty for this library.
        name: of the factory in it.
        arguments: its keyword arguments.
    """

    text: str
    place: str
    name: str
    arguments: dict[str, Any]

    def call(self, factory: Callable[..., Any]) -> Any:
        """What the factory makes of the arguments.

        Raises:
            ArgumentError: it does not take them.
        """
        try:
            inspect.signature(factory).bind(**self.arguments)
        except TypeError as error:
            raise ArgumentError(
                f"{self.text}: {error}; its arguments are {inspect.signature(factory)}"
            ) from error
        except ValueError:  # a factory without a signature, such as some of C
            pass
        return factory(**self.arguments)


def parse(text: str) -> Spec:
    """Read a spec; arguments are plain values, by name.

    >>> parse("mine.py:network(classes=7)").arguments
    {'classes': 7}

    Raises:
        ArgumentError: the text is none, or holds more than plain values.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ArgumentError(
            f"{text!r} is not a network such as resnet20, wrn40_2(dropout=0.3), "
            "package.module:factory or file.py:factory"
        )
    return Spec(text, found["place"] or "", found["name"], _arguments(found["arguments"], text))


def _arguments(source: str | None, text: str) -> dict[str, Any]:
    try:
        call = ast.parse(f"f{source or '()'}", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ArgumentError(f"{text!r}: {source} cannot be read as arguments") from error
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        raise ArgumentError(f"{text!r}: give arguments by name, as in wrn40_2(dropout=0.3)")
    names = [keyword.arg for keyword in call.keywords]
    if None in names or len(set(names)) < len(names):
        raise ArgumentError(f"{text!r}: give each argument once, by its name")
    return {str(keyword.arg): _value(keyword.value, text) for keyword in call.keywords}


def _value(node: ast.expr, text: str) -> Any:
    """A literal that JSON can keep, so that records and cards can hold it."""
    try:
        value = ast.literal_eval(node)
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ArgumentError(
            f"{text!r}: {ast.unparse(node)!r} is not a plain value (number, string, list, ...)"
        ) from error
    return value
