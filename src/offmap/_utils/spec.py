"""Calls and plain values from text, without running it: ``place:name(argument=value, ...)``."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from offmap.errors import ArgumentError

# The place ends at the first colon before a call: arguments and paths may hold more colons.
_FORM = re.compile(r"(?:(?P<place>.+?):)?(?P<name>[^\W\d]\w*)(?P<arguments>\(.*\))?", re.DOTALL)


@dataclass(frozen=True)
class Spec:
    """A call that a text describes.

    Args:
        text: the text itself, for messages.
        place: a module or file; empty for this library.
        name: of the function or class in it.
        arguments: by keyword.
    """

    text: str
    place: str
    name: str
    arguments: dict[str, Any]

    def call(self, function: Callable[..., Any]) -> Any:
        """Call a function or class with the arguments.

        Raises:
            ArgumentError: it does not take the arguments.
        """
        try:
            inspect.signature(function).bind(**self.arguments)
        except TypeError as error:
            raise ArgumentError(
                f"{self.text}: {error}; its arguments are {inspect.signature(function)}"
            ) from error
        except ValueError:  # a function without a signature, such as some of C
            pass
        return function(**self.arguments)


def parse(text: str, expected: str = "a name such as file.py:name(k=3)") -> Spec:
    """Read a spec; arguments are plain values, by name.

    Args:
        text: such as ``mine.py:network(classes=7)``.
        expected: the form it should have, for the message.

    Raises:
        ArgumentError: the text has another form, or holds more than plain values.

    >>> parse("mine.py:network(classes=7)").arguments
    {'classes': 7}
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ArgumentError(f"{text!r} is not {expected}")
    source = match["arguments"]
    call = expression(f"f{source or '()'}", f"{text!r}: {source} cannot be read as arguments")
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        raise ArgumentError(f"{text!r}: give arguments by name, as in name(argument=0.3)")
    names = [keyword.arg for keyword in call.keywords]
    if None in names or len(set(names)) < len(names):
        raise ArgumentError(f"{text!r}: give each argument once, by its name")
    arguments = {str(keyword.arg): literal(keyword.value, text) for keyword in call.keywords}
    return Spec(text, match["place"] or "", match["name"], arguments)


def expression(source: str, message: str) -> ast.expr:
    """The tree of a Python expression.

    Args:
        source: its text.
        message: of the error, if it is none.

    Raises:
        ArgumentError: it is none, or too deep.
    """
    try:
        return ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ArgumentError(message) from error


def literal(node: ast.expr, text: str, problem: str = "not a plain value") -> Any:
    """The plain value of an expression: one that JSON, and so a record, can hold.

    Args:
        node: the parsed expression.
        text: where it stands, for the message.
        problem: with another expression, likewise.

    Raises:
        ArgumentError: it is more than a number, string, list, ...
    """
    try:
        value = ast.literal_eval(node)
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ArgumentError(
            f"{text!r}: {ast.unparse(node)!r} is {problem} (number, string, list, ...)"
        ) from error
    return value
