"""Accept by one system, answer with another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from offmap._utils.tracing import is_traced
from offmap.activations import Activations
from offmap.errors import ArgumentError, NotFittedError
from offmap.forward import FilterAndClassifier, forward, probe_of, weights_digest
from offmap.guard._inputs import WeightsWatch, data_like_fit, in_classes
from offmap.guard.calibrating import through
from offmap.guard.calibration import Calibration
from offmap.guard.control import Control, control_of, counted
from offmap.guard.groups import Groups, GroupsOf
from offmap.guard.guard import Guard
from offmap.guard.verdict import Verdict, why_not_finite

_INSTEAD = "or put a guard around the whole: offmap.Guard(cascade, 'mahalanobis')"


class Cascade(FilterAndClassifier):
    """Accepts with one system and answers with another, each run once.

    Called on images it gives the verdict of the filter, a calibrated guard, with the labels of the
    classifier: the guard's alarm rate holds as before. Given to :class:`offmap.Guard` or
    :func:`offmap.evaluate` in a network's place, the filter's network is scored, whatever guard it
    comes in, and the classifier answers. To keep a cascade, save its parts, or the guard around it:
    :func:`offmap.load` takes a cascade of the same parts.

    A part that is a guard brings its normalisation, precision and head, fitted or not. A bare one
    runs by the options of the guard or evaluation around the cascade; without any, it takes the
    normalisation of the guard beside it.

    Args:
        filter: a guard, network or ensemble; calibrated, if the cascade is to be called.
        classifier: another, of the same classes; a guard's names of the labels are the verdict's.

    Raises:
        ArgumentError: a part is a cascade.
    """

    def __init__(self, *, filter: nn.Module, classifier: nn.Module) -> None:
        super().__init__(filter=filter, classifier=classifier)
        self.probe = probe_of(self)
        self._control: tuple[Control, Calibration, WeightsWatch, str] | None = None

    @property
    def control_(self) -> Control | None:
        """The threshold of :meth:`control`; none, if the filter was calibrated anew since.

        Raises:
            NotFittedError: the classifier has been trained on since.
        """
        if self._control is None:
            return None
        control, calibration, watch, digest = self._control
        if not isinstance(self.filter, Guard) or not self.filter.calibrated:
            return None
        if self.filter.calibration is not calibration:
            return None
        if watch.changed():
            if weights_digest(self._classifier_network) != digest:
                raise NotFittedError(
                    "the classifier of this cascade has been trained on since its errors were "
                    "controlled: call control again"
                )
            watch.accept()
        return control

    @property
    def _classifier_network(self) -> nn.Module:
        """The network whose predictions are given."""
        return self.classifier.network if isinstance(self.classifier, Guard) else self.classifier

    def forward(self, images: Tensor) -> Verdict:
        """The filter's verdict on a batch of images, uint8 or normalised, with other labels.

        A sample to which either part gives nothing finite is called OOD, with the reason.

        Raises:
            ArgumentError: the filter is no guard.
            NotFittedError: it is one that was not calibrated.
            ShapeError: filter and classifier differ in their number of classes.
        """
        if is_traced():
            run = torch.compiler.disable(type(self).forward)  # type: ignore[no-untyped-call]
            return run(self, images)  # type: ignore[no-any-return]
        guard, control = self._guard(), self.control_
        guard.refuse_changed()
        with self.probe as probe:
            acts = probe(images)
        verdict = self._judged(guard, acts)
        # The guard's own control is of errors of its own network.
        accepted = None if control is None else control.accepts(verdict.scores)
        return replace(
            verdict, labels=acts.predictions, classes=self._names(guard), accepted=accepted
        )

    def control(
        self,
        labelled: Any,
        error_rate: float = 0.02,
        confidence: float = 0.95,
        *,
        of: str = "all",
        groups: GroupsOf | None = None,
        batch_size: int = 256,
    ) -> Self:
        """Accept up to a score of the filter, so that the classifier is seldom wrong on those.

        As :meth:`offmap.Guard.control`, of the classifier's errors, on data as for that; it is not
        saved, and gone when the filter is calibrated anew. ID samples that stand in the calibration
        data are not recognised here: give others for "accepted".

        Raises:
            LabelError: there are no labels.
            ArgumentError: the samples do not show the rate; says how many are needed at least; or
                no groups, of a filter that was calibrated by them.
            NotFittedError: the filter was not calibrated.
        """
        guard = self._guard()
        guard.refuse_changed()
        guard.history.refuse_ungrouped(groups)
        grouping = None if groups is None else Groups(groups)
        data = in_classes(data_like_fit(guard, labelled), self._names(guard))
        with self.probe as probe:
            batches = forward(probe, data, batch_size=batch_size, strict=False)
            judged = (
                (replace(self._judged(guard, acts), labels=acts.predictions), labels)
                for acts, labels in through(grouping, batches)
            )
            calibration, samples = guard.calibration, counted(grouping, judged)
            control = control_of(calibration, samples, error_rate, confidence, of)
        network = self._classifier_network
        watch, digest = WeightsWatch(network), weights_digest(network)
        self._control = control, calibration, watch, digest
        return self

    def _names(self, guard: Guard) -> tuple[str, ...]:
        """Names of the labels: the classifier's, or else those of the filter."""
        classes = self.classifier.classes if isinstance(self.classifier, Guard) else ()
        return classes or guard.classes

    @staticmethod
    def _judged(guard: Guard, acts: Activations) -> Verdict:
        """The filter's verdict; OOD without a score where the classifier gives nothing finite."""
        # A calibration per class was made with the filter's own predictions.
        verdict = guard.judge(acts.replace(classifier_logits=None))
        words = why_not_finite(acts, verdict.scores[:, None])
        if words is None:
            return verdict
        not_finite, reasons = ~acts.finite_rows(), verdict.reasons or (None,) * len(verdict)
        scores = verdict.scores.new_full((len(not_finite), len(guard.detectors)), torch.inf)
        _, p, _ = guard.calibration(scores, verdict.labels)
        return replace(
            verdict,
            scores=verdict.scores.masked_fill(not_finite, torch.inf),
            p_values=verdict.p_values.where(~not_finite, p),
            is_ood=verdict.is_ood | not_finite,
            reasons=tuple(a or b for a, b in zip(words, reasons, strict=True)),
        )

    def _guard(self) -> Guard:
        if not isinstance(self.filter, Guard):
            raise ArgumentError(
                f"the filter of this cascade is a {type(self.filter).__name__}, which has no "
                f"threshold: give a calibrated guard as filter, {_INSTEAD}"
            )
        if not self.filter.calibrated:
            raise NotFittedError(
                "the filter of this cascade has no threshold yet: calibrate it (fit, then "
                f"calibrate), {_INSTEAD}"
            )
        return self.filter
