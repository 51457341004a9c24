"""Models from their names on a command line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from offmap.errors import ArgumentError, UnknownNameError
from offmap.networks import zoo
from offmap.networks._spec import Spec, parse
from offmap.networks.checkpoint import load_weights
from offmap.networks.library import build_own


def build(spec: str, *, weights: str | Path | None = None) -> nn.Module:
    """The model that a command line names.

    Args:
        spec: the name of a network of this library, such as ``resnet20`` or
            ``wrn40_2(dropout=0.3)``; ``package.module:factory`` or ``file.py:factory``, with
            arguments likewise; or ``zoo:NAME``, trained and in evaluation mode. Arguments are plain
            values by name; the text is never run.
        weights: checkpoint to load into it.

    Raises:
        UnknownNameError: no such module, factory, or trained network.
        ArgumentError: the arguments are not those of the factory.
        StoreError: the weights do not fit.
    """
    if spec.startswith(zoo.PREFIX):
        if weights is not None:
            raise ArgumentError(
                f"{spec} brings its own weights: leave {weights} out, or name the network itself "
                f"({zoo.card(spec.removeprefix(zoo.PREFIX))['network']})"
            )
        return zoo.load(spec.removeprefix(zoo.PREFIX))
    parsed = parse(spec)
    network = _foreign(parsed) if parsed.place else build_own(parsed)
    if not isinstance(network, nn.Module):
        raise ArgumentError(f"{spec} must return a torch.nn.Module; it returned {type(network)}")
    return network if weights is None else load_weights(network, weights)


def _foreign(spec: Spec) -> Any:
    factory = getattr(_module(spec.place, spec.text), spec.name, None)
    if isinstance(factory, nn.Module):
        raise ArgumentError(
            f"{spec.text}: {spec.name} is a network itself; name a function without arguments that "
            "returns it"
        )
    if not callable(factory):
        raise UnknownNameError(
            f"no factory {spec.name!r} in {spec.place}: give package.module:factory, "
            "file.py:factory, or the name of a network of this library, such as resnet20"
        )
    return spec.call(factory)


def _module(place: str, spec: str) -> ModuleType:
    if place.endswith(".py"):
        name = f"offmap_user_{Path(place).stem}"
        loader = importlib.util.spec_from_file_location(name, place)
        if loader is None or loader.loader is None or not Path(place).is_file():
            raise UnknownNameError(f"{spec}: there is no file {place}")
        return _run(loader, Path(place).parent, spec)
    try:
        return importlib.import_module(place)
    except (ModuleNotFoundError, TypeError) as error:  # TypeError: a place such as ".relative"
        raise UnknownNameError(
            f"{spec}: {error}; is it installed, or is its folder here?"
        ) from error


def _run(loader: ModuleSpec, folder: Path, spec: str) -> ModuleType:
    """A file as a module, which may import its neighbours and look itself up by name."""
    assert loader.loader is not None
    module = importlib.util.module_from_spec(loader)
    sys.modules[loader.name] = module
    sys.path.insert(0, str(folder.resolve()))
    try:
        loader.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise UnknownNameError(f"{spec}: {error}; is it installed, or beside the file?") from error
    finally:
        if (added := str(folder.resolve())) in sys.path:
            sys.path.remove(added)
    return module
