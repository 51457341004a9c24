"""What every probe can do, whether it runs one network, an ensemble or a cascade."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from offmap.activations import Activations, Sample
from offmap.forward._digest import weights_digest
from offmap.forward._shared import Shared

HeadName = str | None | Sequence[str | None]


class AnyProbe(Shared):
    """Runs a network on inputs and keeps what the detectors read.

    A context manager: evaluation mode is set at the start, and mode, device and hooks are as before
    at the end. Threads may share a probe.

    Attributes:
        network: the bare network, or networks.
        taps: other layers that are kept.
        precision: "fp32" or "bf16".
        channels_last: memory layout of images.
        device: where it runs.
        asked_device: where it was asked to run, if that was said.
        input_shape: channels, height and width of the first images that came in a pass over data.
    """

    network: nn.Module
    precision: str
    channels_last: bool
    device: torch.device
    asked_device: torch.device | None
    input_shape: tuple[int, int, int] | None = None
    # Attributes of one network's probe, and properties of the others'.
    taps: Any
    normalization: Any
    head: Any
    head_name: Any
    asked_head: Any
    why_no_head: Any

    @property
    @abstractmethod
    def knows_head(self) -> bool:
        """Whether a head was found."""

    @property
    def parts(self) -> tuple[AnyProbe, ...]:
        """The probes of the systems that run side by side."""
        return (self,)

    @abstractmethod
    def __call__(self, inputs: Tensor) -> Activations:
        """The activations of a batch."""

    @abstractmethod
    def logits(self, inputs: Tensor) -> Tensor:
        """The logits of a batch alone, for which no head is looked for."""

    @abstractmethod
    def sample(self, inputs: Tensor) -> Sample:
        """The activations of a batch, with the way to run other inputs with gradients."""

    @abstractmethod
    def traced(self, inputs: Tensor) -> Activations:
        """The same as a call, in terms that a trace can follow."""

    def traced_logits(self, inputs: Tensor) -> Tensor:
        """The logits alone, in terms that a trace can follow: no head is asked for."""
        return self.traced(inputs).logits

    @abstractmethod
    def adopt(self, head: Any) -> None:
        """Take the head from an earlier run of the same network."""

    @abstractmethod
    def resolve(self, layers: dict[str, Any]) -> None:
        """Take the layers that rules stand for from an earlier run of the same network."""

    @property
    @abstractmethod
    def layers(self) -> dict[str, Any]:
        """The layers that the rules of the taps stand for, once a batch has been seen."""

    def key(self) -> tuple[Any, ...]:
        """All that the activations of given inputs depend on, in plain values."""
        taps = [(tap.layer, tap.reduction) for tap in self.taps]
        how = (repr(self.network), self.asked_head, taps, self.precision, self.normalization)
        return weights_digest(self.network), how

    def described(self) -> dict[str, Any]:
        """How the network runs, for the settings of results."""
        why = {"why_no_head": self.why_no_head} if self.why_no_head else {}
        name = self.head_name
        return {
            "network": type(self.network).__name__,
            "head": list(name) if isinstance(name, tuple) else name,
            "precision": self.precision,
            "device": str(self.device),
            "normalization": repr(self.normalization),
            **why,
        }


Normalize = Callable[[Tensor], Tensor]
