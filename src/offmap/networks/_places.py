"""The places of trained networks."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path

from offmap._utils.files import expanded
from offmap._utils.hub import reached
from offmap.errors import ArgumentError, MissingExtraError, UnknownNameError

HUB = "offmap/zoo"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def folders() -> list[Path]:
    """The zoo folders that exist, in the order of the search."""
    folder = os.environ.get("OFFMAP_ZOO")
    places = [expanded(folder)] if folder else []
    root = Path(__file__).parents[3]
    if (root / "pyproject.toml").is_file():  # a clone; an installed package has none above it
        places.append(root / "zoo")
    places.append(Path("zoo"))
    return [place for place in places if place.is_dir()]


def check_name(name: str) -> None:
    """Refuse names that would lead out of a folder.

    Raises:
        ArgumentError: it is no plain name.
    """
    if not _NAME.fullmatch(name):
        raise ArgumentError(
            f"{name!r} is no name of a trained network: letters, digits, dots, dashes and "
            "underscores, the first a letter or digit"
        )


def find(name: str, suffix: str) -> Path:
    """The card or the weights of a name; both are taken from one folder, that of the card.

    Raises:
        ArgumentError: the name would lead out of the folder.
        UnknownNameError: there is none in any of the places.
        MissingExtraError: it is not at hand, and huggingface_hub is not installed.
    """
    check_name(name)
    for folder in folders():
        if (folder / f"{name}.json").is_file():
            return folder / f"{name}{suffix}"
    try:
        hub = import_module("huggingface_hub")
    except ImportError as error:
        raise MissingExtraError(
            "huggingface_hub", "hub", f" to look for it on the hub ({HUB}). {_search_report(name)}"
        ) from error
    try:
        with reached(HUB):
            return Path(hub.hf_hub_download(repo_id=HUB, filename=f"{name}{suffix}"))
    except UnknownNameError as error:
        raise UnknownNameError(
            f"{_search_report(name)} Nor is it to be had from the hub: {error}"
        ) from error


def _search_report(name: str) -> str:
    folder = os.environ.get("OFFMAP_ZOO") or "not set"
    return (
        f"There is no trained network {name!r} in $OFFMAP_ZOO ({folder}), nor in zoo/ of a clone "
        "or of the working directory."
    )
