"""Networks of a study, each with the normalisation that it was trained with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from offmap.errors import DataNotFoundError
from offmap.forward import Normalization
from offmap.networks import build, load_weights, zoo
from offmap.training import CARD, WEIGHTS
from offmap.training.sets import normalization


@dataclass(frozen=True)
class Candidate:
    """A network of a study.

    Args:
        network: in evaluation mode.
        normalization: of its images.
        source: where it comes from, in words.
        trained_on: fingerprint of its training data, where its card tells it.
    """

    network: nn.Module
    normalization: Normalization
    source: str
    trained_on: str | None = None


@dataclass(frozen=True)
class Origin:
    """What is known of the checkpoint of one network of a study, where its file does not say it.

    Args:
        make: the network of a checkpoint, with its weights.
        normalization: what it was trained with.
        where: where to find such a file, or what to give instead.
    """

    make: Callable[[Path], nn.Module]
    normalization: str
    where: str


def candidate(spec: str, origin: Origin) -> Candidate:
    """A network from ``zoo:NAME``, from a finished run, or from a checkpoint.

    Args:
        spec: which; a file may be followed by ``@`` and its normalisation, ``FILE@0.5/0.25``.
        origin: what is known of a checkpoint.

    Raises:
        DataNotFoundError: there is no such file; says where to find one.
        StoreError: it does not fit.
    """
    if spec.startswith(zoo.PREFIX):
        name = spec.removeprefix(zoo.PREFIX)
        stated, card = Normalization(*zoo.normalization(name)), zoo.card(name)
        return Candidate(build(spec), stated, spec, _trained_on(card))
    place, _, given = spec.partition("@")
    path = Path(place).expanduser()
    run = path.parent if path.name == WEIGHTS else path
    if (run / CARD).is_file() and not given:
        return _of_run(run)
    if not path.is_file():
        raise DataNotFoundError(
            f"there is neither a checkpoint nor a finished run at {path}: {origin.where}"
        )
    how = given or origin.normalization
    network = origin.make(path).eval()
    return Candidate(network, normalization(how), f"{path.name}, normalised by {how}")


def _of_run(folder: Path) -> Candidate:
    card: dict[str, Any] = json.loads((folder / CARD).read_text())
    network = load_weights(build(card["network"]), folder / WEIGHTS).eval()
    stated = Normalization(**card["normalization"])
    return Candidate(network, stated, folder.name, _trained_on(card))


def _trained_on(card: Mapping[str, Any]) -> str | None:
    found: str | None = card.get("data", {}).get("train", {}).get("fingerprint")
    return found
