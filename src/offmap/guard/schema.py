"""What ``guard.json`` holds, as types: readers are given nothing else.

``docs/guard.schema.json`` is the same for other languages, made by ``python scripts/schema.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from torch import Tensor

from offmap._utils import records
from offmap._utils.addresses import is_address
from offmap.errors import ArgumentError
from offmap.guard.control import Control

Rate = Annotated[float, Meta(gt=0, lt=1)]
Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a record: unknown fields are refused, and defaults left out."""


class DetectorRecord(Part, frozen=True):
    """A detector by its name, and the arguments that it is made with.

    Args:
        detector: its name in the catalogue.
        arguments: JSON values, records of detectors, or lists of these.
        distribution: the package that brings it, if it is not of this library.
    """

    detector: str
    arguments: dict[str, Any]
    distribution: str | None = None


class CalibrationRecord(Part, frozen=True):
    """The rule of the threshold, and what it promises; its scores and limits are tensors.

    Args:
        rule: of :class:`offmap.guard.Calibration`.
        alarm_rates: that were named, the first of which is in use where none is said below.
        confidence: that they hold for this very calibration set; none for rates on average.
        samples: that counted.
        promise: in words.
        alarm_rate: in use, of a certificate.
        parts: samples of each part, where the set was extended.
        earlier: what was promised before the last extension.
    """

    rule: Literal["plain", "per_class", "bonferroni"]
    alarm_rates: Annotated[list[Rate], Meta(min_length=1)]
    confidence: Rate | None
    samples: Annotated[int, Meta(ge=0)]
    promise: str
    alarm_rate: Rate | None = None
    parts: list[Annotated[int, Meta(ge=1)]] = []
    earlier: str = ""


class NormalizationRecord(Part, frozen=True):
    """The arguments of :class:`offmap.Normalization`."""

    mean: list[float] = msgspec.field(default_factory=lambda: [0.0])
    std: list[float] = msgspec.field(default_factory=lambda: [1.0])
    per_image: bool = False
    known: bool = True


class Read(Part, frozen=True):
    """What was read in one step.

    Args:
        samples: how many.
        accuracy: of the network on them, where they had labels.
        dtype: of the inputs.
        fingerprint: hash of the set, of one that is known.
        groups: of samples that belong together, of which one each counted.
        date: the day, in UTC.
    """

    samples: Annotated[int, Meta(ge=0)]
    accuracy: float | None
    dtype: str | None
    fingerprint: str | None = None
    groups: int | None = None
    date: Annotated[str, Meta(pattern=r"\A\d{4}-\d{2}-\d{2}\Z")] | None = None


class GuardRecord(records.Record, frozen=True, kw_only=True):
    """A guard without its tensors, which lie beside it.

    Args:
        library: the version that wrote it.
        detectors: one or several.
        calibration: none before :meth:`offmap.Guard.calibrate`.
        classes: names of the labels, or none.
        normalization: of uint8 images.
        head: the layer whose input the features are; of each member, of an ensemble.
        taps: layers that are kept, each with its reduction.
        layers: those that rules stand for; by member, of an ensemble.
        precision: in which the network runs.
        channels_last: memory layout of images.
        outputs: what the network returns.
        floats: in what form float images come.
        network: the name of its class.
        network_sha256: of its weights.
        fitted_on: fingerprint of the data.
        input_shape: of one sample.
        input_names: of inputs by name.
        input_resize: how images are brought to that shape.
        input_transform: name, and hash of the file, of the user's function that does so instead.
        model: what built the network, as on the command line. Nothing of elsewhere is built by it.
        read: of the data of "fit" and "calibrate".
        control: the threshold of :meth:`offmap.Guard.control`.
    """

    format: Literal["offmap guard"]
    version: Literal[2]
    library: str
    detectors: Annotated[list[DetectorRecord], Meta(min_length=1)]
    calibration: CalibrationRecord | None
    classes: list[str]
    normalization: NormalizationRecord
    head: str | list[str | None] | None
    taps: list[tuple[str, str]]
    layers: dict[str, list[str] | dict[str, list[str]]]
    precision: str
    channels_last: bool | None
    outputs: Literal["logits", "probabilities", "log_probabilities", "features"]
    floats: Literal["unit", "normalised"] | None
    network: str
    network_sha256: Digest
    fitted_on: str | None
    input_shape: list[int] | None
    input_names: list[str]
    input_resize: Literal["crop", "squash"]
    input_transform: tuple[str, str] | None
    model: str | None
    read: dict[str, Read]
    control: Control | None = None


def read(folder: str | Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """The record of the guard in a folder, as plain values, and its tensors by file.

    Raises:
        ArgumentError: the folder is not of this machine.
        StoreError: a file is missing or damaged, of another version, or does not hold what a guard
            must.
    """
    if is_address(folder):
        raise ArgumentError(f"a guard is a folder of this machine: copy {folder} here first")
    record, files = records.read(folder, "guard", schema=GuardRecord, made_by="offmap fit")
    return msgspec.to_builtins(record), files
