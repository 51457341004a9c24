"""Trained networks with the normalisation of their images, from zoo, run or checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from offmap.errors import ArgumentError, DataNotFoundError, StoreError
from offmap.forward import Normalization
from offmap.networks import Ensemble, build, load_weights, zoo
from offmap.training.folder import CARD, WEIGHTS
from offmap.training.sets import normalization


@dataclass(frozen=True)
class Trained:
    """A trained network.

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
class Checkpoint:
    """What a checkpoint does not say of itself.

    Args:
        load: the network of such a file, with its weights.
        normalization: what it was trained with.
        hint: where to find such a file, or what to give instead.
    """

    load: Callable[[Path], nn.Module]
    normalization: str
    hint: str


def open_trained(spec: str, checkpoint: Checkpoint) -> Trained:
    """A network from ``zoo:NAME``, from a finished run, or from a checkpoint.

    Args:
        spec: which; a file may be followed by ``@`` and its normalisation, ``FILE@0.5/0.25``.
        checkpoint: what is known of a file that is neither.

    Raises:
        DataNotFoundError: there is no such file; says where to find one.
        StoreError: it does not fit.
    """
    if spec.startswith(zoo.PREFIX):
        name = spec.removeprefix(zoo.PREFIX)
        stated = Normalization(*zoo.normalization(name))
        return Trained(build(spec), stated, spec, _trained_on(zoo.card(name)))
    place, _, stated_in_spec = spec.partition("@")
    path = Path(place).expanduser()
    run = path.parent if path.name == WEIGHTS else path
    if (run / CARD).is_file() and not stated_in_spec:
        card: dict[str, Any] = json.loads((run / CARD).read_text())
        network = load_weights(build(card["network"]), run / WEIGHTS).eval()
        stated = Normalization(**card["normalization"])
        return Trained(network, stated, run.name, _trained_on(card))
    if not path.is_file():
        raise DataNotFoundError(
            f"there is neither a checkpoint nor a finished run at {path}: {checkpoint.hint}"
        )
    text = stated_in_spec or checkpoint.normalization
    source = f"{path.name}, normalised by {text}"
    return Trained(checkpoint.load(path).eval(), normalization(text), source)


def open_members(specs: list[str], checkpoint: Checkpoint, *, name: str) -> Trained:
    """An ensemble of networks that were trained one by one.

    Args:
        specs: of the members, as for :func:`open_trained`.
        checkpoint: what is known of a file of one member.
        name: of the ensemble, for messages.

    Raises:
        DataNotFoundError, StoreError: which of the members cannot be loaded.
        ArgumentError: members that were normalised differently.
    """
    members = []
    for i, spec in enumerate(specs, 1):
        try:
            members.append(open_trained(spec, checkpoint))
        except (DataNotFoundError, StoreError) as error:
            raise type(error)(f"member {i} of {name}: {error}") from error
    if len({member.normalization for member in members}) > 1:
        raise ArgumentError(f"the members of {name} were trained with different normalisations")
    source = f"{len(members)} members: {', '.join(member.source for member in members)}"
    ensemble = Ensemble([member.network for member in members])
    return Trained(ensemble, members[0].normalization, source)


def _trained_on(card: Mapping[str, Any]) -> str | None:
    fingerprint: str | None = card.get("data", {}).get("train", {}).get("fingerprint")
    return fingerprint
