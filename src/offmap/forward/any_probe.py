"""The interface of every probe, of one network, an ensemble or a cascade."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from offmap._utils.inputs import Inputs, Prepared
from offmap._utils.precision import wide_device
from offmap._utils.warning import warn_user
from offmap.activations import Activations, Head, Sample
from offmap.errors import FeaturesWarning
from offmap.forward._digest import weights_digest
from offmap.forward._shared import Shared


class AnyProbe(Shared):
    """Runs a network on inputs and keeps what the detectors read.

    A context manager: evaluation mode is set at the start, and mode, device and hooks are as before
    at the end. Threads may share a probe.

    Attributes:
        network: the bare network, or networks.
        taps: other layers that are kept.
        precision: "fp32" or "bf16".
        channels_last: memory layout of images, ``None`` until a first batch shows whether the
            network takes it.
        outputs: what the network returns: logits, or probabilities.
        floats: the form of float images, once some came: "unit" for those in [0, 1]
            that are normalised here, or "normalised".
        device: where it runs.
        asked_device: the device that was asked for, if any.
        takes: the names of the inputs in the signature of the network.
    """

    network: nn.Module
    precision: str
    channels_last: Any
    outputs: str
    device: torch.device
    asked_device: torch.device | None
    floats: Any
    # Attributes of one network's probe, and properties of the others'.
    taps: Any
    normalization: Any
    head: Any
    head_name: Any
    asked_head: Any
    why_no_head: Any
    takes: Any

    @property
    def home(self) -> torch.device:
        """The device of the activations, wherever the parts of the network are.

        Detectors compute in float64, which not every device has.
        """
        return wide_device(self.device)

    @property
    @abstractmethod
    def knows_head(self) -> bool:
        """Whether a head was found."""

    @property
    @abstractmethod
    def unverified(self) -> str:
        """Why the features may not be the input of the head, unless the user named its layer."""

    def warn_unverified(self) -> None:
        """Warn of features that may not be the input of the head."""
        if reason := self.unverified:
            warn_user(
                f"the features are the input of {self.head_name!r}, and it cannot be shown that "
                f"they are those of the head: {reason}. Name the layer whose input they are by "
                "head=",
                FeaturesWarning,
            )

    @property
    @abstractmethod
    def bears_inference(self) -> bool:
        """Whether a pass may run in inference mode, as far as is known without a try."""

    @property
    def parts(self) -> tuple[AnyProbe, ...]:
        """The probes of the systems that run side by side."""
        return (self,)

    @abstractmethod
    def __call__(self, inputs: Inputs | Prepared) -> Activations:
        """The activations of a batch."""

    def taken(self, inputs: Any) -> Any:
        """The inputs without columns that the network is known not to take."""
        return inputs

    @abstractmethod
    def logits(self, inputs: Inputs | Prepared) -> Tensor:
        """The logits of a batch alone, for which no head is looked for."""

    @abstractmethod
    def sample(self, inputs: Inputs | Prepared) -> Sample:
        """The activations of a batch, with the way to run other inputs with gradients."""

    @abstractmethod
    def traced(self, inputs: Tensor) -> Activations:
        """The same as a call, by operations that can be traced."""

    def traced_logits(self, inputs: Tensor) -> Tensor:
        """The logits alone, by operations that can be traced; no head is needed."""
        return self.traced(inputs).logits

    @abstractmethod
    def adopt(self, head: Any) -> None:
        """Take the head from an earlier run of the same network."""

    @abstractmethod
    def resolve(self, layers: dict[str, Any]) -> None:
        """Take the layers of each rule from an earlier run of the same network."""

    @property
    @abstractmethod
    def layers(self) -> dict[str, Any]:
        """The layers of each rule of the taps, resolved on the first batch."""

    def key(self) -> tuple[Any, ...]:
        """Everything that activations depend on besides the inputs, as plain values."""
        taps = sorted((tap.layer, tap.reduction) for tap in self.taps)
        # A head that was given adds nothing to the weights and the place where it fits.
        head = "given" if isinstance(self.asked_head, Head) else self.asked_head
        run = (repr(self.network), head, taps, self.precision, self.normalization, self.outputs)
        return weights_digest(self.network), run

    def described(self) -> dict[str, Any]:
        """The settings of the run, for results."""
        reason = {"why_no_head": self.why_no_head} if self.why_no_head else {}
        name = self.head_name
        return {
            "network": type(self.network).__name__,
            "head": list(name) if isinstance(name, tuple) else name,
            "precision": self.precision,
            "device": str(self.device),
            "normalization": repr(self.normalization),
            **reason,
        }
