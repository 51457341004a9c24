"""The detectors of this library and of others, by their names."""

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

# By what a detector reads or is made of, in the order of the tables: folders of this package.
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
        """The installed package that defines it, else its module."""
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
        folder = method.__module__.removeprefix(f"{_PACKAGE}.").partition(".")[0]
        default = folder if folder in FAMILIES else OWN
        entry = Entry(key(name or method.__name__), method, family or default, tuple(aliases))
        for alias in (entry.name, *map(key, entry.aliases)):
            holder = _entries.get(alias)
            if holder is not None and not _same_class(holder.method, method):
                raise ArgumentError(
                    f"{method.__qualname__}: {holder.method.__qualname__} of "
                    f"{holder.method.__module__} has the name {alias!r} already: choose another"
                )
        _entries.update(dict.fromkeys((entry.name, *map(key, entry.aliases)), entry))
        return method

    return enter


def _same_class(a: type, b: type) -> bool:
    """Whether two classes are the same, also when defined again or read from a file twice."""
    return a is b or (a.__qualname__ == b.__qualname__ and _source_file(a) == _source_file(b))


def _source_file(method: type) -> str:
    """The file of a class, else its module."""
    file = getattr(sys.modules.get(method.__module__), "__file__", None)
    return str(Path(file).resolve()) if file else method.__module__


def key(name: str) -> str:
    """A name in lower case, without underscores and hyphens.

    >>> key("Max_Logit")
    'maxlogit'
    """
    return name.lower().replace("_", "").replace("-", "")


def entries_by_name() -> dict[str, Entry]:
    """Every entry by its names and aliases."""
    _import_detectors()
    return dict(_entries)


def entries() -> list[Entry]:
    """Every entry once, in the order of the tables: by family, then by name."""
    order = (*FAMILIES, OWN)
    once = {entry.name: entry for entry in entries_by_name().values()}.values()
    place = {family: i for i, family in enumerate(order)}
    return sorted(once, key=lambda e: (place.get(e.family, len(order)), e.name))


def entry_of(method: type) -> Entry | None:
    """The entry of a class, if it was registered."""
    return next((e for e in entries_by_name().values() if _same_class(e.method, method)), None)


@cache
def _import_detectors() -> None:
    """Import this library's detectors, and those of installed packages with an entry point."""
    for family in FAMILIES:
        package = importlib.import_module(f"{_PACKAGE}.{family}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    for point in entry_points(group=ENTRY_POINTS):
        point.load()
