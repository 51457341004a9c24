"""A guard as plain values, and the arguments in them."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from torch import Tensor

from offmap.activations import Head, Tap
from offmap.errors import ArgumentError, StoreError
from offmap.forward import Normalization, weights_digest

if TYPE_CHECKING:
    from offmap.guard.guard import Guard


def record_of(guard: Guard) -> dict[str, Any]:
    """What JSON keeps of a guard.

    Raises:
        ArgumentError: the normalisation is a function of the user's own, or a detector is not
            registered.
    """
    probe = guard.probe
    if not isinstance(probe.normalization, Normalization):
        raise ArgumentError(
            f"the normalisation {probe.normalization!r} cannot be saved: use "
            "offmap.Normalization, or give normalised images"
        )
    return {
        "library": version("offmap"),
        "detectors": [each.record() for each in guard.detectors],  # type: ignore[operator]
        "calibration": guard.calibration.record() if guard.calibrated else None,
        "classes": list(guard.classes),
        "normalization": probe.normalization.record(),
        "head": _head_names(probe.asked_head, probe.head_name),
        "taps": [[tap.layer, tap.reduction] for tap in probe.taps],
        "layers": probe.layers,
        "precision": probe.precision,
        "channels_last": probe.channels_last,
        "outputs": probe.outputs,
        "floats": probe.floats,
        "network": type(probe.network).__name__,
        "network_sha256": guard.weights,
        "fitted_on": guard.history.fitted_on,
        "input_shape": guard.input_shape,
        "input_names": list(guard.input_names),
        "input_resize": guard.input_resize,
        "input_transform": guard.input_transform,
        "model": guard.model,
        "read": guard.history.read,
        **({} if guard.control_ is None else {"control": guard.control_.record()}),
    }


def graph_record_of(guard: Guard) -> dict[str, Any]:
    """What an exported graph says of itself, for readers of the file.

    Raises:
        NotFittedError: the guard is not calibrated.
    """
    return {
        "library": version("offmap"),
        "detectors": [each.record() for each in guard.detectors],  # type: ignore[operator]
        "rule": guard.calibration.rule,
        "alarm_rate": guard.calibration.alarm_rate,
        "alarm_rates": list(guard.calibration.alarm_rates),
        "confidence": guard.calibration.confidence,
        "promise": guard.calibration.promise,
        "threshold": guard.calibration.threshold,
        "classes": list(guard.classes),
        "network": type(guard.probe.network).__name__,
        "network_sha256": weights_digest(guard.probe.network),
        **({} if guard.control_ is None else {"control": guard.control_.record()}),
    }


def identity_of(guard: Guard) -> str:
    """A hash of all that a guard's verdicts depend on: of its record and tensors, by content."""
    record = record_of(guard) if isinstance(guard.probe.normalization, Normalization) else {}
    record.pop("read", None)  # when, and from how many samples, changes no verdict
    content = (json.dumps(record, sort_keys=True, default=repr), weights_digest(guard))
    return hashlib.sha256(repr(content).encode()).hexdigest()


def tensors_of(guard: Guard, *, weights: bool) -> dict[str, dict[str, Tensor]]:
    """The tensors of a guard by the file that keeps them, with those of the network if asked.

    Raises:
        ArgumentError: the network keeps more than tensors.
    """
    states = [each.state_dict() for each in guard.each()]
    state = {f"{i}.{name}": x for i, buffers in enumerate(states) for name, x in buffers.items()}
    files = {"state": state}
    if guard.calibrated:
        files["calibration"] = guard.calibration.state_dict()
    if head := _head_tensors(guard.probe.asked_head):
        files["head"] = head
    if not weights:
        return files
    files["network"] = network = guard.probe.network.state_dict()
    if names := [name for name, value in network.items() if not isinstance(value, Tensor)]:
        raise ArgumentError(
            f"the network keeps what is no tensor ({', '.join(names[:3])}), and a guard's folder "
            "holds tensors alone: save it without its network's weights"
        )
    return files


def _head_names(head: Any, name: Any) -> Any:
    """The name of the head's layer, or of each member's; none for a head given as tensors."""
    if isinstance(head, tuple):
        pairs = zip(head, name, strict=True)
        return [_head_names(of_member, layer) for of_member, layer in pairs]
    return None if isinstance(head, Head) else name


def _head_tensors(head: Any) -> dict[str, Tensor]:
    """The tensors of a head given as such, or of those of members, each by its number."""
    if isinstance(head, tuple):
        each = ((i, _head_tensors(of_member)) for i, of_member in enumerate(head))
        return {f"{i}.{name}": x for i, of_member in each for name, x in of_member.items()}
    tensors = vars(head) if isinstance(head, Head) else {}
    return {name: x for name, x in tensors.items() if x is not None}


def _head_argument(names: Any, tensors: dict[str, Tensor]) -> Any:
    """The argument ``head`` from what :func:`_head_names` and :func:`_head_tensors` gave."""
    if isinstance(names, list):
        parts = (
            {k.removeprefix(f"{i}."): x for k, x in tensors.items() if k.startswith(f"{i}.")}
            for i in range(len(names))
        )
        return [_head_argument(name, part) for name, part in zip(names, parts, strict=True)]
    return Head(**tensors) if tensors else names


def arguments_of(
    record: dict[str, Any], head: dict[str, Tensor] | None, normalization: Normalization | None
) -> dict[str, Any]:
    """The arguments that a guard of this record is made with.

    Args:
        record: of the guard.
        head: tensors of the head, where it was given as such.
        normalization: that the record may lack.

    Raises:
        StoreError: the record has another normalisation.
    """
    recorded = Normalization(**record["normalization"])
    if normalization not in (None, recorded) and recorded.known:
        raise StoreError(
            f"this guard normalises images by {recorded}, and was given {normalization}: leave the "
            "normalisation out, or fit the guard anew"
        )
    return {
        "classes": [str(name) for name in record["classes"]],
        "normalization": recorded if normalization is None else normalization,
        "head": _head_argument(record["head"], head or {}),
        "taps": [Tap(*tap) for tap in record["taps"]],
        "precision": record["precision"],
        "channels_last": record["channels_last"],
        "outputs": record["outputs"],
    }
