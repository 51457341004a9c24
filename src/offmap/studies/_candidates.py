"""Networks of a study, each with the normalisation that it was trained with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from offmap.errors import DataNotFoundError
from offmap.forward import Normalization
from offmap.networks import WideResNet, build, load_weights, zoo
from offmap.training import CARD, WEIGHTS
from offmap.training.sets import normalization


@dataclass(frozen=True)
class Candidate:
    """A network of a study.

    Args:
        network: in evaluation mode.
        normalization: of its images.
        source: where it comes from, in words.
    """

    network: nn.Module
    normalization: Normalization
    source: str


@dataclass(frozen=True)
class Published:
    """What authors publish of one network of a study.

    Args:
        file: its name.
        place: where they publish it.
        normalization: what they trained it with.
    """

    file: str
    place: str
    normalization: str


def candidate(spec: str, published: Published) -> Candidate:
    """A network from ``zoo:NAME``, from a finished run, or from a WideResNet's checkpoint.

    Args:
        spec: which; a file may be followed by ``@`` and its normalisation, ``FILE@0.5/0.25``.
        published: what is known of such a file where nothing else is said.

    Raises:
        DataNotFoundError: there is no such file; says where its authors publish it.
        StoreError: it does not fit.
    """
    if spec.startswith("zoo:"):
        return Candidate(build(spec), Normalization(*zoo.normalization(spec[4:])), spec)
    place, _, given = spec.partition("@")
    path = Path(place).expanduser()
    run = path.parent if path.name == WEIGHTS else path
    if (run / CARD).is_file() and not given:
        return _of_run(run)
    if not path.is_file():
        raise DataNotFoundError(
            f"there is neither a checkpoint nor a finished run at {path}: the authors publish "
            f"{published.file} at {published.place}; or give zoo:NAME, or the folder of a run"
        )
    network = WideResNet.like(path).eval()
    stated = given or published.normalization
    return Candidate(network, normalization(stated), f"{path.name}, normalised by {stated}")


def _of_run(folder: Path) -> Candidate:
    card: dict[str, Any] = json.loads((folder / CARD).read_text())
    network = load_weights(build(card["network"]), folder / WEIGHTS).eval()
    stated = card["normalization"]
    return Candidate(
        network, Normalization(tuple(stated["mean"]), tuple(stated["std"])), folder.name
    )
