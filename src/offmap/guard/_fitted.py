"""A network and the detectors around it, and how these are fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain
from typing import TYPE_CHECKING, Any, Self, Unpack

import torch
from jaxtyping import Float
from torch import Tensor, nn

from offmap._utils.locks import ModuleLock
from offmap.activations import Sample
from offmap.detectors import Detector, Fitting, Needs, detector, passes, taps_of
from offmap.errors import ArgumentError, NotFittedError
from offmap.forward import (
    AnyProbe,
    Batched,
    EachPass,
    RunOptions,
    Seen,
    check_options,
    class_names,
    forward,
    probe_of,
    weights_digest,
)
from offmap.guard._inputs import WeightsWatch, check_same_transform, data_to_fit, in_classes
from offmap.guard._light import Light
from offmap.guard.calibrating import classes_of, is_unbound
from offmap.guard.calibration import Calibration
from offmap.guard.calibration_data import acts_of
from offmap.guard.control import Control
from offmap.guard.history import History

if TYPE_CHECKING:
    from offmap.data import OwnTransform
    from offmap.data.types import Resize
    from offmap.guard.spreading import Spreading

_device_lock = ModuleLock()  # one thread at a time moves what others score by


class Fitted(nn.Module):
    """Fits the detectors; ``Learning`` adds the calibration.

    The arguments are those of :class:`offmap.Guard`.
    """

    def __init__(
        self,
        network: nn.Module,
        detectors: str | Detector | Sequence[str | Detector] = "auto",
        *,
        classes: Sequence[str] = (),
        normalization: Callable[[Tensor], Tensor] | None = None,
        **probe: Unpack[RunOptions],
    ) -> None:
        check_options(probe, type(self))
        super().__init__()
        specs = [detectors] if isinstance(detectors, str | Detector) else list(detectors)
        if not specs:
            raise ArgumentError("a guard needs at least one detector")
        self.network = network
        self.detectors = nn.ModuleList(deepcopy(detector(spec)) for spec in specs)
        self.reads_inputs = any(Needs.INPUTS in each.needs for each in self.each())
        if isinstance(classes, str):
            raise ArgumentError(f"classes must be a list of names; seen the text {classes!r}")
        self.classes = tuple(map(str, classes))  # numbers, too: a record holds names
        self._calibration: Calibration | None = None
        taps = [*probe.pop("taps", ()), *(tap for each in self.each() for tap in taps_of(each))]
        self._options: dict[str, Any] = {"normalization": normalization, "taps": taps, **probe}
        self.probe = probe_of(network, **self._options)
        self._class_names = self.classes
        self.weights: str | None = None
        self.input_shape: tuple[int, ...] | None = None
        self.input_names: tuple[str, ...] = ()
        self.input_resize: Resize = "crop"
        self.input_transform: tuple[str, str] | None = None
        self.model: str | None = None
        self.history = History()
        self.control_: Control | None = None
        self._weights_watch: WeightsWatch | None = None
        self._light = Light()

    def fit(
        self,
        data: Any,
        *,
        batch_size: int = 256,
        spread: Spreading | None = None,
        show_progress: bool | None = None,
    ) -> Self:
        """Fit the detectors on the network's training data, un-augmented, read once.

        Detectors that need inputs, and learn in several passes, read it once in each.
        Where this fails, or is interrupted, the guard stays as it was.

        Args:
            data: a set of ``offmap.data`` or its name or path; any iterable of batches, of
                ``(inputs, labels)`` or mappings; a data set of torch; or arrays ``(X, y)``.
            batch_size: samples a batch, for what does not come in batches.
            spread: lets other processes collect the statistics: see :func:`offmap.scale.fit`.
            show_progress: ``None`` shows a bar on a terminal.

        Warns:
            ChanceWarning: the network is hardly right on what was read.
            FeaturesWarning: the detectors read features that may not be those of the head.
            OutputsWarning: the network's outputs are hardly logits; or they depend on the rest of
                the batch, or on chance, as two samples show that are run once more.

        Raises:
            ArgumentError: there are names of classes, and not one for each output.
        """
        data, seen = data_to_fit(data), Seen(comparing=True)
        data = in_classes(data, self._class_names or class_names(self.network))
        with self._transaction() as probe:
            passing: Any = self.passing(data, "fit", batch_size, show_progress, seen)
            first = next(passing)
            names = self._output_names(data, classes_of(acts_of(first[0])))
            fitting = Fitting(self.each(), lambda: probe.head)
            fitting.begin()
            if spread is None and not self._runs_in_each_pass(data):
                fitting.learn("train", chain([first], passing))
            elif spread is None:
                passing.close()
                batches = EachPass(
                    lambda of: self.passing(data, "fit", batch_size, show_progress, of)
                )
                fitting.learn("train", batches)
                seen = batches.seen
            else:
                passing.close()  # and its bar: workers read the first batch again
                fitting.learn("train", spread.over(self, data, first[0], batch_size, seen))
            fitting.bind(first[0])
            for each in self.each():
                if each.fitted:
                    each.check(each.view_of(first[0]))
        self.weights = weights_digest(probe.network)
        self._weights_watch = WeightsWatch(probe.network)
        self.input_shape, self.input_names = seen.shape, seen.names
        # Only of a set: tensors have a method ``resize``.
        resize = getattr(data, "resize", None) if isinstance(data, Batched) else None
        self.input_resize = resize or "crop"
        self.input_transform = getattr(getattr(data, "own", None), "id", None)
        self._calibration = self.control_ = None
        self._light = Light()
        self.classes = names
        self.history.fitted(data, seen)
        if any(Needs.FEATURES in each.needs for each in self.each()):
            probe.warn_unverified()
        return self

    def passing(
        self,
        data: Any,
        description: str,
        batch_size: int,
        show_progress: bool | None,
        seen: Seen | None = None,
        *,
        strict: bool = True,
    ) -> Iterator[Any]:
        """The network over data, once: activations, or samples where a detector needs inputs."""
        return forward(
            self.probe,
            data,
            batch_size=batch_size,
            inputs=self.learns_from_inputs,
            seen=seen,
            strict=strict,
            description=description,
            show_progress=show_progress,
        )

    @property
    def learns_from_inputs(self) -> bool:
        """Whether a detector needs inputs in fitting."""
        return any(Needs.INPUTS in each.needs_to_learn for each in self.each())

    def _runs_in_each_pass(self, data: Any) -> bool:
        """Whether the network runs in each pass of a fit, as inputs are not kept between them."""
        several = any(passes(each, "train") > 1 for each in self.each())
        return several and self.learns_from_inputs and not isinstance(data, Iterator)

    def _output_names(self, data: Any, outputs: int) -> tuple[str, ...]:
        """Names of the labels: the guard's, the data's or the network's, if one for each output."""
        if self._class_names and outputs and len(self._class_names) != outputs:
            raise ArgumentError(
                f"{len(self._class_names)} names of classes were given, and the network has "
                f"{outputs} outputs: give one for each"
            )
        classes = getattr(data, "classes", None)  # other data sets may have their number here
        data_names = tuple(map(str, classes)) if isinstance(classes, Iterable) else ()
        candidates = (self._class_names, data_names, class_names(self.network))
        return next((names for names in candidates if len(names) == outputs), ())

    def fitting(self) -> Fitting:
        """The detectors, ready to learn from calibration data."""
        fitting = Fitting(self.each(), lambda: self.probe.head)
        fitting.unbound = {i for i, each in enumerate(self.each()) if is_unbound(each)}
        return fitting

    def each(self) -> Sequence[Detector]:
        """The detectors."""
        detectors: Sequence[Any] = list(self.detectors)
        return detectors

    @contextmanager
    def _transaction(self, probe: AnyProbe | None = None) -> Iterator[AnyProbe]:
        """A block in which copies of the detectors learn; if it fails the guard stays as it was.

        It gets a probe, by default a new one, as the network may have other weights by now. A guard
        at another rate, which shares the detectors, stays as it was in any case. Buffers are
        replaced and never changed, so the copies share them.
        """
        backup = self.detectors, self.probe
        self.probe = probe or probe_of(self.network, **self._options)
        self.detectors = deepcopy(self.detectors, {id(x): x for x in self.detectors.buffers()})
        try:
            with self.probe as opened:
                yield opened
        except BaseException:
            self.detectors, self.probe = backup
            raise

    def _check_weights(self) -> None:
        """Refuse a network that is not the one that the detectors were fitted on."""
        digest = weights_digest(self.probe.network)
        if self.weights not in (None, digest):
            raise NotFittedError(
                "the network's weights have changed since this guard was fitted: call fit again, "
                "then calibrate"
            )
        self.weights = digest

    def score_activations(self, acts: Any) -> Float[Tensor, "n k"]:
        """The score of each detector, from activations on any device."""
        acts = self._beside(acts)
        scores = [each.score(acts) for each in self.each()]
        return scores[0].unsqueeze(1) if len(scores) == 1 else torch.stack(scores, dim=1)

    def calibration_scores(self, batch: Any) -> Float[Tensor, "n k"]:
        """The same, infinite where the network's output is not finite: that counts as highest."""
        scores, acts = self.score_activations(batch), acts_of(batch)
        if acts.is_finite:
            return scores
        return scores.where(acts.finite_rows()[:, None].to(scores.device), torch.inf)

    def _beside(self, acts: Any) -> Any:
        """The activations, on one device with the detectors, which follow a moved network."""
        device = acts_of(acts).device
        modules = [x for x in (self._calibration, *self.detectors) if x is not None]
        for module in modules:  # at every call of a guard: the first buffer tells of all of them
            first = next(iter(module._buffers.values()), None)
            first = next(module.buffers(), None) if first is None else first
            if first is not None and first.device != device:
                break
        else:
            return acts
        if device != self.probe.home and not isinstance(acts, Sample):
            return acts.to(self.probe.home)
        # Buffers made in inference mode could take part in no gradient.
        with _device_lock(), torch.inference_mode(False):
            for module in modules:
                module.to(device)
        return acts

    def check_transform(self, own: OwnTransform | None) -> None:
        """Refuse images made by another function than those that the guard was fitted on.

        Raises:
            ArgumentError: it is another, has been changed, or is missing; or there was none.
        """
        check_same_transform(own, self.input_transform)
