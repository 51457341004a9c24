"""Detectors on OOD sets, from one pass of the network over each sample."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from offmap.activations import Activations, Batch
from offmap.detectors import Detector, fit
from offmap.errors import NeedsError, NonFiniteError, OffmapError, ShapeError
from offmap.evaluation._batches import Count, gathered
from offmap.evaluation._inputs import Named, Scorer, data_sets, scorers
from offmap.evaluation.results import Results, Row, SetInfo
from offmap.forward import AnyProbe, CascadeProbe, forward, probe_of
from offmap.guard.decide import alarm_rank, alarm_threshold
from offmap.metrics import detection


def evaluate(
    model: nn.Module,
    *,
    id_test: Any,
    ood: Mapping[str, Any],
    train: Any = None,
    calibration: Any = None,
    detectors: str | Detector | Mapping[str, Any] | Iterable[Any] = "all",
    spare: bool | None = None,
    alarm_rate: float = 0.05,
    batch_size: int = 256,
    cache: str | Path | None = None,
    show_progress: bool | None = None,
    settings: Mapping[str, Any] | None = None,
    **probe: Any,
) -> Results:
    """Evaluate detectors on OOD sets; the network, or each part of it, sees each sample once.

    Data are names or paths as for :func:`offmap.data.load` (brought to the shape of the ID set),
    sets of ``offmap.data``, or any iterable of ``(images, labels)`` batches.

    Args:
        model: the classifier; an ensemble of some, see :class:`offmap.networks.Ensemble`; or a
            cascade, see :class:`offmap.Cascade`: scores are then of its filter, answers and
            accuracy of its classifier.
        id_test: in-distribution data that the network was not trained on.
        ood: OOD sets by name, ``{"textures": data}``, or by group and name,
            ``{"near": {"cifar100": data}, "far": {...}}``.
        train: what the network was trained on, un-augmented; read if a detector needs it.
        calibration: ID data that is neither in ``train`` nor in ``id_test``; gives each detector a
            threshold.
        detectors: "all"; a name, expression or detector, or several of these; or ``{name: detector
            or function}``, where a function maps :class:`Activations` to ``(n,)`` scores, float64
            or float32. Detectors are fitted here.
        spare: leave out, with the reason, detectors that cannot be fitted on this network or
            without training data, or cannot score what it gives; ``None`` does so for "all" only.
        alarm_rate: share of ID that may be called OOD at the thresholds.
        batch_size: samples a batch.
        cache: folder for activations, so that a second run needs no network: see ``forward``.
        show_progress: ``None`` shows bars on a terminal.
        settings: more to keep in the results' settings.
        **probe: ``head``, ``device``, ``precision``, ``normalization``, ...: see :class:`Probe`.

    Raises:
        ArgumentError: two detectors or sets of one name, no OOD set, or too few calibration samples
            for the alarm rate.
        NeedsError: a detector that was named needs training data or a head, and there is none.
        NonFiniteError: activations or scores are NaN or infinite.
    """
    start = time.perf_counter()
    sets = data_sets(id_test, ood, calibration, train)
    for item in sets:
        if item.role == "calibration" and hasattr(item.data, "fingerprint"):
            alarm_rank(len(item.data), alarm_rate)  # too few samples must not show at the end
    options = {"batch_size": batch_size, "cache": cache, "show_progress": show_progress}
    with probe_of(model, **probe) as network:
        spare = detectors == "all" if spare is None else spare
        run = _Run(network, scorers(detectors), options, spare)
        run.fit([s for s in sets if s.role == "train"])
        for item in sets:
            if item.role != "train":
                run.score(item)
    rate = alarm_rate if calibration is not None else None
    return Results(
        rows=run.rows(rate),
        scores=run.scores,
        sets=run.infos,
        settings={
            **run.settings(),
            "batch_size": batch_size,
            "alarm_rate": rate,
            "seconds": {"all": time.perf_counter() - start, **run.seconds},
            **(settings or {}),
        },
        summaries={n: d.summary() for n, d in run.chosen.items() if isinstance(d, Detector)},
        left_out=run.left_out,
        predicted=run.predicted,
    )


@dataclass
class _Run:
    """The state of one evaluation."""

    network: AnyProbe
    chosen: dict[str, Scorer]
    options: dict[str, Any]
    spare: bool
    left_out: dict[str, str] = field(default_factory=dict)
    infos: list[SetInfo] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scores: dict[str, dict[str, Any]] = {name: {} for name in self.chosen}
        self.predicted: dict[str, Any] = {}
        self.seconds = dict.fromkeys(self.chosen, 0.0)

    def fit(self, train: list[Named]) -> None:
        """Fit all detectors in one go; with ``spare``, leave out those that cannot be fitted."""
        wanting = {n: d for n, d in self.chosen.items() if isinstance(d, Detector) and _fits(d)}
        failures: dict[int, OffmapError] | None = {} if self.spare else None
        names, detectors = list(wanting), list(wanting.values())
        if not train:
            self._cannot_fit(names)
        elif names:
            count = Count(labelled=False)
            batches = self._passing(train[0], count)
            head = lambda: self.network.head  # noqa: E731
            for name, spent in zip(
                names, fit(detectors, batches, head=head, failures=failures), strict=True
            ):
                self.seconds[name] += spent
            failed = (failures or {}).items()
            self._leave_out({names[i]: _reason(detectors[i], error) for i, error in failed})
            self.infos.append(_info(train[0], count.samples))

    def _cannot_fit(self, names: list[str]) -> None:
        if names and not self.spare:
            raise NeedsError(f"{', '.join(names)}: training data is needed to fit; give train=")
        self._leave_out(dict.fromkeys(names, "needs training data"))

    def _leave_out(self, reasons: Mapping[str, str]) -> None:
        self.left_out |= reasons
        for name in reasons:
            del self.chosen[name], self.scores[name]

    def _passing(self, item: Named, count: Count) -> Iterator[Batch]:
        passing = forward(self.network, item.data, description=item.name, **self.options)
        passing = count.through(passing)
        if item.role == "ood":  # nobody asks for its labels, and they may be anything
            passing = ((acts, None) for acts, _ in passing)
        return gathered(passing)

    def score(self, item: Named) -> None:
        """Score one set with every detector, batch by batch."""
        parts: dict[str, list[Any]] = {name: [] for name in self.chosen}
        answers: list[Any] = []
        count = Count(labelled=item.role != "ood")
        for acts, _ in self._passing(item, count):
            answers.append(acts.answers.int().cpu().numpy())
            for name, scores in self._scores(acts):
                parts[name].append(scores)
        self.predicted[item.name] = np.concatenate(answers)
        for name in self.chosen:
            self.scores[name][item.name] = _finite(np.concatenate(parts[name]), name, item.name)
        right, members = (count.right, count.members) if count.labelled else (None, [])
        self.infos.append(_info(item, count.samples, right, members))

    def _scores(self, acts: Activations) -> Iterator[tuple[str, Any]]:
        """What each detector makes of a batch; with ``spare``, those that refuse it are dropped."""
        for name, scorer in list(self.chosen.items()):
            start = time.perf_counter()
            try:
                scores = _scored(name, scorer, acts)
            except NeedsError as error:
                if not self.spare:
                    raise
                self._leave_out({name: _reason(scorer, error)})
                continue
            self.seconds[name] += time.perf_counter() - start
            yield name, scores

    def rows(self, alarm_rate: float | None) -> list[Row]:
        """Metrics of every detector on every OOD set."""
        groups = {info.name: info.group for info in self.infos if info.role == "ood"}
        return [
            _row(name, ood, group, self.scores[name], alarm_rate)
            for name in self.chosen
            for ood, group in groups.items()
        ]

    def settings(self) -> dict[str, Any]:
        """How the network ran, and on what."""
        machine = f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"
        return {
            **_way(self.network),
            "machine": machine,
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("offmap", "torch", "numpy")},
        }


def _way(probe: AnyProbe) -> dict[str, Any]:
    """How a network runs; of a cascade, how its filter does, and within that its classifier."""
    if isinstance(probe, CascadeProbe):
        return _way(probe.filter) | {"classifier": _way(probe.classifier)}
    head = probe.head_name
    why = {"why_no_head": probe.why_no_head} if probe.why_no_head else {}
    return {
        "network": type(probe.network).__name__,
        "head": list(head) if isinstance(head, tuple) else head,
        "precision": probe.precision,
        "device": str(probe.device),
        "normalization": repr(probe.normalization),
        **why,
    }


def _fits(candidate: Detector) -> bool:
    return candidate.stages > 0 or "head" in candidate.needs


def _reason(scorer: Scorer, error: OffmapError) -> str:
    """What an error says of a detector, without its expression: others may share the reason."""
    return str(error).removeprefix(f"{scorer!r} ")


def _scored(name: str, scorer: Scorer, acts: Activations) -> Any:
    found = scorer.score(acts) if isinstance(scorer, Detector) else scorer(acts)
    scores = torch.as_tensor(found).detach()
    if scores.shape != (len(acts),):
        raise ShapeError(
            f"{name}: scores must have shape ({len(acts)},), one a sample; seen "
            f"{tuple(scores.shape)}"
        )
    # Float64 stays, as the metrics never round a score either.
    return (scores if scores.dtype == torch.float64 else scores.float()).cpu().numpy()


def _finite(scores: Any, name: str, set_name: str) -> Any:
    if bad := int((~np.isfinite(scores)).sum()):
        raise NonFiniteError(f"{name}: {bad} of {len(scores)} scores on {set_name} are not finite")
    return scores


def _row(
    name: str, ood: str, group: str, scores: Mapping[str, Any], alarm_rate: float | None
) -> Row:
    decided: dict[str, Any] = {}
    if alarm_rate is not None:
        threshold = alarm_threshold(torch.from_numpy(scores["calibration"]), alarm_rate)
        decided["threshold"] = threshold
        decided["id_alarm"] = float((scores["id"] > threshold).mean())
        decided["ood_caught"] = float((scores[ood] > threshold).mean())
    found = asdict(detection(scores["id"], scores[ood]))
    return Row(detector=name, set=ood, group=group, **decided, **found)


def _info(
    item: Named, samples: int, right: int | None = None, members: Sequence[int] = ()
) -> SetInfo:
    data = item.data
    skipped = [[str(s.path), s.reason] for s in getattr(data, "skipped", ())]
    return SetInfo(
        name=item.name,
        role=item.role,
        group=item.group,
        n=samples,
        right=right,
        members=list(members),
        skipped=skipped,
        source=str(getattr(data, "name", type(data).__name__)),
        transform=str(getattr(data, "transform", "")),
        fingerprint=getattr(data, "fingerprint", None),
    )
