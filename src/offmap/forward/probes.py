"""The probe that fits a network."""

from __future__ import annotations

from typing import Unpack

from torch import nn

from offmap.errors import ArgumentError
from offmap.forward._outputs import unwrapped
from offmap.forward.any_probe import AnyProbe
from offmap.forward.cascade import CascadeProbe, FilterAndClassifier, of_one
from offmap.forward.options import ProbeOptions


def probe_of(network: nn.Module, **options: Unpack[ProbeOptions]) -> AnyProbe:
    """The probe of a network: a :class:`Probe`, or one of an ensemble or cascade.

    Args:
        network: any classifier, an ensemble of some, or a filter and a classifier.
        **options: arguments of the probe.

    Raises:
        ArgumentError: the network is no module.
    """
    if not isinstance(network, nn.Module):
        raise ArgumentError(
            f"a network is a torch.nn.Module; seen {type(network).__name__}: give a module, such "
            "as one whose forward calls a function"
        )
    if isinstance(unwrapped(network), FilterAndClassifier):
        return CascadeProbe(network, **options)
    return of_one(network, **options)
