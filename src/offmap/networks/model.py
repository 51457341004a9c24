"""Models from their names on a command line."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from offmap.errors import ArgumentError, UnknownNameError
from offmap.networks.checkpoint import load_weights


def build(spec: str, *, weights: str | Path | None = None) -> nn.Module:
    """The model that a command line names.

    Args:
        spec: ``package.module:factory`` or ``file.py:factory``, where the factory is called without
            arguments; or the name of a network of this library, such as ``resnet20``.
        weights: checkpoint to load into it.

    Raises:
        UnknownNameError: no such module or factory.
        StoreError: the weights do not fit.
    """
    network = _factory(spec)()
    if not isinstance(network, nn.Module):
        raise ArgumentError(f"{spec} must return a torch.nn.Module; it returned {type(network)}")
    return network if weights is None else load_weights(network, weights)


def _factory(spec: str) -> Callable[[], Any]:
    place, _, name = spec.rpartition(":")
    module = _module(place or "offmap.networks", spec)
    factory = getattr(module, name, None)
    if not callable(factory):
        raise UnknownNameError(
            f"no factory {name!r} in {place or 'offmap.networks'}: give package.module:factory, "
            "file.py:factory, or the name of a network of this library, such as resnet20"
        )
    return factory  # type: ignore[no-any-return]


def _module(place: str, spec: str) -> ModuleType:
    if place.endswith(".py"):
        loader = importlib.util.spec_from_file_location(Path(place).stem, place)
        if loader is None or loader.loader is None or not Path(place).is_file():
            raise UnknownNameError(f"{spec}: there is no file {place}")
        module = importlib.util.module_from_spec(loader)
        loader.loader.exec_module(module)
        return module
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise UnknownNameError(
            f"{spec}: {error}; is it installed, or is its folder here?"
        ) from error
