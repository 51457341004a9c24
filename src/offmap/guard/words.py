"""What a guard is, learned and promises, in words: of one in memory, or from its folder alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec
from torch import Tensor

from offmap._utils.files import reason_of
from offmap.detectors import Detector, restored
from offmap.errors import StoreError
from offmap.guard import schema
from offmap.guard.calibration import Calibration
from offmap.guard.control import Control

if TYPE_CHECKING:
    from offmap.guard.guard import Guard

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
    lines = [f"Network {network}."]
    for step, entry in read.items():
        day = f" on {entry['date']}" if entry.get("date") else ""
        groups = f", one of each of {entry['groups']:,} groups" if "groups" in entry else ""
        accuracy = entry["accuracy"]
        words = "" if accuracy is None else f"; the network is right on {accuracy:.2%} of them"
        lines.append(f"Read {entry['samples']:,} samples to {step}{day}{groups}{words}.")
    for each in detectors:
        state = each.summary() if each.fitted else "not fitted"
        waits = not each.fitted and each.waiting_for == "calibration"
        if waits and "passes_" in each._buffers:
            state = "it still has to learn on calibration data"
        lines.append(f"Detector {each!r}: {state}.")
    if calibration is None:
        return "\n".join([*lines, "It has no threshold yet: call calibrate."])
    accepts = [] if control is None else [str(control)]
    return "\n".join([*lines, calibration.explain(), *accepts, _NO_PROMISE])


@dataclass(frozen=True)
class Facts:
    """What is known of a guard without its network.

    Args:
        network: the name of its class.
        model: what built it, as on the command line, where known.
        weights: digest of the network's.
        weights_inside: whether these lie in the guard's folder; ``None`` without a folder.
        read: the data of each step.
        detectors: fitted, or still to be.
        calibration: of the threshold, where there is one.
        control: of errors, likewise.
        inputs: what they are, in words.
        classes: names of the labels.
        library: the version that made it.
    """

    network: str
    model: str | None
    weights: str | None
    weights_inside: bool | None
    read: Mapping[str, Mapping[str, Any]]
    detectors: Sequence[Detector]
    calibration: Calibration | None
    control: Control | None
    inputs: str
    classes: Sequence[str]
    library: str

    @classmethod
    def of(cls, guard: Guard) -> Self:
        """Those of a guard in memory."""
        return cls(
            network=type(guard.probe.network).__name__,
            model=guard.model,
            weights=guard.weights,
            weights_inside=None,
            read=guard.history.read,
            detectors=guard.each(),
            calibration=guard.calibration if guard.calibrated else None,
            control=guard.control_,
            inputs=_inputs(guard.input_shape, guard.input_names),
            classes=guard.classes,
            library=version("offmap"),
        )

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Those of the guard in a folder, in which nothing is changed.

        Raises:
            StoreError: a file is missing, damaged or of another version, or names an own detector
                that is not registered here.
        """
        record, files = schema.read(folder)
        where = f"{folder}/guard.json"
        try:
            calibration, control = record["calibration"], record.get("control")
            return cls(
                network=str(record["network"]),
                model=record["model"],
                weights=record["network_sha256"],
                weights_inside="network" in files,
                read=record["read"],
                detectors=list(detectors_of(record, files["state"], where)),
                calibration=None
                if calibration is None
                else Calibration.restored(calibration, files["calibration"]),
                control=None if control is None else msgspec.convert(control, Control),
                inputs=_inputs(record["input_shape"], record["input_names"]),
                classes=[str(name) for name in record["classes"]],
                library=str(record["library"]),
            )
        except (LookupError, TypeError, ValueError, RuntimeError, msgspec.MsgspecError) as error:
            raise StoreError(f"{where} does not describe a guard: {reason_of(error)}") from error

    def explain(self) -> str:
        """What the guard is, learned and promises."""
        return explanation(self.network, self.read, self.detectors, self.calibration, self.control)

    def made_of(self) -> list[str]:
        """Lines on inputs, classes, network and versions."""
        names = ", ".join(self.classes[:10]) + (", ..." if len(self.classes) > 10 else "")
        classes = f"{len(self.classes)} named classes{f': {names}' if names else ''}"
        maker = [f"The network was built by {self.model}."] if self.model else []
        places = {None: "", True: " are kept in the folder", False: " are not kept"}
        digest = f"Its weights (sha256 {str(self.weights)[:16]}){places[self.weights_inside]}"
        return [
            f"Inputs: {self.inputs}; {classes}.",
            *maker,
            f"{digest}; offmap {self.library}.",
        ]


def described(folder: str | Path) -> str:
    """What the guard in a folder is, without its network; nothing is changed.

    Raises:
        StoreError: as for :meth:`Facts.load`.
    """
    facts = Facts.load(folder)
    return "\n".join([facts.explain(), *facts.made_of()])


def _inputs(shape: Sequence[int] | None, names: Sequence[str]) -> str:
    return ", ".join(map(str, shape)) if shape else ", ".join(names) or "unknown"


def detectors_of(
    record: Mapping[str, Any], state: Mapping[str, Tensor], where: str
) -> Iterable[Detector]:
    """The detectors of a guard's record, which may still have to learn on calibration data."""
    for i, each in enumerate(record["detectors"]):
        buffers = {k.removeprefix(f"{i}."): x for k, x in state.items() if k.startswith(f"{i}.")}
        yield restored(each, buffers, where, waiting=True)
