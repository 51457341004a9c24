"""The state of one evaluation: fitting, scoring set by set, and what is left out."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from offmap._utils.samples import as_tensor
from offmap.activations import Activations, Batch, Sample
from offmap.detectors import Detector, Fitting, Needs, passes, to_learn_on
from offmap.errors import ArgumentError, NeedsError, NonFiniteError, OffmapError, ShapeError
from offmap.evaluation._inputs import Named, Scorer
from offmap.evaluation._overlaps import overlaps
from offmap.evaluation.results import SetInfo
from offmap.evaluation.rows import Row, row_of
from offmap.forward import AnyProbe, EachPass, Seen
from offmap.guard.calibration_data import CalibrationData
from offmap.guard.decide import alarm_rank

_ROWS = 1024


def detectors_of(chosen: Mapping[str, Scorer]) -> dict[str, Detector]:
    """Those that are detectors; the others are functions."""
    return {name: scorer for name, scorer in chosen.items() if isinstance(scorer, Detector)}


@dataclass
class Running:
    """The state of one evaluation."""

    network: AnyProbe
    run: Callable[..., Iterator[Any]]
    chosen: dict[str, Scorer]
    options: dict[str, Any]
    skip: bool
    learn_share: float
    alarm_rate: float
    stack: ExitStack  # of what is to be closed
    sets: list[Named]
    left_out: dict[str, str] = field(default_factory=dict)
    infos: list[SetInfo] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scores: dict[str, dict[str, Any]] = {name: {} for name in self.chosen}
        self.predictions: dict[str, Any] = {}
        self.labels: dict[str, Any] = {}
        self.keys: dict[str, list[str]] = {}
        self.seconds = dict.fromkeys(self.chosen, 0.0)
        each = detectors_of(self.chosen).values()
        self.inputs = any(Needs.INPUTS in d.needs for d in each)
        self.inputs_to_learn = any(Needs.INPUTS in d.needs_to_learn for d in each)
        self.failures: dict[int, OffmapError] | None = {} if self.skip else None
        self.seen: dict[str, Seen] = {}
        self.overlaps: dict[str, int] = {}
        self.parts: CalibrationData | None = None
        self.calibration_pass: EachPass

    def fit(self, sets: Mapping[str, Named]) -> None:
        """Fit all detectors in one go; with ``skip``, leave out those that cannot be fitted."""
        self.names, detectors = [*detectors_of(self.chosen)], [*detectors_of(self.chosen).values()]
        self.fitting = Fitting(detectors, lambda: self.network.head, self.failures)
        self.fitting.begin()
        if (train := sets.get("train")) is not None and self._learns("train"):
            each_pass = EachPass(lambda seen: self._batches_of(train, seen))
            self.fitting.learn("train", each_pass if self._runs_again(train) else each_pass())
            seen = self.seen["train"] = each_pass.seen
            self.infos.append(_info(train, seen.samples, seen.right if seen.labelled else None))
            seen.warn_of_labels("the training data")
        else:
            self.fitting.learn("train", None)
        self._leave_out_failed()
        calibration = sets.get("calibration")
        if calibration is None or not self._learns("calibration"):
            self.fitting.learn("calibration", None)
        elif self.skip and not self._has_enough(calibration.data):
            self.fitting.learn("calibration", None)  # thresholds come before them
        else:
            self.calibration_pass = EachPass(lambda seen: self._batches_of(calibration, seen))
            self.parts = CalibrationData(
                calibration.data,
                self.calibration_pass,
                samples=self.inputs_to_learn,
                learn_share=self.learn_share,
                stack=self.stack,
            )
            self.fitting.learn("calibration", self.parts.to_learn_on)
        self._leave_out_failed()

    def _runs_again(self, train: Named) -> bool:
        """Whether the network runs in each pass of the fit, as inputs are not kept between them."""
        several = any(passes(root, "train") > 1 for root in self.fitting.roots.values())
        return several and self.inputs_to_learn and not isinstance(train.data, Iterator)

    def _has_enough(self, data: Any) -> bool:
        """Whether enough calibration samples for the threshold remain beside those to learn on."""
        if not hasattr(data, "__len__") or not hasattr(data, "fingerprint"):
            return True
        count = int((~to_learn_on(data.keys(0, len(data)), self.learn_share)).sum())
        try:
            alarm_rank(count, self.alarm_rate)
        except ArgumentError:
            return False
        return count < len(data)

    def _learns(self, source: str) -> bool:
        return any(passes(root, source) for root in self.fitting.roots.values())

    def _leave_out_failed(self) -> None:
        for i, error in (self.failures or {}).items():
            if (name := self.names[i]) in self.chosen:
                self._leave_out(name, _reason(self.chosen[name], error))
        self.seconds.update(zip(self.names, self.fitting.seconds, strict=True))

    def _leave_out(self, name: str, reason: str) -> None:
        self.left_out[name] = reason
        del self.chosen[name], self.scores[name]

    def _batches_of(self, item: Named, seen: Seen) -> Iterator[Any]:
        self.seen.setdefault(item.name, seen)
        for_fit = item.role in ("train", "calibration")
        inputs = self.inputs_to_learn if for_fit else self.inputs
        batches = self.run(
            self.network,
            item.data,
            description=item.name,
            inputs=inputs,
            seen=seen,
            **self.options,
        )
        if item.role == "ood":  # nobody asks for its labels, and they may be anything
            batches = ((acts, None) for acts, _ in batches)
        return batches if inputs else _gather(batches)

    def score(self, item: Named) -> None:
        """Score one set with every detector, batch by batch."""
        parts: dict[str, list[Any]] = {name: [] for name in self.chosen}
        predictions: list[Any] = []
        labels: list[Any] = []
        keys: list[str] = []
        seen = Seen(labelled=item.role != "ood")
        if item.role == "calibration" and self.parts is not None:
            batches = seen.through(self.parts.rest())  # without those learned on
        else:
            batches = self._batches_of(item, seen)
        for batch, target in batches:
            acts = batch.acts if isinstance(batch, Sample) else batch
            if self.fitting.unbound:
                self.fitting.bind(acts)
                self._leave_out_failed()
            if acts.has_predictions:
                predictions.append(acts.predictions.int().cpu().numpy())
            labels.append(None if target is None else target.int().cpu().numpy())
            keys.extend(acts.keys or ())
            for name, scores in self._scores(batch):
                parts[name].append(scores)
        if predictions:
            self.predictions[item.name] = np.concatenate(predictions)
        if item.role == "calibration":  # loaders tell only now; OOD sets may take hours
            alarm_rank(seen.samples, self.alarm_rate)
        self.keys[item.name] = keys
        if not any(each is None for each in labels):
            self.labels[item.name] = np.concatenate(labels)
        for name in self.chosen:
            scores = self.scores[name][item.name] = np.concatenate(parts[name])
            if bad := int((~np.isfinite(scores)).sum()):
                raise NonFiniteError(
                    f"{name}: {bad} of {len(scores)} scores on {item.name} are not finite"
                )
        right, members = (seen.right, seen.members) if seen.labelled else (None, [])
        self.infos.append(_info(item, seen.samples, right, members))
        if item.role == "calibration" and self.parts is not None:
            self.seen[item.name] = self.calibration_pass.seen
        self._warn(item, seen)

    def _warn(self, item: Named, seen: Seen) -> None:
        """Warn of labels that do not fit, features that may be none, and samples in two sets."""
        seen.warn_of_labels(f"the set {item.name!r}")
        if item.role == "id" and any(
            Needs.FEATURES in d.needs for d in detectors_of(self.chosen).values()
        ):
            self.network.warn_unverified()
        self.overlaps |= overlaps(item, self.sets, self.seen)

    def _scores(self, batch: Any) -> Iterator[tuple[str, Any]]:
        """The scores of a batch by detector; with ``skip``, without detectors that refuse it."""
        acts = batch.acts if isinstance(batch, Sample) else batch
        for name, scorer in list(self.chosen.items()):
            start = time.perf_counter()
            try:
                result = scorer.score(batch) if isinstance(scorer, Detector) else scorer(acts)
            except NeedsError as error:
                if not self.skip:
                    raise
                self._leave_out(name, _reason(scorer, error))
                continue
            scores = as_tensor(result).detach()
            if scores.shape != (len(acts),):
                raise ShapeError(
                    f"{name}: scores must have shape ({len(acts)},), one a sample; seen "
                    f"{tuple(scores.shape)}"
                )
            # Float64 stays, as the metrics never round a score either.
            scores = scores if scores.dtype == torch.float64 else scores.float()
            array = scores.cpu().numpy()  # waits for the device, before the time is taken
            self.seconds[name] += time.perf_counter() - start
            yield name, array

    def rows(self, alarm_rate: float | None) -> list[Row]:
        """Metrics of every detector on every OOD set."""
        groups = {info.name: info.group for info in self.infos if info.role == "ood"}
        labels, predictions = self.labels.get("id"), self.predictions.get("id")
        right = None if labels is None or predictions is None else predictions == labels
        return [
            row_of(name, ood, group, self.scores[name], alarm_rate, right)
            for name in self.chosen
            for ood, group in groups.items()
        ]

    def settings(self) -> dict[str, Any]:
        """The settings of the network, the machine, and versions."""
        machine = f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"
        return {
            **self.network.described(),
            **({"overlaps": self.overlaps} if self.overlaps else {}),
            "machine": machine,
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("offmap", "torch", "numpy")},
        }


def _reason(scorer: Scorer, error: OffmapError) -> str:
    """The message of an error without the detector: others may have the same reason."""
    return str(error).removeprefix(f"{scorer!r} ")


def _gather(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Batches joined to ``_ROWS`` samples: a score costs more to start than to compute."""
    buffer: list[Batch] = []
    for batch in batches:
        buffer.append(batch)
        if sum(len(acts) for acts, _ in buffer) >= _ROWS:
            yield _join(buffer)
            buffer.clear()
    if buffer:
        yield _join(buffer)


def _join(batches: list[Batch]) -> Batch:
    labels = [labels for _, labels in batches if labels is not None]
    acts = Activations.joined([acts for acts, _ in batches])
    return acts, torch.cat(labels) if len(labels) == len(batches) else None


def _info(
    item: Named, samples: int, right: int | None = None, members: Sequence[int] = ()
) -> SetInfo:
    data = item.data
    skipped, left_out = (
        [[str(file.path), file.reason] for file in getattr(data, name, ())]
        for name in ("skipped", "left_out")
    )
    return SetInfo(
        name=item.name,
        role=item.role,
        group=item.group,
        n=samples,
        right=right,
        members=list(members),
        skipped=skipped,
        left_out=left_out,
        source=str(getattr(data, "name", type(data).__name__)),
        transform=str(getattr(data, "transform", "")),
        fingerprint=getattr(data, "fingerprint", None),
        half_of=getattr(data, "half_of", ""),
    )
