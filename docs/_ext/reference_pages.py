"""A page for each public module, from docstrings: what a user calls."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from sphinx.util.nodes import make_refnode

import offmap
import pages
from offmap import detectors

# Modules that commands run and nobody calls.
_OF_COMMANDS = ("cli", "demo", "studies")
# Where a name of one module is found that another one gives too.
_BELOW = (
    *("networks.zoo", "networks.card", "evaluation.metric", "evaluation.published"),
    *("training.pixmix", "training.fractals"),
)
# Constants, whose words would be those of their type.
_PLAIN = (str, int, float, tuple, dict)
_CALLED = (FunctionType, property, classmethod, staticmethod, functools.cached_property)


def setup(app: Any) -> dict[str, Any]:
    """Write the pages before the sources are read, and find what docstrings speak of."""
    app.connect("builder-inited", _write)
    app.connect("missing-reference", _find)
    return {"parallel_read_safe": True}


def _write(app: Any) -> None:
    made = {f"{module.__name__}.rst": page(module) for module in modules()}
    pages.write(Path(app.srcdir) / "reference", {"index.rst": _index(), **made})


def _find(app: Any, env: Any, node: Any, words: Any) -> Any:
    """What a docstring calls by a name that is documented under another module."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    for name in (target, target.rpartition(".")[2]):
        if len(places := _places(env, f".{name}")) == 1:
            return make_refnode(app.builder, node["refdoc"], *places.pop(), words)
    return None


def _places(env: Any, end: str) -> set[tuple[str, str]]:
    """Page and anchor of all whose full name ends so."""
    known = env.domains.python_domain.objects.items()
    return {(each.docname, each.node_id) for full, each in known if full.endswith(end)}


def modules() -> Iterator[ModuleType]:
    """The library itself, and its public modules."""
    yield offmap
    found = (each.name for each in pkgutil.iter_modules(offmap.__path__))
    public = [name for name in found if not name.startswith("_") and name not in _OF_COMMANDS]
    for name in sorted([*public, *_BELOW]):
        yield importlib.import_module(f"offmap.{name}")


def public(module: ModuleType) -> dict[str, Any]:
    """The names that a module gives, without modules."""
    names = getattr(module, "__all__", None) or _defined(module)
    things = {name: getattr(module, name) for name in names}
    return {name: thing for name, thing in things.items() if not inspect.ismodule(thing)}


def _defined(module: ModuleType) -> list[str]:
    mine = (
        (name, each)
        for name, each in vars(module).items()
        if not name.startswith("_") and getattr(each, "__module__", None) == module.__name__
    )
    return [name for name, each in mine if inspect.isclass(each) or inspect.isroutine(each)]


@functools.cache
def homes() -> dict[str, str]:
    """The page on which each public name is documented, by its full name there.

    A name that is given by the library itself stands there, and is only named in its module.
    """
    top = public(offmap)
    at_top = {name: f"offmap.{name}" for name in top}
    return {
        f"{module.__name__}.{name}": at_top[name]
        if name in top and thing is top[name]
        else f"{module.__name__}.{name}"
        for module in modules()
        for name, thing in public(module).items()
    }


def page(module: ModuleType) -> str:
    """All public names of one module."""
    name = module.__name__
    lines = [*pages.title(name), f".. automodule:: {name}", "   :no-members:", ""]
    lines += _elsewhere(module)
    for each, thing in public(module).items():
        full = f"{name}.{each}"
        if homes()[full] == full:
            lines += documented(full, thing)
    return "\n".join(lines)


def _elsewhere(module: ModuleType) -> list[str]:
    """References to what stands on other pages."""
    full = {name: f"{module.__name__}.{name}" for name in public(module)}
    away = [f":obj:`{homes()[each]}`" for each in full.values() if homes()[each] != each]
    if module is detectors:
        away.append(":doc:`a page for each method </methods/index>`")
    return [f"On other pages: {', '.join(away)}.", ""] if away else []


def documented(full: str, thing: Any) -> list[str]:
    """The directive that shows one name."""
    if isinstance(thing, _PLAIN):
        return [f".. py:data:: {full}", f"   :value: {_value(thing)}", ""]
    kind = "data"
    if inspect.isclass(thing):
        kind = "exception" if issubclass(thing, Exception) else "class"
    elif inspect.isfunction(thing) or isinstance(thing, functools._lru_cache_wrapper):
        kind = "function"
    lines = [f".. auto{kind}:: {full}"]
    if kind == "class" and (members := members_of(thing)):
        lines.append(f"   :members: {', '.join(members)}")
    return [*lines, ""]


def _value(thing: Any) -> str:
    """A constant, or the keys of a mapping."""
    return repr(tuple(thing) if isinstance(thing, dict) else thing)


def members_of(cls: type) -> list[str]:
    """What users call of a class: public, with words, and not of a base with a place of its own."""
    own: dict[str, None] = {}
    for base in cls.__mro__:
        if base is cls or (base.__module__.startswith("offmap.") and not _is_public(base)):
            own |= {name: None for name, value in vars(base).items() if _is_called(name, value)}
    return list(own)


def _is_public(cls: type) -> bool:
    return any(full.endswith(f".{cls.__name__}") for full in homes())


def _is_called(name: str, value: Any) -> bool:
    return not name.startswith("_") and isinstance(value, _CALLED) and bool(value.__doc__)


def _index() -> str:
    lines = [
        *pages.title("Reference"),
        "What a user calls, from docstrings. Every detector is a name of ``offmap``, too:",
        ":doc:`a page for each method </methods/index>`.",
        "",
        *(".. toctree::", "   :maxdepth: 1", ""),
        *(f"   {module.__name__}" for module in modules()),
    ]
    return "\n".join([*lines, ""])
