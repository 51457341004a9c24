"""Why a sample was called known or unknown, in words."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from offmap.activations import Activations, Sample
from offmap.detectors import Composite, Detector
from offmap.detectors.combined.auto import Auto
from offmap.detectors.combined.combine import Combine
from offmap.detectors.features.knn import KNN
from offmap.detectors.features.mahalanobis import Mahalanobis
from offmap.detectors.features.vim import ViM
from offmap.errors import ArgumentError
from offmap.guard._inputs import as_batch
from offmap.guard.verdict import Verdict

if TYPE_CHECKING:
    from offmap.guard.guard import Guard

Words = list[str]  # of each sample
_NEAREST = 3
_KEYS = re.compile(r"(nearest training samples ).*( \(from )")


def explain_sample(guard: Guard, inputs: Any) -> str:
    """Why a guard says what it says of one sample.

    Args:
        guard: calibrated.
        inputs: one sample, with or without the axis of samples.

    Raises:
        ArgumentError: there are several.
    """
    verdict, reasons = explained(guard, inputs)
    if len(reasons) != 1:
        raise ArgumentError(
            f"explain_sample takes one sample, and there are {len(reasons)}: give one of them"
        )
    return verdict.explain(0)


def explained(guard: Guard, inputs: Any) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict on a batch, and the reason of each sample: what would be said, and what made it.

    The network runs once. What the network would have said stands first, with its confidence; then
    where the score lies among the calibration scores; then what made it: the parts of a score, the
    nearest class, the nearest training samples of a bank that has their keys.

    Args:
        guard: calibrated.
        inputs: a batch, as for the guard.
    """
    guard.refuse_changed()
    batch = as_batch(guard, inputs)
    with guard.probe as probe, torch.no_grad():
        acts = probe.sample(batch) if guard.reads_inputs else probe(batch)
        verdict = guard.judge(acts)
        wrong = verdict.reasons or (None,) * len(verdict)
        good = torch.tensor([reason is None for reason in wrong], device=verdict.labels.device)
        words = iter(_of_finite(guard, acts[good], verdict[good]) if bool(good.any()) else [])
    reasons = tuple(next(words) if reason is None else reason for reason in wrong)
    return replace(verdict, words=reasons), reasons


def without_keys(reason: str) -> str:
    """A reason that does not say what the training samples are called.

    >>> without_keys("score 3; nearest training samples a.png, b.png (from 0.2)")
    'score 3; nearest training samples [keys] (from 0.2)'
    """
    return _KEYS.sub(r"\1[keys]\2", reason)


def _of_finite(guard: Guard, acts: Any, verdict: Verdict) -> Words:
    own = acts.acts if isinstance(acts, Sample) else acts
    each = guard.each()
    columns = [_said(own, verdict)]
    for i, detector in enumerate(each):
        columns.append(_standing(guard, i, detector.score(acts), verdict, name=len(each) > 1))
        columns.append(_parts(detector, acts, guard))
    return ["; ".join(filter(None, row)) for row in zip(*columns, strict=True)]


def _said(acts: Activations, verdict: Verdict) -> Words:
    """What the network would have said."""
    labels = verdict.labels.tolist()
    names = [_name(verdict.classes, label) for label in labels]
    if not acts.has_predictions:
        return ["" if label < 0 else f"said {n}" for label, n in zip(labels, names, strict=True)]
    other = acts.classifier_logits  # of a cascade: the network that said it
    logits = acts.logits if other is None else other
    confidence = logits.double().softmax(1).amax(1).tolist()
    return [f"said {n} with confidence {p:.1%}" for n, p in zip(names, confidence, strict=True)]


def _standing(
    guard: Guard, row: int, scores: Float[Tensor, " n"], verdict: Verdict, *, name: bool
) -> Words:
    """Where scores lie among those of the calibration set."""
    calibration = guard.calibration
    known = calibration.scores_[row]
    who = f"{_called(guard.each()[row])} " if name else ""
    per_class, joined = calibration.rule == "per_class", calibration.groups_
    counts = None if joined is None else torch.bincount(joined).tolist()
    words = []
    for score, label in zip(scores, verdict.labels.tolist(), strict=True):
        group = label if joined is None else int(joined[label])
        others = known[calibration.labels_ == group] if per_class else known
        of = f" of {_name(verdict.classes, label)}" if per_class else ""
        if counts is not None and counts[group] > 1:
            of += " and the classes joined with it"
        below = int((others < score).sum())
        # Rounded down: above 100.0% would be above all.
        share = "all" if below == len(others) else f"{1000 * below // len(others) / 10:.1f}%"
        words.append(
            f"{who}score {float(score):.4g} above {share} of {len(others):,} calibration scores{of}"
        )
    return words


def _parts(detector: Detector, acts: Any, guard: Guard) -> Words:
    """What made the scores of one detector, as far as it can be told."""
    own = detector.view_of(acts)
    if isinstance(detector, Combine | Auto):
        return _combined(detector, own, guard)
    if isinstance(detector, Composite):
        inside = detector.all_parts()
        return _parts(inside[0], detector.view(0, own), guard) if len(inside) == 1 else _none(own)
    if isinstance(own, Sample):
        return _none(own)
    if isinstance(detector, ViM):
        return _virtual(detector, own)
    if isinstance(detector, Mahalanobis):
        return _nearest_class(detector, own, guard)
    if isinstance(detector, KNN):
        return _nearest_samples(detector, own)
    return _none(own)


def _none(acts: Any) -> Words:
    return [""] * len(acts)


def _combined(detector: Combine | Auto, acts: Any, guard: Guard) -> Words:
    """Where each part stands on calibration data, the farthest first, and what made that one."""
    scores = detector.score_columns(acts)
    used = detector.used if isinstance(detector, Auto) else range(len(detector.all_parts()))
    parts = [detector.part(i) for i in used]
    inside = [_parts(detector.part(i), detector.view(i, acts), guard) for i in used]
    far = _standardised(detector, scores)
    unit = "of 100 below" if _by_rank(detector) else "deviations from their mean"
    words = []
    for n, row in enumerate(far.tolist()):
        order = sorted(range(len(row)), key=lambda i, row=row: -row[i])  # type: ignore[misc]
        shown = ", ".join(f"{_called(parts[i])} {row[i]:+.1f}" for i in order)
        first = inside[order[0]][n]
        words.append(f"{shown} ({unit} on calibration data)" + (f"; {first}" if first else ""))
    return words


def _by_rank(detector: Combine | Auto) -> bool:
    """Whether calibration scores are kept, and not their mean and deviation."""
    return isinstance(detector, Combine) and detector.how not in ("softplus", "mean")


def _standardised(
    detector: Combine | Auto, scores: Float64[Tensor, "n k"]
) -> Float64[Tensor, "n k"]:
    """Deviations above the mean, or the percentage of calibration scores below."""
    scale = detector.scale_
    if not _by_rank(detector):
        return (scores - scale[:, 0]) / scale[:, 1]
    return 100 * torch.searchsorted(scale, scores.T.contiguous()).T.double() / scale.shape[1]


def _virtual(detector: ViM, acts: Activations) -> Words:
    """The residual against the energy, both as logits."""
    residual = (detector.alpha_ * detector.norms(acts)).tolist()
    classes = acts.logits.double().logsumexp(1).tolist()
    return [
        f"residual {r:.4g} as a logit, against {c:.4g} of all classes"
        for r, c in zip(residual, classes, strict=True)
    ]


def _nearest_class(detector: Mahalanobis, acts: Activations, guard: Guard) -> Words:
    distances = detector.distances(acts).sqrt()
    near, classes = distances.topk(min(2, distances.shape[1]), largest=False)
    # Classes without training samples have no mean, and those behind them another number.
    all_seen = not acts.has_logits or distances.shape[1] == acts.logits.shape[1]
    words = []
    for labels, values in zip(classes.tolist(), near.tolist(), strict=True):
        names = [_name(guard.classes, label) if all_seen else "" for label in labels]
        shown = [f"{n} at {v:.4g}".strip() for n, v in zip(names, values, strict=True)]
        words.append(f"nearest class {', then '.join(shown)}")
    return words


def _nearest_samples(detector: KNN, acts: Activations) -> Words:
    distances, keys = detector.nearest(acts, _NEAREST)
    if keys is None:
        return [f"nearest training sample at {row[0]:.4g}" for row in distances.tolist()]
    pairs = zip(keys, distances.tolist(), strict=True)
    return [f"nearest training samples {', '.join(row)} (from {d[0]:.4g})" for row, d in pairs]


def _name(classes: tuple[str, ...], label: int) -> str:
    return classes[label] if 0 <= label < len(classes) else str(label)


def _called(detector: Detector) -> str:
    return type(detector).__name__
