"""Why a sample was called known or unknown, in words."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations, Sample
from offmap.detectors import Composite, Detector
from offmap.detectors.combined.auto import Auto
from offmap.detectors.combined.combine import Combine
from offmap.detectors.features.knn import KNN
from offmap.detectors.features.mahalanobis import Mahalanobis
from offmap.detectors.features.vim import ViM
from offmap.errors import ArgumentError
from offmap.guard.calibration_data import acts_of
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
    """The verdict on a batch, and the reason for each sample: the prediction and the score's parts.

    The network runs once. First comes the class that the network predicts, with its confidence;
    then where the score lies among the calibration scores; then what makes it high or low: the
    parts of a score, the nearest class, the nearest training samples of a bank that has their keys.

    Args:
        guard: calibrated.
        inputs: a batch, as for the guard.
    """
    with guard.activations(inputs) as acts:
        verdict = guard.judge(acts)
        reasons = reasons_of(guard, acts, verdict)
    return replace(verdict, words=reasons), reasons


def without_keys(reason: str) -> str:
    """A reason without the keys of training samples.

    >>> without_keys("score 3; nearest training samples a.png, b.png (from 0.2)")
    'score 3; nearest training samples [keys] (from 0.2)'
    """
    return _KEYS.sub(r"\1[keys]\2", reason)


def reasons_of(guard: Guard, acts: Any, verdict: Verdict) -> tuple[str, ...]:
    """The reason for each sample of a verdict: see :func:`explained`.

    Args:
        guard: calibrated.
        acts: what :meth:`Guard.activations` gives, within its block.
        verdict: the guard's own on these.
    """
    errors = verdict.reasons or (None,) * len(verdict)
    finite = torch.tensor([error is None for error in errors], device=verdict.labels.device)
    if not bool(finite.any()):
        return tuple(error or "" for error in errors)
    acts, verdict = acts[finite], verdict[finite]
    detectors, outputs = guard.each(), acts_of(acts)
    labels = verdict.labels.tolist()
    names = [_name(verdict.classes, label) for label in labels]
    if outputs.has_predictions:
        # Of a cascade: those of the network that predicts.
        logits = outputs.classifier_logits
        logits = outputs.logits if logits is None else logits
        confidence = logits.double().softmax(1).amax(1).tolist()
        pairs = zip(names, confidence, strict=True)
        columns = [[f"said {name} with confidence {p:.1%}" for name, p in pairs]]
    else:
        said = zip(labels, names, strict=True)
        columns = [["" if label < 0 else f"said {name}" for label, name in said]]
    for i, detector in enumerate(detectors):
        scores = detector.score(acts)
        columns.append(_standing(guard, i, scores, verdict, name=len(detectors) > 1))
        columns.append(_parts(detector, acts, guard))
    words = iter(["; ".join(filter(None, row)) for row in zip(*columns, strict=True)])
    return tuple(next(words) if error is None else error for error in errors)


def _standing(
    guard: Guard, row: int, scores: Float[Tensor, " n"], verdict: Verdict, *, name: bool
) -> Words:
    """Where scores lie among those of the calibration set."""
    calibration = guard.calibration
    ascending = calibration.scores_[row]
    prefix = f"{_detector_name(guard.each()[row])} " if name else ""
    per_class, groups = calibration.rule == "per_class", calibration.groups_
    counts = None if groups is None else torch.bincount(groups).tolist()
    words = []
    for score, label in zip(scores, verdict.labels.tolist(), strict=True):
        group = label if groups is None else int(groups[label])
        peers = ascending[calibration.labels_ == group] if per_class else ascending
        where = f" of {_name(verdict.classes, label)}" if per_class else ""
        if counts is not None and counts[group] > 1:
            where += " and the classes joined with it"
        below, n = int((peers < score).sum()), len(peers)
        # Rounded down: above 100.0% would be above all.
        share = "all" if below == n else f"{1000 * below // n / 10:.1f}%"
        words.append(
            f"{prefix}score {float(score):.4g} above {share} of {n:,} calibration scores{where}"
        )
    return words


def _parts(detector: Detector, acts: Any, guard: Guard) -> Words:
    """What makes the scores of one detector high or low, for detectors that can tell."""
    view = detector.view_of(acts)
    if isinstance(detector, Combine | Auto):
        return _combined(detector, view, guard)
    if isinstance(detector, Composite):
        parts = detector.all_parts()
        return _parts(parts[0], detector.view(0, view), guard) if len(parts) == 1 else _empty(view)
    if isinstance(view, Sample):
        return _empty(view)
    if isinstance(detector, ViM):
        return _virtual_logit(detector, view)
    if isinstance(detector, Mahalanobis):
        return _nearest_class(detector, view, guard)
    if isinstance(detector, KNN):
        return _nearest_samples(detector, view)
    return _empty(view)


def _empty(acts: Any) -> Words:
    return [""] * len(acts)


def _combined(detector: Combine | Auto, acts: Any, guard: Guard) -> Words:
    """Scores of the parts on the scale of calibration data, highest first, and why that one is."""
    scores = detector.score_columns(acts)
    used = detector.used if isinstance(detector, Auto) else range(len(detector.all_parts()))
    parts = [detector.part(i) for i in used]
    reasons = [_parts(detector.part(i), detector.view(i, acts), guard) for i in used]
    scale, unit = detector.scale_, "deviations from their mean"
    if isinstance(detector, Combine) and detector.how not in ("softplus", "mean"):
        # It keeps calibration scores, and not their mean and deviation.
        ranks = torch.searchsorted(scale, scores.T.contiguous()).T
        deviations, unit = 100 * ranks.double() / scale.shape[1], "of 100 below"
    else:
        deviations = (scores - scale[:, 0]) / scale[:, 1]
    words = []
    for n, row in enumerate(deviations.tolist()):
        order = sorted(range(len(row)), key=lambda i, row=row: -row[i])  # type: ignore[misc]
        terms = ", ".join(f"{_detector_name(parts[i])} {row[i]:+.1f}" for i in order)
        reason = reasons[order[0]][n]
        words.append(f"{terms} ({unit} on calibration data)" + (f"; {reason}" if reason else ""))
    return words


def _virtual_logit(detector: ViM, acts: Activations) -> Words:
    """The residual against the energy, both as logits."""
    residual = (detector.alpha_ * detector.norms(acts)).tolist()
    classes = acts.logits.double().logsumexp(1).tolist()
    return [
        f"residual {r:.4g} as a logit, against {c:.4g} of all classes"
        for r, c in zip(residual, classes, strict=True)
    ]


def _nearest_class(detector: Mahalanobis, acts: Activations, guard: Guard) -> Words:
    distances = detector.distances(acts).sqrt()
    nearest, classes = distances.topk(min(2, distances.shape[1]), largest=False)
    # A class without training samples has no mean, and those after it have another index.
    complete = not acts.has_logits or distances.shape[1] == acts.logits.shape[1]
    words = []
    for labels, values in zip(classes.tolist(), nearest.tolist(), strict=True):
        names = [_name(guard.classes, label) if complete else "" for label in labels]
        terms = [f"{n} at {v:.4g}".strip() for n, v in zip(names, values, strict=True)]
        words.append(f"nearest class {', then '.join(terms)}")
    return words


def _nearest_samples(detector: KNN, acts: Activations) -> Words:
    distances, keys = detector.nearest(acts, _NEAREST)
    if keys is None:
        return [f"nearest training sample at {row[0]:.4g}" for row in distances.tolist()]
    pairs = zip(keys, distances.tolist(), strict=True)
    return [f"nearest training samples {', '.join(row)} (from {d[0]:.4g})" for row, d in pairs]


def _name(classes: tuple[str, ...], label: int) -> str:
    return classes[label] if 0 <= label < len(classes) else str(label)


def _detector_name(detector: Detector) -> str:
    return type(detector).__name__
