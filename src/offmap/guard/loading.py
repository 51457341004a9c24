"""A guard from the folder that it was saved into."""

from __future__ import annotations

from pathlib import Path

import msgspec
from torch import Tensor, nn

from offmap.errors import StoreError
from offmap.forward import Normalization, weights_digest
from offmap.guard import schema
from offmap.guard._inputs import WeightsWatch
from offmap.guard._record import arguments_of
from offmap.guard.calibration import Calibration
from offmap.guard.control import Control
from offmap.guard.guard import Guard
from offmap.guard.history import History
from offmap.guard.words import detectors_of


def read_guard(
    folder: str | Path, network: nn.Module, *, strict: bool, normalization: Normalization | None
) -> Guard:
    """The guard in a folder, around this network: see :func:`offmap.load`."""
    record, files = schema.read(folder)
    where = f"{folder}/guard.json"
    try:
        detectors = list(detectors_of(record, files["state"], where))
        arguments = arguments_of(record, files.get("head"), normalization)
        guard = Guard(network, detectors, **arguments)
        guard.probe.resolve(record["layers"])
        guard.probe.floats = record["floats"]
        if "network" in files:
            _load_weights(guard.probe.network, files["network"], where)
        guard.weights = weights_digest(guard.probe.network)
        if strict and guard.weights != record["network_sha256"]:
            raise StoreError(
                f"{where}: the guard was fitted on a network with other weights: give that one, or "
                "strict=False if you know that they are the same in effect"
            )
        if record["calibration"] is not None:
            calibration = Calibration.restored(record["calibration"], files["calibration"])
            if len(calibration.scores_) != len(detectors):
                raise StoreError(
                    f"{where}: it has {len(detectors)} detectors, and calibration scores of "
                    f"{len(calibration.scores_)}: take all of its files from one place"
                )
            guard._calibration = calibration.to(guard.probe.home)
        if record.get("control") is not None:
            guard.control_ = msgspec.convert(record["control"], Control)
        guard.detectors.to(guard.probe.home)
        guard.model = record["model"]
        if record["input_shape"] is not None:
            guard.input_shape = tuple(map(int, record["input_shape"]))
        guard.input_names = tuple(map(str, record["input_names"]))
        read = {step: dict(entry) for step, entry in record["read"].items()}
        guard.history = History(read, record["fitted_on"])
        guard._weights_watch = WeightsWatch(guard.probe.network)
        guard.input_resize = record["input_resize"]
        if record["input_transform"] is not None:
            name, sha256 = map(str, record["input_transform"])
            guard.input_transform = name, sha256
    except (LookupError, TypeError, ValueError, RuntimeError, msgspec.MsgspecError) as error:
        raise StoreError(f"{where} does not describe a guard for this network: {error}") from error
    return guard


def _load_weights(network: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Load weights that were saved; a network of another kind stays as it was."""
    # Torch copies what fits before it says what does not.
    own = network.state_dict()
    names = sorted(own.keys() ^ state.keys())
    names += [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if names:
        raise StoreError(
            f"{where}: the weights beside it are of another network than the "
            f"{type(network).__name__} that was given: {len(names)} parts differ, such as "
            f"{', '.join(sorted(names)[:3])}"
        )
    network.load_state_dict(state)
