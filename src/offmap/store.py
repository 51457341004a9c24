"""A fitted detector as a folder: a JSON record and a safetensors file, nothing pickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from offmap.detectors import Detector, detector
from offmap.errors import ArgumentError, NotFittedError, StoreError
from offmap.files import atomic, write_json

_VERSION = 1


def save(fitted: Detector, folder: str | Path) -> None:
    """Write a fitted detector to ``folder/detector.json`` and ``folder/state.safetensors``.

    Raises:
        NotFittedError: there is nothing learned to save.
    """
    if not fitted.fitted:
        raise NotFittedError(f"{fitted!r} has learned nothing yet: fit it before saving")
    # Copies, because a shaper inside a shaper shares the head with it and the format refuses that.
    plain = torch.contiguous_format
    state = {k: x.cpu().clone(memory_format=plain) for k, x in fitted.state_dict().items()}
    with atomic(Path(folder) / "state.safetensors") as temporary:
        save_file(state, temporary)
    write_json(Path(folder) / "detector.json", {"version": _VERSION} | fitted.record())


def load(folder: str | Path) -> Detector:
    """Read back what :func:`save` wrote; scores are equal bit for bit.

    Raises:
        StoreError: a file is missing, damaged, of an unknown version, or does not fit the other.
    """
    record = _record(Path(folder) / "detector.json")
    try:
        fitted = detector(record)
    except ArgumentError as error:
        raise StoreError(f"{folder}/detector.json: {error}") from error
    _place(fitted, _state(Path(folder) / "state.safetensors"))
    if not fitted.fitted:
        raise StoreError(f"{folder}/state.safetensors lacks part of what {fitted!r} learns")
    return fitted


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    if not isinstance(record, dict) or record.get("version") != _VERSION:
        raise StoreError(f"{path} is not a detector's record of version {_VERSION}")
    return record


def _state(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error


def _place(fitted: Detector, state: dict[str, Tensor]) -> None:
    """Give each tensor back to the detector, or wrapped detector, that learned it."""
    for name, tensor in state.items():
        owner, _, buffer = name.rpartition(".")
        try:
            module = fitted.get_submodule(owner)
        except AttributeError:
            module = None
        if not isinstance(module, Detector) or buffer not in {*module.learned_names(), "columns_"}:
            raise StoreError(f"the state holds {name!r}, which {fitted!r} does not learn")
        module.learn(**{buffer: tensor})
