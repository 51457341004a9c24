"""A network, detectors and a threshold as one module: which inputs should not be answered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from offmap._utils import records
from offmap._utils.tracing import is_traced
from offmap.activations import Activations, Sample
from offmap.errors import NotFittedError
from offmap.forward import COMPUTING
from offmap.guard._inputs import as_batch, is_many, verdict_on_all
from offmap.guard._learning import Learning
from offmap.guard._light import Light
from offmap.guard._record import record_of, tensors_of
from offmap.guard.calibration import Calibration
from offmap.guard.calibration_data import acts_of
from offmap.guard.history import History
from offmap.guard.schema import GuardRecord
from offmap.guard.verdict import Verdict, why_not_finite
from offmap.guard.words import explanation


class Guard(Learning):
    """Predicts a label, or says "unknown", at a known rate of false alarms.

    Fit it on the network's training data, calibrate it on ID data that neither the network nor the
    fit has seen, and call it on images. At most a share ``alarm_rate`` of ID images is then called
    unknown, on average over calibration sets, whatever the network and the detector.

    Args:
        network: any classifier, an ensemble of some, or a cascade, whose filter is then guarded and
            whose classifier answers; its code is not touched, and its mode is as before after each
            call.
        detectors: a detector, which is copied, its name or expression; by default
            :class:`~offmap.detectors.combined.auto.Auto`. Of several, each has a
            p-value, and the lowest counts, by Bonferroni; one score of several is made by
            ``Combine``.
        classes: names of the labels; by default those of the data that it is fitted on, or else of
            the network's ``config.id2label``, if there is one for each output.
        normalization: applied to uint8 images.
        **probe: ``head``, ``device``, ``precision``, ``channels_last``, ``taps``: see
            :class:`offmap.Probe`. The layers that the detectors read are kept without being named.

    Attributes:
        reads_inputs: whether a detector runs the network on other inputs.
        input_shape: of one sample that it was fitted on, such as channels, height and width; where
            the inputs are one tensor.
        input_names: of the inputs, where they are tensors by name, such as ``input_ids``.
        history: the data that it has learned from; ``history.read`` counts its samples.
        input_resize: how they were brought to it, "crop" or "squash"; other images are, likewise.
        input_transform: the user's function that made them instead, its name and the hash of its
            file.
        model: what built the network, as on the command line, where known.
        weights: digest of the weights that it was fitted on.
        control_: the threshold of :meth:`control`, if there is one.
    """

    def forward(self, inputs: Any) -> Verdict:
        """The verdict on a batch of inputs, such as images, uint8 or normalised.

        Args:
            inputs: a tensor, an array, a picture or a list of some; tensors by name, such as those
                of a tokenizer; one sample without the axis of samples; or, for a verdict on all of
                it, a set of ``offmap.data``, or a folder or file of images. Pictures and files are
                brought to the size of the images that the guard was fitted on, as those were.

        Raises:
            NotFittedError: the guard was not fitted, or not calibrated; or the network's weights
                changed since.
            DataError: nothing that a network could be given, or a picture that cannot be read.
            ArgumentError: pictures or files, where a function of the user's made those of the fit.
        """
        if is_traced():
            run = torch.compiler.disable(type(self).forward)  # type: ignore[no-untyped-call]
            return run(self, inputs)  # type: ignore[no-any-return]
        self.refuse_changed()
        if is_many(inputs):
            return verdict_on_all(self, inputs)
        batch = as_batch(self, inputs)
        with COMPUTING, self.probe as probe:
            if self.reads_inputs:
                return self.judge(probe.sample(batch))
            if not probe.bears_inference:
                return self.judge(probe(batch))
            return self._light(self, batch, lambda: probe(batch), self._judged)

    @contextmanager
    def activations(self, inputs: Any) -> Iterator[Activations | Sample]:
        """A block with what :meth:`judge` takes of a batch; the network runs once.

        Args:
            inputs: a batch, or one sample, as for the guard.

        Raises:
            NotFittedError: the network's weights changed since the guard was fitted.
            DataError: nothing that a network could be given, or a picture that cannot be read.
        """
        self.refuse_changed()
        batch = as_batch(self, inputs)
        with COMPUTING, self.probe as probe, torch.no_grad():
            yield probe.sample(batch) if self.reads_inputs else probe(batch)

    def _judged(self, acts: Activations) -> Verdict:
        return self.judge(acts).of_any_mode()

    def refuse_changed(self) -> None:
        """Refuse weights that were changed in place; every call of the guard checks.

        Changes through ``.data`` of a tensor are seen by :meth:`save`, :meth:`calibrate`,
        :meth:`check` and :meth:`control`, and not by a call: torch does not count them.

        Raises:
            NotFittedError: they are others than when the guard was fitted.
        """
        if self._weights_watch is not None and self._weights_watch.changed():
            self._check_weights()
            self._weights_watch.accept()

    def judge(self, acts: Activations | Sample) -> Verdict:
        """The verdict on images from their activations, or from samples if inputs are needed.

        A sample whose activations or score are not finite is called OOD, with the reason.

        Raises:
            NotFittedError: the guard was not fitted, or not calibrated.
        """
        return self.decided(self.calibration, acts, self.score_activations(acts))

    def decided(
        self, calibration: Calibration, acts: Activations | Sample, scores: Float[Tensor, "n k"]
    ) -> Verdict:
        """The verdict by a calibration, from the score of each detector.

        Args:
            calibration: of this guard, or of the same guard :meth:`at` another alarm rate.
            acts: as for :meth:`judge`.
            scores: of :meth:`score_activations`, a column a detector.
        """
        outputs = acts_of(acts)
        labels = outputs.labels.to(scores.device)
        reasons = why_not_finite(outputs, scores)
        if reasons is not None:
            # For each detector by itself, as in calibration: one may fail where others do not.
            finite = scores.isfinite() & outputs.finite_rows()[:, None].to(scores.device)
            scores = scores.where(finite, torch.inf)
        score, p, is_ood = calibration.forward(scores, labels)  # a call would look for hooks
        if reasons is not None:  # a score made of ranks is finite in any case
            score = score.masked_fill(~finite.all(1), torch.inf)
        accepted = None if self.control_ is None else self.control_.accepts(score)
        return Verdict(labels, score, p, is_ood, self.classes, outputs.keys, reasons, accepted)

    def at(self, alarm_rate: float) -> Self:
        """The same guard at another alarm rate, without data; network and tensors are shared.

        Of a guard without a confidence the promise is the same at any rate. With one, a rate that
        was named in :meth:`calibrate` has its own limits; any other has those that hold for all
        rates at once, whenever they are chosen: a simultaneous band, which is stricter, and which
        :meth:`explain` names.

        Raises:
            NotFittedError: the guard was not fitted, or not calibrated.
            ArgumentError: there are too few calibration samples for that rate.
        """
        calibration = self.calibration.at(alarm_rate)
        guard = copy(self)
        guard._modules["_calibration"] = calibration
        return guard

    def __copy__(self) -> Self:
        """A guard that may be fitted or calibrated by itself; network and tensors are shared."""
        guard = type(self).__new__(type(self))
        # Modules and hooks stand in dictionaries, which a plain copy would share.
        states = vars(self).items()
        vars(guard).update({k: v.copy() if isinstance(v, dict) else v for k, v in states})
        guard.history, guard._light = self.history.copied(), Light()
        return guard

    def to_send(self) -> Self:
        """A copy for other processes, without the history and the watch on weights of this one."""
        guard = copy(self)
        guard.history, guard._weights_watch = History(), None
        return guard

    def explain_sample(self, inputs: Any) -> str:
        """Why it says what it says of one sample: see :func:`offmap.guard.explained`."""
        from offmap.guard.reasons import explain_sample

        return explain_sample(self, inputs)

    def __repr__(self) -> str:
        """One line; the network's own lines stand in its own."""
        detectors = ", ".join(map(repr, self.each()))
        fitted = all(each.fitted for each in self.each())
        state = repr(self.calibration) if self.calibrated else "fitted" if fitted else "not fitted"
        return f"Guard({type(self.probe.network).__name__}, {detectors}; {state})"

    def explain(self) -> str:
        """What this guard is, what it learned, and what its decisions promise, in words."""
        return explanation(
            type(self.probe.network).__name__,
            self.history.read,
            self.each(),
            self._calibration,
            self.control_,
        )

    def save(self, folder: str | Path, *, weights: bool = False) -> None:
        """Write the guard into a folder, ``guard.json`` and tensors; nothing is pickled.

        Args:
            folder: an older guard there is replaced in one step.
            weights: keep the network's weights too, so that its code and the folder are enough.

        Raises:
            NotFittedError: the guard is not fitted, or the network has been trained on since.
            ArgumentError: the normalisation is a function of your own, which no file can keep.
            StoreError: what the guard holds is not what its record must; nothing is written.
        """
        if not all(each.fitted or each.waiting_for == "calibration" for each in self.each()):
            raise NotFittedError("this guard is not fitted: call fit before saving")
        self._check_weights()
        tensors = tensors_of(self, weights=weights)
        records.write(folder, "guard", record_of(self), tensors, schema=GuardRecord)
