"""What a guard is, learned and promises, in words: of one at hand, or from its folder alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from offmap.detectors import Detector, restored
from offmap.errors import StoreError
from offmap.guard import schema
from offmap.guard.calibration import Calibration
from offmap.guard.control import Control

_NO_PROMISE = (
    "How many OOD samples are caught depends on what they are: evaluate says it for given ones."
)


def explanation(
    network: str,
    read: Mapping[str, Mapping[str, Any]],
    detectors: Iterable[Detector],
    calibration: Calibration | None,
    control: Control | None,
) -> str:
    """What a guard is, what it learned, and what its decisions promise.

    Args:
        network: the name of its class.
        read: the data of each step.
        detectors: fitted, or still to be.
        calibration: of the threshold, where there is one.
        control: of errors, likewise.
    """
    lines = [f"Network {network}.", *(_read(step, of) for step, of in read.items())]
    lines += [f"Detector {each!r}: {_learned(each)}." for each in detectors]
    if calibration is None:
        return "\n".join([*lines, "It has no threshold yet: call calibrate."])
    accepts = [] if control is None else [str(control)]
    return "\n".join([*lines, calibration.explain(), *accepts, _NO_PROMISE])


def described(folder: str | Path) -> str:
    """What the guard in a folder is, without its network; nothing is changed.

    Raises:
        StoreError: a file is missing, damaged or of another version, or names an own detector that
            is not registered here.
    """
    record, files = schema.read(folder)
    where = f"{folder}/guard.json"
    try:
        detectors = list(detectors_of(record, files["state"], where))
        known = record["calibration"]
        calibration = None if known is None else Calibration.restored(known, files["calibration"])
        control = record.get("control")
        text = explanation(
            str(record["network"]),
            record["read"],
            detectors,
            calibration,
            None if control is None else msgspec.convert(control, Control),
        )
        return "\n".join([text, *_made_of(record, files)])
    except (LookupError, TypeError, ValueError, RuntimeError, msgspec.MsgspecError) as error:
        raise StoreError(f"{where} does not describe a guard: {error}") from error


def detectors_of(
    record: Mapping[str, Any], state: Mapping[str, Tensor], where: str
) -> Iterable[Detector]:
    """The detectors of a guard's record, which may still have to learn on calibration data."""
    for i, each in enumerate(record["detectors"]):
        own = {k.removeprefix(f"{i}."): x for k, x in state.items() if k.startswith(f"{i}.")}
        yield restored(each, own, where, waiting=True)


def _made_of(record: Mapping[str, Any], files: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """Lines on inputs, classes, network and versions."""
    shape = record["input_shape"]
    inputs = ", ".join(map(str, shape)) if shape else ", ".join(record["input_names"]) or "unknown"
    classes = record["classes"]
    names = ", ".join(map(str, classes[:10])) + (", ..." if len(classes) > 10 else "")
    weights = "kept in the folder" if "network" in files else "not kept"
    lines = [f"Inputs: {inputs}; {len(classes)} named classes{f': {names}' if names else ''}."]
    lines += [f"The network was built by {record['model']}."] if record["model"] else []
    digest = str(record["network_sha256"])[:16]
    return [*lines, f"Its weights (sha256 {digest}) are {weights}; offmap {record['library']}."]


def _read(step: str, of: Mapping[str, Any]) -> str:
    """A line on the data of one step."""
    right = of["accuracy"]
    words = "" if right is None else f"; the network is right on {right:.2%} of them"
    groups = f", one of each of {of['groups']:,} groups" if "groups" in of else ""
    return f"Read {of['samples']:,} samples to {step}{groups}{words}."


def _learned(each: Detector) -> str:
    if each.fitted:
        return each.summary()
    waits = each.waiting_for == "calibration" and "passes_" in each._buffers
    return "it still has to learn on calibration data" if waits else "not fitted"
