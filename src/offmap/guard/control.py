r"""Accept only what is predicted rightly: a threshold on the score with a certified error rate.

OOD recall is not part of it: from ID data alone nothing can be said of how many OOD samples are
accepted (arXiv:2403.16916).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from offmap._utils.percent import percent
from offmap.errors import ArgumentError, LabelError
from offmap.guard.decide import exact_rate
from offmap.guard.groups import Groups
from offmap.guard.verdict import Verdict

if TYPE_CHECKING:
    from offmap.guard.calibration import Calibration

OF = ("all", "accepted")
_GRID = np.arange(1, 101) / 100


@dataclass(frozen=True)
class Control:
    """Samples with a score of at most the threshold are accepted, and few of those are wrong.

    Args:
        threshold: on the guard's score.
        error_rate: that is not exceeded, with that confidence.
        confidence: for this very set of labelled samples.
        of: "all": the share of all samples that are accepted and wrong; "accepted": the share of
            wrong ones among those accepted.
        samples: labelled ones.
        accepted: of those.
        wrong: of those accepted.
        wrong_of_all: with every sample accepted.
    """

    threshold: float
    error_rate: float
    confidence: float
    of: str
    samples: int
    accepted: int
    wrong: int
    wrong_of_all: int

    @property
    def coverage(self) -> float:
        """Share of the labelled samples that are accepted."""
        return self.accepted / self.samples

    def accepts(self, scores: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Which samples are accepted."""
        return scores <= self.threshold

    def record(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        errors = {
            "all": "of ID samples are accepted and wrong",
            "accepted": "of the ID samples accepted are wrong",
        }[self.of]
        confidence, rate = percent(self.confidence), percent(self.error_rate, 2)
        return (
            f"Accepted is what scores at most {self.threshold}: with confidence {confidence}, at "
            f"most {rate} {errors}. Of {self.samples:,} labelled samples {self.coverage:.1%} are "
            f"accepted, {self.wrong:,} of them wrong; with all accepted {self.wrong_of_all:,} "
            "would be. How many OOD samples are accepted is not promised: ID data cannot show it."
        )


Samples = Iterable[tuple[Tensor, Tensor, Tensor | None]]


def counted(groups: Groups | None, judged: Iterable[tuple[Verdict, Tensor | None]]) -> Samples:
    """Scores, predictions and labels of verdicts; with groups, of one sample of each.

    Args:
        groups: that the samples went through.
        judged: verdicts and labels, batch by batch.
    """
    pairs = list(judged) if groups is not None else []
    if groups is None or any(labels is None for _, labels in pairs):
        yield from ((part.scores, part.labels, labels) for part, labels in pairs or judged)
        return
    verdict = Verdict.joined([part for part, _ in pairs])
    labels = torch.cat([labels for _, labels in pairs if labels is not None])
    rows = groups.one_each(verdict.keys or ())
    verdict = verdict[rows.to(verdict.scores.device)]
    yield verdict.scores, verdict.labels, labels[rows.to(labels.device)]


def control_of(
    calibration: Calibration,
    samples: Samples,
    error_rate: float,
    confidence: float,
    of: str,
) -> Control:
    r"""The threshold that accepts most, where the error rate is certified.

    ``all``: the risk rises with the threshold, so the largest at which its exact upper limit is at
    most the rate keeps it. With ``n`` samples, ``W`` of them accepted and wrong, that is
    :math:`P(\mathrm{Bin}(n, \epsilon) \le W) \le \delta`.

    ``accepted``: the share need not rise, so thresholds are tested in a fixed order (Learn then
    Test): the hundredths of the calibration scores, which are other data, upwards from the first
    that is expected to accept enough samples to show the rate. Each is tested by
    :math:`P(\mathrm{Bin}(N, \epsilon) \le W) \le \delta` with ``N`` accepted, and the first that
    fails ends it.

    No threshold lies above the guard's own, where there is one.

    Args:
        calibration: of the guard.
        samples: scores, predictions and labels of each batch.
        error_rate: not to be exceeded.
        confidence: ``1 - delta``.
        of: "all" or "accepted".

    Raises:
        LabelError: there are no labels.
        ArgumentError: an argument outside its range, or these samples do not show the rate.

    References:
        Bates et al., J. ACM 68, 2021, arXiv:2101.02703; Angelopoulos et al., arXiv:2110.01052.
    """
    if of not in OF:
        raise ArgumentError(f"of must be one of {', '.join(OF)}; seen {of!r}")
    rate = float(exact_rate(error_rate, "error_rate"))
    delta = float(1 - exact_rate(confidence, "confidence"))
    batch_scores, batch_errors = [], []
    for score, prediction, label in samples:
        if label is None or (prediction < 0).any():
            raise LabelError("errors are counted by labels and predictions: give labelled samples")
        batch_scores.append(torch.where(score.isfinite(), score, torch.inf).cpu())
        batch_errors.append((prediction != label.to(prediction.device)).cpu())
    scores, wrong = torch.cat(batch_scores).double().numpy(), torch.cat(batch_errors).numpy()
    needed = math.ceil(math.log(delta) / math.log1p(-rate))
    if len(scores) < needed:
        raise ArgumentError(
            f"an error rate of {error_rate} with confidence {confidence} needs at least {needed} "
            f"labelled samples, none of them wrong; there are {len(scores)}"
        )
    choose = _threshold_of_all if of == "all" else _threshold_of_accepted
    threshold = choose(calibration, scores, wrong, rate, delta, needed)
    accepted = np.zeros(len(scores), bool) if threshold is None else scores <= threshold
    if threshold is None or not accepted.any():
        raise ArgumentError(
            f"these {len(scores)} samples, {int(wrong.sum())} of them wrong, do not show an error "
            f"rate of {error_rate} with confidence {confidence} at any threshold: give more "
            "samples, or allow a higher rate"
        )
    errors = int((wrong & accepted).sum())
    counts = (len(scores), int(accepted.sum()), errors, int(wrong.sum()))
    return Control(threshold, float(error_rate), float(confidence), of, *counts)


def _highest(calibration: Calibration) -> float:
    """The guard's own threshold, or infinity."""
    threshold = calibration.threshold
    return math.inf if threshold is None else threshold


def _threshold_of_all(
    calibration: Calibration,
    scores: np.ndarray,
    wrong: np.ndarray,
    rate: float,
    delta: float,
    needed: int,
) -> float | None:
    from scipy import stats  # here: it takes a second

    errors = np.arange(len(scores) + 1)
    allowed = int((stats.binom.cdf(errors, len(scores), rate) <= delta).sum()) - 1
    error_scores = np.sort(scores[wrong])
    candidates = scores[np.isfinite(scores) & (scores <= _highest(calibration))]
    if allowed < len(error_scores):
        candidates = candidates[candidates < error_scores[allowed]]  # the first error too many
    return float(candidates.max()) if len(candidates) else None


def _threshold_of_accepted(
    calibration: Calibration,
    scores: np.ndarray,
    wrong: np.ndarray,
    rate: float,
    delta: float,
    needed: int,
) -> float | None:
    from scipy import stats  # here: it takes a second

    highest, n = None, len(scores)
    start = max(needed, min(3 * needed, n / 2)) / n  # depends on numbers of samples alone
    # Thresholds that accept each hundredth of the calibration scores.
    if calibration.rule == "bonferroni":  # its score is a function of ranks, in float32
        tests = calibration.tests
        p_values = np.maximum((1 - _GRID) / tests, 1 / (int(calibration.counts_[0]) + 1))
        grid = (-np.log(tests * p_values)).astype(np.float32).astype(np.float64)
    else:
        others = calibration.scores_[0].cpu().double().numpy()
        grid = np.quantile(others[np.isfinite(others)], _GRID, method="inverted_cdf")
    for share, threshold in zip(_GRID, grid, strict=True):
        if share < start:
            continue
        if threshold > _highest(calibration):
            break
        accepted = scores <= threshold
        p = stats.binom.cdf((wrong & accepted).sum(), accepted.sum(), rate)
        if accepted.sum() == 0 or p > delta:
            break
        highest = float(threshold)
    return highest
