"""Functions and classes of other modules and files, by name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from offmap.errors import UnknownNameError

OF_FILES = "offmap_user_"  # prefix of the modules of files that the user named


def imported(place: str, name: str, text: str) -> Any:
    """An attribute of a module or Python file, by name; importing runs its code.

    Only a user may choose the place: names in records are never passed on to it.

    Args:
        place: ``package.module`` or ``path/to/file.py``.
        name: in it.
        text: where the two were named, for the message.

    Raises:
        UnknownNameError: there is no such module, file or name.
    """
    is_file = place.endswith(".py")
    if not place or (place.startswith(".") and not is_file):
        raise UnknownNameError(f"{text}: give package.module:name or file.py:name")
    if is_file:
        module = _import_file(Path(place), text)
    else:
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise UnknownNameError(
                f"{text}: {error}; is it installed, or is its folder here?"
            ) from error
    try:
        return getattr(module, name)
    except AttributeError as error:
        raise UnknownNameError(
            f"{text}: there is no {name!r} in {place}; give package.module:name or file.py:name"
        ) from error


def _import_file(path: Path, text: str) -> ModuleType:
    """A file as a module, which may import files beside it and find itself in ``sys.modules``."""
    spec = importlib.util.spec_from_file_location(OF_FILES + path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UnknownNameError(f"{text}: there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    folder = str(path.parent.resolve())
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise UnknownNameError(f"{text}: {error}; is it installed, or beside the file?") from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
    return module
