"""Detectors from text and from records, without running either."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping
from typing import Any

from offmap.detectors._base import Detector
from offmap.errors import ArgumentError, UnknownNameError

Known = Mapping[str, type[Detector]]


def parse(text: str, known: Known) -> Detector:
    """The detector that a name or an expression of names, numbers and strings describes."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ArgumentError(f"{text!r} is not a detector such as 'vim' or 'ViM(dim=12)'") from error
    value = _value(tree, known, text)
    if not isinstance(value, Detector):
        raise ArgumentError(f"{text!r} is not a detector such as 'vim' or 'ViM(dim=12)'")
    return value


def build(record: Mapping[str, Any], known: Known) -> Detector:
    """The detector of a record ``{"detector": name, "arguments": {...}}``; records nest."""
    arguments = record.get("arguments", {})
    if not isinstance(arguments, Mapping):
        raise ArgumentError(f"a detector's arguments must be an object; seen {arguments!r}")
    nested = {
        name: build(value, known) if isinstance(value, Mapping) else value
        for name, value in arguments.items()
    }
    return _make(_find(str(record.get("detector")), known), [], nested)


def _value(node: ast.expr, known: Known, text: str) -> Any:
    match node:
        case ast.Name(id=name):
            return _find(name, known).default()
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            positional = [_value(a, known, text) for a in args]
            named = {str(k.arg): _value(k.value, known, text) for k in keywords}
            method = _find(name, known)
            return _make(method, positional, named) if positional or named else method.default()
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError) as error:  # TypeError: a list as a key
        raise ArgumentError(
            f"{text!r}: {ast.unparse(node)!r} is neither a detector nor a plain value"
        ) from error


def _find(name: str, known: Known) -> type[Detector]:
    key = name.lower().replace("_", "").replace("-", "")
    if key in known:
        return known[key]
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UnknownNameError(f"no detector is called {name!r}; {hint}Known: {', '.join(known)}")


def _make(method: type[Detector], args: list[Any], kwargs: dict[str, Any]) -> Detector:
    try:
        return method(*args, **kwargs)
    except TypeError as error:
        raise ArgumentError(f"{method.__name__}: {error}") from error
