"""Objects that are sent to every worker, once."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from offmap._utils.imports import OF_FILES
from offmap.errors import ArgumentError
from offmap.forward import AnyProbe


def put(ray: Any, value: Any) -> Any:
    """A reference to an object for all workers.

    Raises:
        ArgumentError: it cannot be sent.
    """
    probe = getattr(value, "probe", value)
    network = getattr(value, "network", value)  # of a probe
    if isinstance(probe, AnyProbe):
        # Workers without a GPU cannot read tensors on one, and others have another GPU.
        devices = (x.device for x in probe.network.parameters() if x.device.type != "cpu")
        device = probe.asked_device or next(devices, None)
        if device is not None and device.type != "cpu":
            raise ArgumentError(
                f"the network is to run on {device} here, and workers read it from the CPU: leave "
                "it there, and say where the workers run by device"
            )
    modules = network.modules() if isinstance(network, nn.Module) else ()
    names = {type(module).__module__ for module in modules}
    for part in getattr(value, "parts", ()):
        names.add(getattr(getattr(getattr(part, "own", None), "function", None), "__module__", ""))
    for name in names:
        if name.startswith(OF_FILES):  # a file that the user named: workers do not find it by name
            ray.cloudpickle.register_pickle_by_value(sys.modules[name])
    try:
        return ray.put(value)
    except Exception as error:  # whatever the parts of a network raise
        raise ArgumentError(
            f"the {type(value).__name__.lower()} cannot be sent to workers "
            f"({str(error).strip().splitlines()[0]}): work in one process, without an engine"
        ) from error
