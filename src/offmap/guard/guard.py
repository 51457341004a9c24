"""A network, detectors and a threshold as one module: which inputs should not be answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from offmap._utils import records
from offmap.activations import Activations
from offmap.detectors import Detector, detector, fit, restored
from offmap.errors import ArgumentError, DataError, NotFittedError, StoreError
from offmap.forward import Normalization, forward, probe_of, weights_digest
from offmap.guard.calibration import Calibration
from offmap.guard.verdict import Verdict

COMBINATIONS = ("bonferroni", "fisher")
_PROMISE = (
    "So many known images, at most, are called unknown, on average over calibration sets. How many "
    "unknown ones are caught depends on what they are: evaluate says it for given ones."
)


class Guard(nn.Module):
    """Answers with a label, or with "unknown", at a known rate of false alarms.

    Fit it on the network's training data, calibrate it on ID data that neither the network nor the
    fit has seen, and call it on images. At most a share ``alarm_rate`` of ID images is then called
    unknown, on average over calibration sets, whatever the network and the detector.

    Args:
        network: any classifier, an ensemble of some, or a cascade, whose filter is then guarded and
            whose classifier answers; its code is not touched, and its mode is as before after each
            call.
        detectors: a detector, which is copied, its name or expression, or several of them.
        combine: how several are combined: "bonferroni" (of their p-values), or "fisher" (their
            combined score is calibrated once more, on half of the calibration data).
        classes: names of the labels; by default those of the data that it is fitted on, if there is
            one for each output.
        normalization: applied to uint8 images.
        **probe: ``head``, ``device``, ``precision``, ``channels_last``: see :class:`offmap.Probe`.

    Attributes:
        input_shape: channels, height and width of the images it was fitted on, where known.
        model: what built the network, as on the command line, where known.
    """

    def __init__(
        self,
        network: nn.Module,
        detectors: str | Detector | Sequence[str | Detector],
        *,
        combine: str = "bonferroni",
        classes: Sequence[str] = (),
        normalization: Callable[[Tensor], Tensor] | None = None,
        **probe: Any,
    ) -> None:
        super().__init__()
        if combine not in COMBINATIONS:
            raise ArgumentError(f"combine must be one of {COMBINATIONS}; seen {combine!r}")
        several = [detectors] if isinstance(detectors, str | Detector) else list(detectors)
        if not several:
            raise ArgumentError("a guard needs at least one detector")
        self.network = network
        self.detectors = nn.ModuleList(deepcopy(detector(spec)) for spec in several)
        self.combine = combine
        self.classes = tuple(classes)
        self._calibration: Calibration | None = None
        self._options = {"normalization": normalization, **probe}
        self.probe = probe_of(network, **self._options)
        self._given_classes = self.classes
        self._weights: str | None = None  # digest of those that it was fitted on
        self.fitted_on: str | None = None
        self.input_shape: tuple[int, int, int] | None = None
        self.model: str | None = None

    def fit(self, data: Any, *, batch_size: int = 256, show_progress: bool | None = None) -> Self:
        """Fit the detectors on the network's training data, un-augmented, read once.

        Args:
            data: a set of ``offmap.data``, or any iterable of ``(images, labels)``.
            batch_size: samples a batch, for sets.
            show_progress: ``None`` shows a bar on a terminal.

        Raises:
            ArgumentError: there are names of classes, and not one for each output.
        """
        self.probe = probe_of(self.network, **self._options)  # the weights may be others by now
        with self.probe as probe:
            passing = forward(
                probe, data, batch_size=batch_size, description="fit", show_progress=show_progress
            )
            first = next(passing)
            names = self._names(data, first[0].logits.shape[1])
            fit(list(self._each()), chain([first], passing), head=lambda: probe.head)
        self._weights = weights_digest(self.probe.network)
        self.fitted_on = getattr(data, "fingerprint", None)
        self.input_shape = getattr(data, "shape", None)
        self._calibration = None
        self.classes = names
        return self

    def _names(self, data: Any, outputs: int) -> tuple[str, ...]:
        """The names given, or else those of the data if there is one for each output."""
        if self._given_classes and len(self._given_classes) != outputs:
            raise ArgumentError(
                f"{len(self._given_classes)} names of classes were given, and the network has "
                f"{outputs} outputs: give one for each"
            )
        names = tuple(getattr(data, "classes", None) or ())
        return self._given_classes or (names if len(names) == outputs else ())

    def calibrate(
        self,
        data: Any,
        alarm_rate: float = 0.05,
        *,
        per_class: bool = False,
        seed: int = 0,
        batch_size: int = 256,
        show_progress: bool | None = None,
    ) -> Self:
        """Set the threshold on held-out ID data, read once; its labels are not used.

        Args:
            data: a set of ``offmap.data``, or any iterable of batches of images. If the guard was
                fitted on it, or the network trained, the rate does not hold.
            alarm_rate: share of ID images that may be called unknown.
            per_class: hold the rate within each class that the network answers; needs at least
                ``1 / alarm_rate - 1`` calibration images a class.
            seed: cuts the halves of "fisher".
            batch_size: samples a batch, for sets.
            show_progress: ``None`` shows a bar on a terminal.

        Raises:
            DataError: the very data that the guard was fitted on, where that can be known.
            NotFittedError: the network has been trained on since the guard was fitted.
            ArgumentError: too few images for the rate; says how many are needed.
        """
        fingerprint = getattr(data, "fingerprint", None)
        if fingerprint is not None and fingerprint == self.fitted_on:
            raise DataError(
                "this guard was fitted on the same images: calibrate on ID data that neither the "
                "network nor the guard has seen, or the alarm rate does not hold"
            )
        if per_class and len(self.detectors) > 1:
            raise ArgumentError("per_class calibrates one detector; this guard has several")
        self._check_weights()
        rule = self.combine if len(self.detectors) > 1 else "per_class" if per_class else "plain"
        calibration = Calibration(rule, alarm_rate)
        with self.probe as probe:
            passing = forward(
                probe,
                data,
                batch_size=batch_size,
                description="calibrate",
                show_progress=show_progress,
            )
            scores, answers = [], []
            for acts, _ in passing:
                scores.append(self.score_activations(acts))
                answers.append(acts.answers)
                classes = acts.logits.shape[1]
        calibration.learn(torch.cat(scores), torch.cat(answers), classes, seed)
        self._calibration = calibration
        return self

    @property
    def calibrated(self) -> bool:
        """Whether it has a threshold."""
        return self._calibration is not None

    @property
    def calibration(self) -> Calibration:
        """Calibration scores, the threshold and the rate that it holds.

        Raises:
            NotFittedError: the guard was not fitted, or not calibrated.
        """
        if self._calibration is None:
            raise NotFittedError("this guard has no threshold yet: call fit, then calibrate")
        return self._calibration

    def _check_weights(self) -> None:
        """Refuse a network that is not the one that the detectors were fitted on."""
        present = weights_digest(self.probe.network)
        if self._weights not in (None, present):
            raise NotFittedError(
                "the network's weights are others than when this guard was fitted: call fit again, "
                "then calibrate"
            )
        self._weights = present

    def _each(self) -> Iterable[Detector]:
        for module in self.detectors:
            assert isinstance(module, Detector)
            yield module

    def score_activations(self, acts: Any) -> Float[Tensor, "n k"]:
        """The score of each detector, from activations."""
        return torch.stack([each.score(acts) for each in self._each()], dim=1)

    def forward(self, images: Tensor) -> Verdict:
        """The verdict on a batch of images, uint8 or normalised.

        Raises:
            NotFittedError: the guard was not fitted, or not calibrated.
        """
        with self.probe as probe:
            acts = probe(images)
            acts.check_finite()
        return self.judge(acts)

    def judge(self, acts: Activations) -> Verdict:
        """The verdict on images from their activations.

        Raises:
            NotFittedError: the guard was not fitted, or not calibrated.
        """
        labels = acts.answers
        score, p, is_ood = self.calibration(self.score_activations(acts), labels)
        return Verdict(labels, score, p, is_ood, self.classes)

    def explain(self) -> str:
        """What this guard is, what it learned, and what its decisions promise, in words."""
        lines = [f"Network {type(self.probe.network).__name__}."]
        lines += [f"Detector {each!r}: {_learned(each)}." for each in self._each()]
        if not self.calibrated:
            return "\n".join([*lines, "It has no threshold yet: call calibrate."])
        return "\n".join([*lines, self.calibration.explain(), _PROMISE])

    def save(self, folder: str | Path, *, weights: bool = False) -> None:
        """Write the guard into a folder, ``guard.json`` and tensors; nothing is pickled.

        Args:
            folder: an older guard there is replaced in one step.
            weights: keep the network's weights too, so that its code and the folder are enough.

        Raises:
            NotFittedError: the guard is not fitted, or the network has been trained on since.
            ArgumentError: the normalisation is a function of your own, which no file can keep.
        """
        if not all(each.fitted for each in self._each()):
            raise NotFittedError("this guard is not fitted: call fit before saving")
        self._check_weights()
        files = {"state": _flat({str(i): d.state_dict() for i, d in enumerate(self._each())})}
        if self.calibrated:
            files["calibration"] = self.calibration.state_dict()
        if weights:
            files["network"] = self.probe.network.state_dict()
        records.write(folder, "guard", self._record(), files)

    def _record(self) -> dict[str, Any]:
        if not isinstance(self.probe.normalization, Normalization):
            raise ArgumentError(
                f"the normalisation {self.probe.normalization!r} cannot be saved: use "
                "offmap.Normalization, or give normalised images"
            )
        return {
            "library": version("offmap"),
            "detectors": [each.record() for each in self._each()],
            "combine": self.combine,
            "calibration": self.calibration.record() if self.calibrated else None,
            "classes": list(self.classes),
            "normalization": self.probe.normalization.record(),
            "head": self.probe.head_name,
            "precision": self.probe.precision,
            "channels_last": self.probe.channels_last,
            "network": type(self.probe.network).__name__,
            "network_sha256": self._weights,
            "fitted_on": self.fitted_on,
            "input_shape": self.input_shape,
            "model": self.model,
        }


def load(folder: str | Path, network: nn.Module, *, strict: bool = True) -> Guard:
    """Read back what :meth:`Guard.save` wrote; verdicts are equal bit for bit.

    Args:
        folder: what was saved.
        network: the same network, or a cascade of the same parts; if the weights were saved too,
            they are loaded into it.
        strict: refuse a network with other weights than those that the guard was fitted on.

    Raises:
        StoreError: a file is missing, damaged or of another version; or the weights differ.
    """
    record, files = records.read(folder, "guard")
    where = f"{folder}/guard.json"
    try:
        guard = Guard(
            network,
            [
                restored(each, _part(files["state"], i), where)
                for i, each in enumerate(record["detectors"])
            ],
            combine=record["combine"],
            classes=[str(name) for name in record["classes"]],
            normalization=Normalization(**record["normalization"]),
            head=record["head"],
            precision=record["precision"],
            channels_last=record["channels_last"],
        )
        if "network" in files:
            guard.probe.network.load_state_dict(files["network"])
        guard._weights = weights_digest(guard.probe.network)
        if strict and guard._weights != record["network_sha256"]:
            raise StoreError(
                f"{where}: the guard was fitted on a network with other weights: give that one, or "
                "strict=False if you know that they are the same in effect"
            )
        if record["calibration"] is not None:
            calibration = Calibration(**record["calibration"])
            calibration.restore(files["calibration"])
            guard._calibration = calibration.to(guard.probe.device)
        guard.detectors.to(guard.probe.device)
        guard.fitted_on, guard.model = record["fitted_on"], record["model"]
        if record["input_shape"] is not None:
            channels, height, width = map(int, record["input_shape"])
            guard.input_shape = channels, height, width
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StoreError(f"{where} does not describe a guard for this network: {error}") from error
    return guard


def _learned(each: Detector) -> str:
    return each.summary() if each.fitted else "not fitted"


def _flat(parts: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{i}.{name}": x for i, state in parts.items() for name, x in state.items()}


def _part(state: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    prefix = f"{i}."
    return {k.removeprefix(prefix): x for k, x in state.items() if k.startswith(prefix)}
