"""Networks of a study, each with the normalisation that it was trained with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from offmap.errors import DataNotFoundError
from offmap.forward import Normalization
from offmap.networks import build, zoo
from offmap.networks.card import Card
from offmap.networks.checkpoint import place
from offmap.training import WEIGHTS, finished, is_finished, normalization


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
        card = zoo.card(spec.removeprefix(zoo.PREFIX))
        return Candidate(build(spec), normalization(spec), spec, _trained_on(card))
    file, _, given = spec.partition("@")
    path = Path(file).expanduser()
    run = path.parent if path.name == WEIGHTS else path
    if is_finished(run) and not given:
        return _of_run(run)
    if not path.is_file():
        raise DataNotFoundError(
            f"there is neither a checkpoint nor a finished run at {path}: {origin.where}"
        )
    how = given or origin.normalization
    network = origin.make(path).eval()
    return Candidate(network, normalization(how), f"{path.name}, normalised by {how}")


def _of_run(folder: Path) -> Candidate:
    card, weights = finished(folder)
    network = place(build(card.network), weights, str(folder)).eval()
    how = Normalization(**card.normalization)  # type: ignore[arg-type]  # the card is checked
    return Candidate(network, how, folder.name, _trained_on(card))


def _trained_on(card: Card) -> str | None:
    """The fingerprint of the training data, if the card states one."""
    train = card.data.get("train", {}) if isinstance(card.data, dict) else {}
    return train.get("fingerprint")
