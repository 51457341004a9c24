"""The needs of a detector: for a score, and to learn."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

Source = Literal["train", "calibration"]
SOURCES: tuple[Source, ...] = ("train", "calibration")


class Needs(enum.Flag):
    """The inputs of a score.

    ``DISTANCES`` are logits that are minus distances, ``MEMBERS`` those of an ensemble (what else
    is needed, is then needed of each), ``INPUTS`` a :class:`~offmap.activations.Sample` in the
    place of activations, ``NEGATIVES`` rows of the head for names that are no class.
    """

    LOGITS = enum.auto()
    FEATURES = enum.auto()
    HEAD = enum.auto()
    MEMBERS = enum.auto()
    DISTANCES = enum.auto()
    INPUTS = enum.auto()
    NEGATIVES = enum.auto()

    @property
    def words(self) -> str:
        """The names, for tables.

        >>> (Needs.LOGITS | Needs.HEAD).words
        'logits+head'
        """
        return "+".join(flag.name.lower() for flag in type(self) if flag in self and flag.name)


NOTHING = Needs(0)
ACTIVATIONS = Needs.LOGITS | Needs.FEATURES


@dataclass(frozen=True)
class Stage:
    """One pass over data in which a detector learns.

    Args:
        source: the data: what the network was trained on, or ID data held out from it.
        labels: whether labels are read.
        reads: which of logits and features are read; by default those that the detector needs.
        inputs: whether a :class:`~offmap.activations.Sample` is read, to run the network on other
            inputs, though a score does not need one.
    """

    source: Source = "train"
    labels: bool = False
    reads: Needs | None = None
    inputs: bool = False
