"""Cards of trained networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta
from torch import nn

from offmap._utils import records
from offmap.errors import StoreError
from offmap.networks.library import is_own

WEIGHTS = "weights"  # the label of a card's one file


class Card(records.Record, frozen=True, kw_only=True):
    """A trained network, with its data and training.

    Args:
        network: of this library: ``wrn40_2`` or ``wrn40_2(dropout=0.3)``.
        normalization: ``{"mean": [...], "std": [...]}`` of each channel, in [0, 1]; or
            ``{"per_image": true}``.
        data: what it was trained on.
        recipe: the settings of the training.
        epochs: as trained.
        seed: likewise.
        machine: kind of machine.
        accuracy: on the ID test set, in [0, 1], of the weights as stored.
        parameters: their number.
        budget: smoke, cpu or full.
        command: the one that trained it.
        seconds: duration of the training.
        versions: of the libraries.
        start: digest of the weights that training started from, if not the recipe's seeded ones.
        watched: what the training was watched by.
        given: whether a program gave its data, which the recipe then does not name.
        replaces: hash and accuracy of the weights that stood under the name before.
    """

    network: str
    normalization: dict[str, bool | list[float]]
    data: str | dict[str, Any]
    recipe: dict[str, Any]
    epochs: int
    seed: int
    machine: str
    accuracy: Annotated[float, Meta(ge=0, le=1)]
    parameters: Annotated[int, Meta(gt=0)]
    budget: str | None = None
    command: str | None = None
    seconds: float | None = None
    versions: dict[str, str] | None = None
    start: str | None = None
    watched: dict[str, Any] | None = None
    given: bool = False
    replaces: dict[str, str | float] | None = None

    def __post_init__(self) -> None:
        if set(self.files) != {WEIGHTS}:
            raise ValueError(f"a card has one file, {WEIGHTS}; seen {sorted(self.files)}")
        value = self.normalization
        mean, std = value.get("mean"), value.get("std")
        valid = value == {"per_image": True} or (
            set(value) == {"mean", "std"}
            and isinstance(mean, list)
            and isinstance(std, list)
            and len(mean) == len(std) > 0
            and min(std) > 0
        )
        if not valid:
            raise ValueError(
                'normalization must be an object {"mean": [...], "std": [...]} of numbers, or '
                f'{{"per_image": true}}; seen {value}'
            )


def read(path: Path) -> Card:
    """The card in a file of a zoo, which may come from anywhere.

    Raises:
        StoreError: it cannot be read, is no card, or names a network of elsewhere.
    """
    card = records.read_record(path, "card", Card, made_by="offmap publish")
    check_own(card.network, str(path))
    return card


def check_own(network: object, where: str) -> None:
    """Refuse the name of a network that is not of this library: it would choose code to run.

    Raises:
        StoreError: it is not of this library.
    """
    if not isinstance(network, str) or not is_own(network):
        raise StoreError(
            f"{where}: network must be a network of this library, such as wrn40_2 or "
            "wrn40_2(dropout=0.3), because a card must not choose what code is run; seen "
            f"{network!r}"
        )


def parameter_count(network: nn.Module) -> int:
    """The number of parameters, as cards state it."""
    return sum(parameter.numel() for parameter in network.parameters())
