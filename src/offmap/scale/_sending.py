"""What every worker gets, once."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from offmap._utils.imports import OF_FILES
from offmap.errors import ArgumentError


def put(ray: Any, value: Any) -> Any:
    """A reference to what every worker gets.

    Raises:
        ArgumentError: it cannot be sent.
    """
    network = getattr(value, "network", value)  # of a probe
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
