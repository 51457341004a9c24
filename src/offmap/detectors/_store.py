"""Fitted detectors in folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from offmap._utils import records
from offmap.detectors._detector import KEPT, Detector
from offmap.detectors._spec import build
from offmap.errors import ArgumentError, NotFittedError, StoreError


def save(fitted: Detector, folder: str | Path) -> None:
    """Write a fitted detector into a folder: ``detector.json`` and its tensors.

    Raises:
        NotFittedError: there is nothing learned to save.
    """
    if not fitted.fitted:
        raise NotFittedError(f"{fitted!r} has learned nothing yet: fit it before saving")
    records.write(folder, "detector", fitted.record(), {"state": fitted.state_dict()})


def load(folder: str | Path) -> Detector:
    """Read back what :func:`save` wrote; scores are equal bit for bit.

    Raises:
        StoreError: a file is missing, damaged, of an unknown version, or does not fit the other.
    """
    record, files = records.read(folder, "detector", made_by="Detector.fit, then save")
    return restored(record, files.get("state", {}), str(folder))


def restored(
    record: Mapping[str, Any], state: Mapping[str, Tensor], where: str, *, waiting: bool = False
) -> Detector:
    """The fitted detector of a record and its tensors.

    Args:
        record: as :meth:`Detector.record` makes it.
        state: its tensors.
        where: they lie, for messages.
        waiting: whether it may still have to learn on calibration data.
    """
    try:
        fitted = build(record)
    except ArgumentError as error:
        raise StoreError(f"{where}: {error}") from error
    fitted.make_room(state)
    for name, tensor in state.items():
        # The detector that learned it: this one, or one that it wraps.
        owner, _, buffer = name.rpartition(".")
        try:
            module = fitted.get_submodule(owner)
        except AttributeError:
            module = None
        if not isinstance(module, Detector) or buffer not in {*module.learned_names(), *KEPT}:
            raise StoreError(f"{where} holds {name!r}, which {fitted!r} does not learn")
        module.set_buffers(**{buffer: tensor})
    if not (fitted.fitted or (waiting and fitted.waiting_for == "calibration")):
        raise StoreError(f"{where} lacks part of what {fitted!r} learns")
    return fitted
