"""An ensemble, with the head of each member: each member runs each sample once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Never

import torch
from torch import Tensor, nn

from offmap._utils.inputs import Inputs, Prepared
from offmap.activations import (
    Activations,
    HasMembers,
    Head,
    Heads,
    Sample,
    Tap,
    log_mean_probabilities,
)
from offmap.errors import ArgumentError
from offmap.forward._device import as_device, placed
from offmap.forward._outputs import unwrapped
from offmap.forward._preparing import copied
from offmap.forward.any_probe import AnyProbe
from offmap.forward.options import check_options
from offmap.forward.probe import Probe


class EnsembleProbe(AnyProbe):
    """Runs the members of an ensemble in turn, and keeps what the detectors read of each.

    It is used as :class:`Probe` is, which it holds for each member. The images are moved and
    normalised once for all of them, and each gets a copy, on which it may work in place.

    Args:
        network: an ensemble, such as :class:`offmap.networks.Ensemble`; its own ``forward`` is not
            called.
        head: name of the last linear layer in every member, or the head itself where all share it;
            or a sequence of one name, head or ``None`` for each.
        taps: other layers to keep of every member.
        device: where to run; by default where the first member is.
        precision: as for :class:`Probe`.
        channels_last: likewise.
        normalization: likewise.
        outputs: likewise, of every member.

    Attributes:
        head: the heads of the members, each ``None`` until it is found, and where there is none.
        head_name: the names of their layers.

    Raises:
        ArgumentError: a name is not one of a member's modules, or not as many names as members.
        ShapeError: on a batch, if the members differ in their number of classes.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        head: str | Head | Sequence[Any] | None = None,
        taps: Sequence[Tap] = (),
        device: str | torch.device | None = None,
        precision: str = "fp32",
        channels_last: bool | None = None,
        normalization: Callable[[Tensor], Tensor] | None = None,
        outputs: str = "logits",
        **unknown: Never,
    ) -> None:
        check_options(unknown, EnsembleProbe)
        super().__init__()
        self.network = unwrapped(network)
        assert isinstance(self.network, HasMembers)
        members = list(self.network.members)
        if head is None or isinstance(head, str | Head):
            head = (head,) * len(members)
        if len(head) != len(members):
            raise ArgumentError(
                f"head names {len(head)} layers, {list(head)}, and the ensemble has {len(members)} "
                "members: give one name for all, or one for each"
            )
        self.asked_head = tuple(head)
        self.asked_device = as_device(device)
        self.probes = [
            Probe(
                member, head=name, normalization=normalization,
                taps=taps, precision=precision, channels_last=channels_last, outputs=outputs,
            )
            for member, name in zip(members, self.asked_head, strict=True)
        ]  # fmt: skip
        leader = self.probes[0]
        self.taps, self.precision = leader.taps, leader.precision
        self.channels_last, self.outputs = leader.channels_last, leader.outputs
        self.device = self.asked_device or leader.device
        self.takes = frozenset().union(*(probe.takes for probe in self.probes))

    @property
    def normalization(self) -> Any:
        """The function applied to uint8 images."""
        return self.probes[0].normalization

    @property
    def floats(self) -> str | None:
        """The form of float images, once some came."""
        return self.probes[0].floats

    @floats.setter
    def floats(self, form: str | None) -> None:
        for probe in self.probes:
            probe.floats = form

    @property
    def head(self) -> Heads:
        """The members' heads."""
        return tuple(probe.head for probe in self.probes)

    @property
    def head_name(self) -> tuple[str | None, ...]:
        """The names of the members' last linear layers."""
        return tuple(probe.head_name for probe in self.probes)

    @property
    def why_no_head(self) -> str:
        """Which members have no head, and why."""
        return "; ".join(
            f"member {i}: {probe.why_no_head}"
            for i, probe in enumerate(self.probes)
            if probe.head is None
        )

    @property
    def bears_inference(self) -> bool:
        """Whether each member does."""
        return all(probe.bears_inference for probe in self.probes)

    @property
    def unverified(self) -> str:
        """Of which members the features may not be the input of the head."""
        return "; ".join(
            f"member {i}: {probe.unverified}"
            for i, probe in enumerate(self.probes)
            if probe.unverified
        )

    @property
    def knows_head(self) -> bool:
        """Whether the head of a member was found."""
        return any(probe.knows_head for probe in self.probes)

    def adopt(self, head: Any) -> None:
        """Take the heads from an earlier run of the same ensemble."""
        for probe, member_head in zip(self.probes, head or [None] * len(self.probes), strict=True):
            probe.adopt(member_head)

    def __call__(self, inputs: Inputs | Prepared) -> Activations:
        """The activations of a batch of images, uint8 or normalised, of every member."""
        with self.opened():
            x = self._prepared(inputs)
            return Activations.of_members([probe(copied(x)).to(self.home) for probe in self.probes])

    @torch.no_grad()
    def _prepared(self, inputs: Inputs | Prepared) -> Prepared:
        prepared = Prepared(self.probes[0].prepared(inputs))
        # The others get these alone, and normalise images by themselves where they are traced.
        self.floats = self.probes[0].floats
        return prepared

    def logits(self, inputs: Inputs | Prepared) -> Tensor:
        """The logits of a batch alone, for which no head is looked for."""
        with self.opened():
            x = self._prepared(inputs)
            members = [Activations(probe.logits(copied(x)).to(self.home)) for probe in self.probes]
        return Activations.of_members(members).logits

    def sample(self, inputs: Inputs | Prepared) -> Sample:
        """The activations of a batch, with the way to run other inputs with gradients."""
        with self.opened():
            samples = [probe.sample(inputs) for probe in self.probes]

        def rerun(x: Tensor, **options: Any) -> Activations:
            return Activations.of_members([sample.run(x, **options) for sample in samples])

        acts = Activations.of_members([sample.acts for sample in samples])
        return Sample(acts, samples[0].inputs, rerun)

    def traced(self, images: Tensor) -> Activations:
        """The same as a call, by operations that can be traced."""
        members = tuple(probe.traced(images) for probe in self.probes)
        return Activations(log_mean_probabilities([m.logits for m in members]), members=members)

    def traced_logits(self, images: Tensor) -> Tensor:
        return log_mean_probabilities([probe.traced_logits(images) for probe in self.probes])

    @property
    def layers(self) -> dict[str, Any]:
        """The layers of each rule, by member."""
        layers = {str(i): probe.layers for i, probe in enumerate(self.probes) if probe.layers}
        return dict(layers)

    def resolve(self, layers: dict[str, Any]) -> None:
        """Take the layers of each rule from an earlier run of the same ensemble."""
        for i, probe in enumerate(self.probes):
            probe.resolve(layers.get(str(i), {}))

    def _prepare(self, stack: ExitStack) -> None:
        # Moved as a whole: members may share their tensors, and the first would move the others'.
        modules = list(self.network.modules())
        self.device = placed(self.network, modules, self.asked_device, stack)
        for probe in self.probes:
            stack.enter_context(probe)
