"""Writes the public names and their signatures: ``python scripts/api.py``.

``tests/golden/api.txt`` is what is compared in review: a line that goes or changes there breaks
somebody's program, and CONTRIBUTING says how that is done.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_origin

PATH = Path(__file__).parent.parent / "tests" / "golden" / "api.txt"
PACKAGES = (
    *("offmap", "offmap.activations", "offmap.adapters.maite", "offmap.adapters.mlflow"),
    "offmap.adapters.online_fdr",
    *("offmap.data", "offmap.detectors", "offmap.errors", "offmap.evaluation", "offmap.forward"),
    *("offmap.guard", "offmap.metrics", "offmap.networks", "offmap.plots", "offmap.reporting"),
    *("offmap.scale", "offmap.sklearn", "offmap.stats", "offmap.training"),
)


def api() -> str:
    """All public names, a line each."""
    return "".join(f"{line}\n" for package in PACKAGES for line in _of_package(package))


def _of_package(name: str) -> Iterator[str]:
    package = import_module(name)
    yield name
    for each in sorted(_names(package)):
        yield from _lines(each, getattr(package, each))
    if name == "offmap":
        for detector, method in sorted(package.catalogue().items()):
            if method.__module__.startswith("offmap."):
                yield f"  {method.__name__}{_signature(method)} is {detector!r}"


def _names(package: Any) -> list[str]:
    listed = getattr(package, "__all__", None)
    own = [n for n, x in vars(package).items() if inspect.isclass(x) and n[0] != "_"]
    return list(own if listed is None else listed)


def _lines(name: str, thing: Any) -> Iterator[str]:
    """A name, and below a class its methods."""
    # An alias of types is called by nobody, and its signature is another in each Python.
    if inspect.ismodule(thing) or not callable(thing) or get_origin(thing):
        yield f"  {name}"
        return
    if not inspect.isclass(thing):
        yield f"  {name}{_signature(thing)}"
        return
    yield f"  class {name}{'' if issubclass(thing, enum.Enum) else _signature(thing)}"
    bases = [base for base in thing.__mro__ if base is thing or _is_private(base)]
    for method in sorted({method for base in bases for method in vars(base)}):
        if not method.startswith("_"):
            yield from _member(method, inspect.getattr_static(thing, method))


def _is_private(cls: type) -> bool:
    """Whether it stands nowhere else: a base of ours from a module that is nobody's to import."""
    package, _, module = cls.__module__.rpartition(".")
    return package.startswith("offmap") and module.startswith("_")


def _member(name: str, member: Any) -> Iterator[str]:
    inner = getattr(member, "__func__", member)
    if inspect.isfunction(inner):
        yield f"    .{name}{_signature(inner)}"
    elif isinstance(member, property):
        yield f"    .{name}"


def _signature(thing: Any) -> str:
    """Parameters and their defaults; without types, which the checker sees."""
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return "(...)"
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    text = str(signature.replace(parameters=bare, return_annotation=signature.empty))
    return re.sub(r" at 0x[0-9a-f]+", "", text)


if __name__ == "__main__":
    PATH.write_text(api(), encoding="utf-8")
    print(f"{PATH.name} is written")
