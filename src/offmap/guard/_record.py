"""A guard as plain values, and the arguments in them."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from torch import Tensor

from offmap.activations import Head, Tap
from offmap.errors import ArgumentError
from offmap.forward import Normalization

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
        "head": None if isinstance(probe.asked_head, Head) else probe.head_name,
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


def tensors_of(guard: Guard, *, weights: bool) -> dict[str, dict[str, Tensor]]:
    """The tensors of a guard by the file that keeps them, with those of the network if asked."""
    states = {str(i): each.state_dict() for i, each in enumerate(guard.each())}
    files = {"state": {f"{i}.{name}": x for i, of in states.items() for name, x in of.items()}}
    if guard.calibrated:
        files["calibration"] = guard.calibration.state_dict()
    if isinstance(head := guard.probe.asked_head, Head):
        bias = {} if head.bias is None else {"bias": head.bias}
        files["head"] = {"weight": head.weight, **bias}
    if weights:
        files["network"] = guard.probe.network.state_dict()
    return files


def arguments_of(record: dict[str, Any], head: dict[str, Tensor] | None) -> dict[str, Any]:
    """The arguments with which a guard of that record is made, and with the head that was given."""
    return {
        "classes": [str(name) for name in record["classes"]],
        "normalization": Normalization(**record["normalization"]),
        "head": record["head"] if head is None else Head(head["weight"], head.get("bias")),
        "taps": [Tap(*tap) for tap in record["taps"]],
        "precision": record["precision"],
        "channels_last": record["channels_last"],
        "outputs": record["outputs"],
    }
