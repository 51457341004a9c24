"""False-discovery control of a stream, by the library online-fdr."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import offmap
from offmap import demo
from offmap.adapters.online_fdr import Stream
from offmap.errors import ArgumentError, NotFittedError
from offmap.guard import Verdict, adjusted_p_values, p_values

procedures = pytest.importorskip("online_fdr.p_values")


@pytest.fixture(scope="module")
def sets() -> demo.Digits:
    return demo.digits_data()


@pytest.fixture(scope="module")
def guard(sets: demo.Digits) -> offmap.Guard:
    made = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    return made.fit(sets.train).calibrate(sets.calibration, 0.1)


def test_each_batch_is_judged_on_adjusted_p_values(guard: offmap.Guard, sets: demo.Digits) -> None:
    stream, beside = Stream(guard, procedures.BatchBH(alpha=0.9)), procedures.BatchBH(alpha=0.9)
    faces = sets.ood["far"]["faces"].images
    n = guard.calibration.scores_.shape[1]
    found = 0
    for images in (sets.test.images[:60], faces[:60], faces[60:120]):
        verdict = guard(images)
        adjusted = adjusted_p_values(verdict.p_values, n)
        called = stream(verdict)
        assert called.tolist() == beside.test_batch(adjusted.tolist())
        assert float(adjusted.min()) >= stream.smallest
        found += int(called.sum())
    assert found > 0


def test_one_at_a_time(guard: offmap.Guard, sets: demo.Digits) -> None:
    verdict = guard(sets.ood["far"]["faces"].images[:40])
    whole = Stream(guard, procedures.Saffron(alpha=0.3, wealth=0.15, lambda_=0.5))
    parts = Stream(guard, procedures.Saffron(alpha=0.3, wealth=0.15, lambda_=0.5))
    at_once = whole(verdict).tolist()
    assert at_once == [bool(parts(verdict[i : i + 1])) for i in range(40)]


def test_what_has_no_score_is_called_and_is_not_tested(guard: offmap.Guard) -> None:
    tested: list[float] = []
    procedure = SimpleNamespace(test_one=lambda p: tested.append(p) or False)
    n = guard.calibration.scores_.shape[1]
    verdict = Verdict(
        labels=torch.zeros(2, dtype=torch.long),
        scores=torch.tensor([torch.inf, 1.0]),
        p_values=torch.tensor([1 / (n + 1), 1.0], dtype=torch.float64),
        is_ood=torch.tensor([True, False]),
    )
    assert Stream(guard, procedure)(verdict).tolist() == [True, False]
    assert tested == [1.0]
    empty = verdict[torch.tensor([], dtype=torch.long)]
    assert Stream(guard, procedure)(empty).tolist() == []


def test_the_share_of_false_discoveries_is_kept_over_calibration_sets() -> None:
    """Of plain scores: 150 streams of 600, one in ten OOD, each with a calibration set of its own.

    The expected share is at most alpha + delta; the standard error of 150 shares of at most 1 with
    this spread is below 0.02.
    """
    rng = np.random.default_rng(0)
    shares, caught = [], []
    for _ in range(150):
        calibration = rng.normal(size=5000)
        guard: Any = SimpleNamespace(
            calibration=SimpleNamespace(rule="plain", scores_=np.zeros((1, 5000)))
        )
        stream = Stream(guard, procedures.BatchBH(alpha=0.1))
        ood = rng.random(600) < 0.1
        scores = rng.normal(size=600) + 4 * ood
        called = np.concatenate([
            stream(_verdict(scores[i : i + 100], calibration)).numpy() for i in range(0, 600, 100)
        ])  # fmt: skip
        shares.append((called & ~ood).sum() / max(called.sum(), 1))
        caught.append((called & ood).sum() / ood.sum())
    assert np.mean(shares) <= 0.15 + 3 * np.std(shares) / 150**0.5
    assert np.mean(caught) > 0.3


def _verdict(scores: np.ndarray, calibration: np.ndarray) -> Verdict:
    x = torch.from_numpy(scores)
    return Verdict(
        labels=torch.zeros(len(x), dtype=torch.long),
        scores=x,
        p_values=p_values(x, torch.from_numpy(calibration)),
        is_ood=torch.zeros(len(x), dtype=torch.bool),
    )


def test_what_is_refused(guard: offmap.Guard, sets: demo.Digits) -> None:
    fresh = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    with pytest.raises(NotFittedError, match="calibrate"):
        Stream(fresh, procedures.BatchBH(alpha=0.1))
    with pytest.raises(ArgumentError, match="test_batch"):
        Stream(guard, "LORD")  # type: ignore[arg-type]
    two = offmap.Guard(demo.shipped(), ["mahalanobis", "energy"], normalization=demo.NORMALIZATION)
    two.fit(sets.train).calibrate(sets.calibration, 0.1)
    with pytest.raises(ArgumentError, match="one detector"):
        Stream(two, procedures.BatchBH(alpha=0.1))
