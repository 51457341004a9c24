"""Certificates of guards: other rates without data, kept in their folder, in words."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import torch

import offmap
from offmap import demo
from offmap.errors import ArgumentError
from offmap.guard.words import described


@pytest.fixture(scope="module")
def sets() -> demo.Digits:
    return demo.digits_data()


@pytest.fixture
def guard(sets: demo.Digits) -> offmap.Guard:
    made = offmap.Guard(demo.shipped(), "energy", normalization=demo.NORMALIZATION)
    return made.fit(sets.train).calibrate(sets.calibration, [0.1, 0.05], confidence=0.95)


def test_another_rate_needs_no_data_and_shares_everything(
    guard: offmap.Guard, sets: demo.Digits
) -> None:
    images = sets.test.images
    before = guard(images)
    other = guard.at(0.05)
    assert other.network is guard.network
    assert other.detectors is guard.detectors
    assert other.calibration.scores_ is guard.calibration.scores_
    assert (guard.calibration.alarm_rate, other.calibration.alarm_rate) == (0.1, 0.05)
    verdict = other(images)
    assert torch.equal(verdict.scores, before.scores)
    assert torch.equal(verdict.p_values, before.p_values)
    assert torch.equal(verdict.is_ood, before.scores > other.calibration.threshold)
    assert int(verdict.is_ood.sum()) < int(before.is_ood.sum())
    assert torch.equal(guard(images).is_ood, before.is_ood)


def test_a_guard_at_another_rate_learns_for_itself(guard: offmap.Guard, sets: demo.Digits) -> None:
    made = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    made.fit(sets.train).calibrate(sets.calibration)
    before = made(sets.test.images)
    other = made.at(0.1)
    other.fit(sets.calibration).calibrate(sets.test, 0.1)
    assert made(sets.test.images).to_dict() == before.to_dict()
    assert made.history.read["calibrate"]["samples"] == len(sets.calibration)


def test_a_certificate_is_kept_in_the_folder(
    guard: offmap.Guard, sets: demo.Digits, tmp_path: Path
) -> None:
    for rate in (0.1, 0.05, 0.2):
        saved = guard.at(rate)
        saved.save(tmp_path)
        record = json.loads((tmp_path / "guard.json").read_text())["calibration"]
        assert record["promise"].startswith(f"With confidence 95%, at most {rate:.2%} of ID")
        loaded = offmap.load(tmp_path, demo.shipped())
        assert loaded.explain() == saved.explain()
        assert loaded(sets.test.images).to_dict() == saved(sets.test.images).to_dict()
        assert loaded.at(0.05).calibration.ranks == guard.at(0.05).calibration.ranks


def test_the_folder_says_when_each_step_was_taken(guard: offmap.Guard, tmp_path: Path) -> None:
    guard.save(tmp_path)
    read = json.loads((tmp_path / "guard.json").read_text())["read"]
    day = datetime.now(UTC).date()
    assert {date.fromisoformat(of["date"]) for of in read.values()} <= {day, day - timedelta(1)}
    for step, of in read.items():
        assert f"samples to {step} on {of['date']}" in described(tmp_path)


def test_a_rate_that_the_samples_do_not_show_is_refused(guard: offmap.Guard) -> None:
    with pytest.raises(ArgumentError, match="name it in calibrate"):
        guard.at(0.01)
    with pytest.raises(ArgumentError, match="alarm_rate must lie in"):
        guard.at(0.0)


def test_too_few_images_for_the_confidence(guard: offmap.Guard, sets: demo.Digits) -> None:
    with pytest.raises(
        ArgumentError, match="needs at least 299 calibration samples; there are 216"
    ):
        guard.calibrate(sets.calibration, 0.01, confidence=0.95)
    with pytest.raises(ArgumentError, match=r"classes 0 \(28\), .*, or join them by pool=True"):
        guard.calibrate(sets.calibration, 0.1, confidence=0.95, per_class=True)
    with pytest.raises(ArgumentError, match=r"pool is for rates within each class \(per_class=\)"):
        guard.calibrate(sets.calibration, 0.1, pool=True)


def test_explaining_names_the_promise_and_its_figures(guard: offmap.Guard) -> None:
    text = guard.explain()
    assert "With confidence 95%, at most 10.00% of ID samples are called OOD" in text
    assert "With 216 samples, the true rate is 5.99% in the mean, and between" in text
    assert "simultaneous band" in guard.at(0.2).explain()
