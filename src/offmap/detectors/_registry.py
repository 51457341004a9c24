"""Which detectors there are, and by what names: this library's, and those of others."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points, packages_distributions
from pathlib import Path
from typing import Any, TypeVar

from offmap._utils.imports import OF_FILES
from offmap.errors import ArgumentError

# What a detector reads or is made of, in the order of the tables; folders of this package.
FAMILIES = ("logits", "features", "shapers", "layers", "gradients", "ensembles", "combined")
OWN = "own"  # of users and of other packages
_PACKAGE = "offmap.detectors"
ENTRY_POINTS = "offmap.detectors"

D = TypeVar("D", bound=type)


@dataclass(frozen=True)
class Entry:
    """One detector of the catalogue.

    Args:
        name: its name on the command line and in records.
        method: the class.
        family: one of ``FAMILIES``, or "own".
        aliases: other names of it.
    """

    name: str
    method: type[Any]
    family: str
    aliases: tuple[str, ...] = ()

    @property
    def distribution(self) -> str:
        """The installed package that brings it; or else its module, however that was read."""
        module = self.method.__module__.removeprefix(OF_FILES)
        return next(iter(packages_distributions().get(module.partition(".")[0], ())), module)


_entries: dict[str, Entry] = {}


def register(
    name: str | None = None, *, aliases: Iterable[str] = (), family: str | None = None
) -> Callable[[D], D]:
    """Enter a detector into the catalogue, so that commands, records and guards know it by name.

    Args:
        name: on the command line and in records; by default that of the class in lower case.
        aliases: other names of it.
        family: for tables; by default the folder that it lies in, or "own".

    Raises:
        ArgumentError: another detector has one of the names.

    ::

        @offmap.detectors.register("first-logit")
        class FirstLogit(offmap.Detector):
            def forward(self, acts):
                return -acts.logits[:, 0]

        offmap.detector("first-logit")
    """

    def enter(method: D) -> D:
        own = method.__module__.removeprefix(f"{_PACKAGE}.").partition(".")[0]
        folder = own if own in FAMILIES else OWN
        entry = Entry(key(name or method.__name__), method, family or folder, tuple(aliases))
        for each in (entry.name, *map(key, entry.aliases)):
            known = _entries.get(each)
            if known is not None and not _same(known.method, method):
                raise ArgumentError(
                    f"{method.__qualname__}: {known.method.__qualname__} of "
                    f"{known.method.__module__} has the name {each!r} already: choose another"
                )
        _entries.update(dict.fromkeys((entry.name, *map(key, entry.aliases)), entry))
        return method

    return enter


def _same(a: type, b: type) -> bool:
    """Whether two classes are one, perhaps defined again, or read from one file in two ways."""
    return a is b or (a.__qualname__ == b.__qualname__ and _source(a) == _source(b))


def _source(method: type) -> str:
    """The file of a class; of one that has none, its module."""
    file = getattr(sys.modules.get(method.__module__), "__file__", None)
    return str(Path(file).resolve()) if file else method.__module__


def key(name: str) -> str:
    """A name without what people spell differently.

    >>> key("Max_Logit")
    'maxlogit'
    """
    return name.lower().replace("_", "").replace("-", "")


def known() -> dict[str, Entry]:
    """Every entry by its names and aliases."""
    _discover()
    return dict(_entries)


def entries() -> list[Entry]:
    """Every entry once, in the order of the tables: by family, then by name."""
    order = (*FAMILIES, OWN)
    once = {entry.name: entry for entry in known().values()}.values()
    place = {family: i for i, family in enumerate(order)}
    return sorted(once, key=lambda e: (place.get(e.family, len(order)), e.name))


def entry_of(method: type) -> Entry | None:
    """The entry of a class, if it was registered."""
    return next((e for e in known().values() if _same(e.method, method)), None)


@cache
def _discover() -> None:
    """Import this library's detectors, and those that installed packages announce."""
    for family in FAMILIES:
        package = importlib.import_module(f"{_PACKAGE}.{family}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    for point in entry_points(group=ENTRY_POINTS):
        point.load()
