"""Detectors from expressions and records, neither of which is run."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from offmap._utils.imports import imported
from offmap._utils.spec import expression, literal
from offmap.detectors import _registry
from offmap.detectors._detector import Detector
from offmap.errors import ArgumentError, UnknownNameError

# A class in a file or module of the user's, anywhere in an expression: mine.py:CosineNCM
_FOREIGN = re.compile(r"(?P<place>[^\s():,=\[\]'\"]+):(?P<name>[^\W\d]\w*)")
# The same alone, whose path may hold characters that an expression uses.
_FOREIGN_ALONE = re.compile(r"(?P<place>.+\.py):(?P<name>[^\W\d]\w*)")

# Names such as mds++ or distance-to-mean, which Python does not have; strings are skipped.
_NAME = r"[^\W\d]\w*(?:-\w+)*(?:\+\+(?!\w))?"
_NAMES = re.compile(rf"(?P<string>'[^']*'|\"[^\"]*\")|(?<![\w.]){_NAME}")


def parse(text: str) -> Detector:
    """The detector that a name or an expression of names, numbers and strings describes."""
    alone_in_file = _FOREIGN_ALONE.fullmatch(text.strip())
    if alone_in_file is not None and Path(alone_in_file["place"]).is_file():
        text = _register_class(alone_in_file["place"], alone_in_file["name"], text)
    text = _FOREIGN.sub(lambda match: _register_class(match["place"], match["name"], text), text)
    if re.fullmatch(_NAME, text.strip()):
        detector: Detector = _find_entry(text.strip()).method.default()
        return detector
    text = _NAMES.sub(_plain_name, text)
    message = f"{text!r} is not a detector such as 'vim' or 'ViM(dim=12)'"
    value = _evaluate(expression(text.strip(), message), text)
    if not isinstance(value, Detector):
        raise ArgumentError(message)
    return value


def _plain_name(match: re.Match[str]) -> str:
    if match["string"] or match[0].isidentifier():
        return match[0]
    return _find_entry(match[0]).name


@cache  # a file runs once in a process
def _register_class(place: str, name: str, text: str) -> str:
    """The name of a class in the user's file or module, which is registered if need be."""
    method = imported(place, name, text)
    if not (isinstance(method, type) and issubclass(method, Detector)):
        raise ArgumentError(f"{text}: {name} of {place} is no detector: derive it from Detector")
    if _registry.entry_of(method) is None:
        _registry.register()(method)
    entry = _registry.entry_of(method)
    assert entry is not None
    return entry.name


def build(record: Mapping[str, Any]) -> Detector:
    """The detector of a record ``{"detector": name, "arguments": {...}}``; records nest."""
    if not isinstance(record, Mapping):  # of a file, which may hold anything
        raise ArgumentError(f"a detector's record must be an object; seen {record!r}")
    arguments = record.get("arguments", {})
    if not isinstance(arguments, Mapping):
        raise ArgumentError(f"a detector's arguments must be an object; seen {arguments!r}")
    nested = {name: _build_argument(value) for name, value in arguments.items()}
    entry = _find_entry(str(record.get("detector")), record.get("distribution"))
    return _construct(entry.method, [], nested)


def _build_argument(value: Any) -> Any:
    if isinstance(value, list):
        return [_build_argument(item) for item in value]
    return build(value) if isinstance(value, Mapping) else value


def _evaluate(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Name(id=name):
            return _find_entry(name).method.default()
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_evaluate(part, text) for part in parts]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            positional = [_evaluate(a, text) for a in args]
            kwargs = {str(k.arg): _evaluate(k.value, text) for k in keywords}
            method = _find_entry(name).method
            if positional or kwargs:
                return _construct(method, positional, kwargs)
            return method.default()
    return literal(node, text, "neither a detector nor a plain value")


def _find_entry(name: str, distribution: object = None) -> _registry.Entry:
    entries = _registry.entries_by_name()
    if (entry := entries.get(_registry.key(name))) is not None:
        return entry
    if distribution is not None:
        raise UnknownNameError(
            f"the detector {name!r} is not of this library but of {distribution!r}, which has not "
            "registered it here: install that, import the module that registers it first, or name "
            "its file on the command line, --detectors FILE.py:CLASS"
        )
    close = difflib.get_close_matches(_registry.key(name), entries, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    names = ", ".join(entry.name for entry in _registry.entries())
    raise UnknownNameError(f"no detector is called {name!r}; {hint}Known: {names}")


def _construct(method: type[Detector], args: list[Any], kwargs: dict[str, Any]) -> Detector:
    try:
        return method(*args, **kwargs)
    except TypeError as error:
        raise ArgumentError(f"{method.__name__}: {error}") from error
