"""Two systems over the same images: one detects OOD, the other predicts classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Never, Unpack

import torch
from torch import Tensor, nn

from offmap._utils.inputs import Inputs, Prepared
from offmap.activations import Activations, HasMembers, Head, Heads, Sample, Tap
from offmap.errors import ArgumentError, ShapeError
from offmap.forward._device import as_device, placed
from offmap.forward._outputs import unwrapped
from offmap.forward._preparing import copied
from offmap.forward.any_probe import AnyProbe
from offmap.forward.ensemble import EnsembleProbe
from offmap.forward.options import ProbeOptions, check_options
from offmap.forward.probe import Probe


class FilterAndClassifier(nn.Module):
    """Two systems of the same classes, each run once over data.

    Args:
        filter: the network, ensemble or guard whose activations are scored.
        classifier: the one whose predictions count.

    Raises:
        ArgumentError: a part is itself such a pair.
    """

    def __init__(self, *, filter: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        for name, part in (("filter", filter), ("classifier", classifier)):
            probe = probe_within(part)
            if isinstance(unwrapped(part) if probe is None else probe.network, FilterAndClassifier):
                raise ArgumentError(
                    f"the {name} of this cascade is a cascade itself, and only its own {name} "
                    f"would count: give that one's {name}"
                )
        self.filter = filter
        self.classifier = classifier


class CascadeProbe(AnyProbe):
    """Runs the filter and the classifier of a cascade, each once, or once if they are one system.

    The activations are those of the filter, with the logits of the classifier beside them. A part
    that is a guard runs as that guard runs its network; a bare one by the arguments given here.

    Args:
        network: the two systems.
        head: name of the filter's last linear layer, or names: see :class:`EnsembleProbe`. The
            classifier needs none.
        taps: other layers to keep of the filter.
        device: where both run; by default where the guards among them do, or where each part is.
        precision: as for :class:`Probe`, of parts that are no guards.
        channels_last: likewise.
        normalization: likewise; by default that of the guard beside it.
        outputs: as for :class:`Probe`, of parts that are no guards.

    Attributes:
        filter: the probe of the filter.
        classifier: the probe of the classifier.
        network: the two bare networks: what guards hold beside theirs does not count here.
        one_system: whether filter and classifier are one network that is run in one way.

    Raises:
        ShapeError: on a batch, if the two differ in their number of classes.
    """

    network: FilterAndClassifier
    asked_device: torch.device | None

    def __init__(
        self,
        network: nn.Module,
        *,
        head: Any = None,
        taps: Sequence[Tap] = (),
        device: str | torch.device | None = None,
        precision: str = "fp32",
        channels_last: bool | None = None,
        normalization: Callable[[Tensor], Tensor] | None = None,
        outputs: str = "logits",
        **unknown: Never,
    ) -> None:
        check_options(unknown, CascadeProbe)
        super().__init__()
        pair = unwrapped(network)
        assert isinstance(pair, FilterAndClassifier)
        guards = [p for p in map(probe_within, (pair.filter, pair.classifier)) if p is not None]
        normalizations = [normalization, *(guard.normalization for guard in guards)]
        devices = [device, *(guard.asked_device for guard in guards)]
        self.precision, self.channels_last, self.outputs = precision, channels_last, outputs
        default = next((value for value in normalizations if value is not None), None)
        self.asked_device = next((as_device(d) for d in devices if d is not None), None)
        options: ProbeOptions = {
            "precision": precision,
            "channels_last": channels_last,
            "normalization": default,
            "outputs": outputs,
        }
        self.filter = _probe_of_part(pair.filter, **{**options, "head": head, "taps": taps})
        self.classifier = _probe_of_part(pair.classifier, **options)
        for guard in guards:  # a bare part takes its images as the guard beside it does
            for probe in self.parts:
                if probe.floats is None and probe.normalization == guard.normalization:
                    probe.floats = guard.floats
        self.network = FilterAndClassifier(
            filter=self.filter.network, classifier=self.classifier.network
        )
        self.device = self.asked_device or self.filter.device
        runs = [(p.precision, p.channels_last, p.normalization, p.outputs) for p in self.parts]
        self.one_system = self.filter.network is self.classifier.network and runs[0] == runs[1]
        self.takes = self.filter.takes | self.classifier.takes

    @property
    def normalization(self) -> Any:
        """The function that the filter applies to uint8 images."""
        return self.filter.normalization

    @property
    def floats(self) -> Any:
        """The form of float images, once some came."""
        return self.filter.floats

    @floats.setter
    def floats(self, form: str | None) -> None:
        self.filter.floats = form
        # One that normalises otherwise looks at its own first images.
        if self.classifier.normalization == self.filter.normalization:
            self.classifier.floats = form

    @property
    def head(self) -> Head | Heads | None:
        """The head of the filter, or of its members."""
        return self.filter.head

    @property
    def head_name(self) -> Any:
        """The name of the filter's last linear layer, or those of its members."""
        return self.filter.head_name

    @property
    def asked_head(self) -> Any:
        """The name or head that was given for it."""
        return self.filter.asked_head

    @property
    def why_no_head(self) -> str:
        """Why the filter has no head."""
        return self.filter.why_no_head

    @property
    def unverified(self) -> str:
        """Why the features of the filter may not be the input of its head."""
        return self.filter.unverified

    @property
    def knows_head(self) -> bool:
        """Whether the head of the filter was found."""
        return self.filter.knows_head

    def adopt(self, head: Any) -> None:
        """Take the filter's head from an earlier run of it."""
        self.filter.adopt(head)

    def __call__(self, images: Inputs | Prepared) -> Activations:
        """The activations of a batch of images, uint8 or normalised, of filter and classifier."""
        with self.opened():
            filter_images = images if self.one_system else copied(images)
            return self._add_classifier_logits(self.filter(filter_images), images)

    def _add_classifier_logits(self, acts: Activations, images: Inputs | Prepared) -> Activations:
        """The filter's activations, with the classifier's logits of the same images."""
        if self.one_system:
            return acts
        logits = self.classifier.logits(images).to(acts.logits.device)
        if logits.shape != acts.logits.shape:
            raise ShapeError(
                f"the filter has {acts.logits.shape[1]} classes, and the classifier "
                f"{logits.shape[1]}: a cascade takes two systems that know the same classes"
            )
        return acts.replace(classifier_logits=logits)

    @property
    def bears_inference(self) -> bool:
        """Whether both systems do."""
        return all(probe.bears_inference for probe in self.parts)

    @property
    def parts(self) -> tuple[AnyProbe, ...]:
        """The probes of filter and classifier."""
        return self.filter, self.classifier

    @property
    def taps(self) -> Any:
        """The layers that are kept of the filter."""
        return self.filter.taps

    @property
    def layers(self) -> dict[str, Any]:
        """The layers of each rule, in the filter."""
        return self.filter.layers

    def resolve(self, layers: dict[str, Any]) -> None:
        """Take the layers of each rule from an earlier run of the filter."""
        self.filter.resolve(layers)

    def logits(self, images: Inputs | Prepared) -> Tensor:
        """The logits of the classifier."""
        with self.opened():
            return self.classifier.logits(images)

    def sample(self, images: Inputs | Prepared) -> Sample:
        """The sample of the filter, and the label of the classifier."""
        with self.opened():
            sample = self.filter.sample(images)
        return replace(sample, acts=self._add_classifier_logits(sample.acts, images))

    def traced(self, images: Tensor) -> Activations:
        """The same as a call, by operations that can be traced."""
        acts = self.filter.traced(images)
        if self.one_system:
            return acts
        return acts.replace(classifier_logits=self.classifier.traced_logits(images))

    def key(self) -> tuple[Any, ...]:
        """The keys of filter and classifier."""
        return self.filter.key(), self.classifier.key()

    def described(self) -> dict[str, Any]:
        """The settings of the filter, and under "classifier" those of the classifier."""
        return self.filter.described() | {"classifier": self.classifier.described()}

    def _prepare(self, stack: ExitStack) -> None:
        # Moved as a whole, as the two may share their tensors.
        placed(self.network, list(self.network.modules()), self.asked_device, stack)
        for probe in (self.filter, self.classifier):
            stack.enter_context(probe)
        self.device = self.filter.device


def probe_within(part: nn.Module) -> AnyProbe | None:
    """The probe by which a guard runs its network; ``None`` for a bare one."""
    probe = getattr(part, "probe", None)
    return probe if isinstance(probe, AnyProbe) else None


def of_one(network: nn.Module, **options: Unpack[ProbeOptions]) -> Probe | EnsembleProbe:
    """The probe of a network, or of an ensemble."""
    if isinstance(unwrapped(network), HasMembers):
        return EnsembleProbe(network, **options)
    return Probe(network, **options)


def _probe_of_part(part: nn.Module, **options: Unpack[ProbeOptions]) -> Probe | EnsembleProbe:
    guard_probe = probe_within(part)
    if guard_probe is None:
        return of_one(part, **options)
    assert not isinstance(guard_probe, CascadeProbe)
    probe = of_one(
        guard_probe.network,
        head=options.get("head") or guard_probe.asked_head,
        taps=options.get("taps") or guard_probe.taps,
        precision=guard_probe.precision,
        channels_last=guard_probe.channels_last,
        normalization=guard_probe.normalization,
        outputs=guard_probe.outputs,
    )
    probe.floats = guard_probe.floats  # as the guard's first images showed
    return probe
