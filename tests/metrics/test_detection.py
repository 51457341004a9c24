from dataclasses import FrozenInstanceError, asdict
from inspect import ismodule

import numpy as np
import pytest
from hypothesis import given, settings
from slow_metrics import two_samples

import offmap.metrics as metrics
from offmap.metrics import _ranking


@settings(max_examples=25)  # eleven calls each
@given(two_samples())
def test_each_field_equals_its_own_function(samples):
    found = metrics.detection(*samples)
    n_id, n_ood = map(len, samples)
    assert found == metrics.Detection(
        n_id=n_id,
        n_ood=n_ood,
        base_rate=n_ood / (n_id + n_ood),
        auroc=metrics.auroc(*samples),
        auroc_low=metrics.delong_interval(*samples).low,
        auroc_high=metrics.delong_interval(*samples).high,
        aupr_in=metrics.aupr_in(*samples),
        aupr_out=metrics.aupr_out(*samples),
        fpr_id_kept=metrics.fpr_at_tpr(*samples, reading="id_kept"),
        fpr_ood_caught=metrics.fpr_at_tpr(*samples, reading="ood_caught"),
        detection_accuracy=metrics.detection_accuracy(*samples)[0],
        detection_threshold=metrics.detection_accuracy(*samples)[1],
    )


def test_the_scores_are_ranked_once(monkeypatch):
    calls = []
    real = _ranking.as_scores

    def counted(*scores):
        calls.append(scores)
        return real(*scores)

    monkeypatch.setattr(_ranking, "as_scores", counted)
    metrics.detection([0.0, 1.0], [0.5, 2.0])
    assert len(calls) == 1


@given(two_samples(least=5))
def test_summing_in_small_blocks_gives_the_same(samples):
    whole = metrics.detection(*samples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ranking, "_BLOCK", 3)
        parts = metrics.detection(*samples)
    assert asdict(parts) == pytest.approx(asdict(whole), rel=1e-12)
    assert parts.auroc == whole.auroc


def test_the_largest_floats_are_ranked():
    edge = np.finfo(np.float64).max
    found = metrics.detection([-edge, 0.0], [0.0, edge])
    assert (found.auroc, found.detection_threshold) == (0.875, 0.0)


def test_a_detection_cannot_be_changed():
    found = metrics.detection([0.0, 1.0], [0.5, 2.0])
    with pytest.raises(FrozenInstanceError):
        found.auroc = 1.0


def test_the_table_of_contents_is_sorted_and_complete():
    public = {
        name
        for name, value in vars(metrics).items()
        if not name.startswith("_") and not ismodule(value) and value.__doc__
    }
    assert sorted(metrics.__all__) == metrics.__all__
    assert public == set(metrics.__all__)
