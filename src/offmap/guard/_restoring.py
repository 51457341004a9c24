"""Whether the record of a calibration agrees with its tensors.

The tensors have a hash, but the record beside them is text that anybody may edit: it could promise
a rate with too few samples, or a confidence that the limits were not made with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from offmap.errors import StoreError
from offmap.guard.limits import delta_of, marginal_limits
from offmap.guard.simultaneous import beta_limits

if TYPE_CHECKING:
    from offmap.guard.calibration import Calibration

_ROUNDING = 1e-9  # of limits, which libraries compute in other last digits


def check_restored(calibration: Calibration, samples: int) -> None:
    """Refuse tensors that are not those of the rule, the rates and the confidence.

    Args:
        calibration: as it was read.
        samples: that the record states.

    Raises:
        StoreError: they do not belong together.
    """
    if not _shapes_match(calibration, samples):
        raise StoreError(
            f"the record states {samples:,} calibration samples and the rule {calibration.rule}, "
            "and the tensors beside it are of others: take both from one place"
        )
    if not _limits_match(calibration):
        raise StoreError(
            "the limits of the ranks are not those of the alarm rates and the confidence that the "
            "record states: to change these, calibrate anew"
        )


def _shapes_match(calibration: Calibration, samples: int) -> bool:
    """Whether scores, counts, limits and groups are those of so many samples and of the rule."""
    scores, counts, limits = calibration.scores_, calibration.counts_, calibration.limits_
    if scores.ndim != 2 or counts.ndim != 1 or not scores.numel() or not counts.numel():
        return False
    one_detector = len(scores) == 1 or calibration.rule == "bonferroni"
    if not one_detector or scores.shape[1] != samples or limits.dtype != torch.float64:
        return False
    if int(counts.sum()) != samples or limits.shape != (len(counts), int(counts.max()) + 1):
        return False
    if bool(scores.isnan().any()) or not bool((scores[:, 1:] >= scores[:, :-1]).all()):
        return False
    if calibration.rule != "per_class":
        return len(counts) == 1
    # Each sample has a group, and the groups have as many samples as were counted.
    labels, groups = calibration.labels_, calibration.groups_
    if labels.is_floating_point() or labels.shape != (samples,) or bool((labels < 0).any()):
        return False
    if groups is not None and not set(groups.tolist()) <= set(range(len(counts))):
        return False
    return torch.equal(torch.bincount(labels, minlength=len(counts)), counts)


def _limits_match(calibration: Calibration) -> bool:
    """Whether the limits are those of the rates and the confidence."""
    limits, counts, tests = calibration.limits_, calibration.counts_, calibration.tests
    if calibration.confidence is None:
        return _close(limits, marginal_limits(counts, tests=tests))
    if not calibration.named:  # the band over all rates at once takes too long to compute again
        return True
    delta = delta_of(calibration.confidence, calibration.alarm_rates)
    share = float(delta / (len(counts) * tests))
    for row, n in zip(limits, counts.tolist(), strict=True):
        ranks = np.array([1, n])  # those of a million samples take minutes
        expected = np.minimum(tests * beta_limits(n, share, ranks), 1)
        if not _close(row[[0, n - 1]], torch.from_numpy(expected)):
            return False
    return True


def _close(limits: Tensor, expected: Tensor) -> bool:
    return torch.allclose(limits, expected.to(limits), rtol=_ROUNDING, atol=0)
