"""A guard whose calibration set grows: valid for random samples, refused for others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import offmap
from offmap.data import ImageSet
from offmap.errors import ArgumentError, DataError, NotFittedError, OverlapWarning


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))


def images(n: int, seed: int) -> Tensor:
    return torch.randn(n, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


def fitted(network: nn.Module, detectors: str | list[str] = "mahalanobis") -> offmap.Guard:
    x = images(200, 0)
    with torch.no_grad():
        return offmap.Guard(network, detectors).fit([(x, network(x).argmax(1))])


@pytest.mark.parametrize(
    ("detectors", "options"),
    [
        ("mahalanobis", {"alarm_rate": [0.1, 0.05], "confidence": 0.9}),
        ("mahalanobis", {"alarm_rate": 0.1, "per_class": True}),
        (["mahalanobis", "energy"], {"alarm_rate": 0.1}),
    ],
    ids=["certified", "per class", "several"],
)
def test_the_rule_is_that_of_all_samples_at_once(
    network: nn.Module, detectors: str | list[str], options: dict[str, object]
) -> None:
    guard, whole = fitted(network, detectors), fitted(network, detectors)
    guard.calibrate([images(300, 1)], **options)  # type: ignore[arg-type]
    before = guard.calibration.promise
    guard.calibrate([images(200, 2)], extend=True)
    whole.calibrate([torch.cat([images(300, 1), images(200, 2)])], **options)  # type: ignore[arg-type]
    assert guard.calibration.alarm_rates == whole.calibration.alarm_rates
    for name in ("counts_", "limits_", "scores_"):
        assert torch.equal(getattr(guard.calibration, name), getattr(whole.calibration, name))
    assert torch.equal(guard(images(50, 3)).is_ood, whole(images(50, 3)).is_ood)
    text = guard.explain()
    assert "The samples came in parts, 300 + 200: each extension is a new promise" in text
    assert text.count(before) == 1  # beside the new one
    assert guard.calibration.promise in text


def test_the_rate_in_use_stays_and_parts_add(network: nn.Module, tmp_path: Path) -> None:
    guard = fitted(network).calibrate([images(300, 1)], [0.1, 0.05], confidence=0.9).at(0.05)
    guard.calibrate([images(100, 2)], extend=True).calibrate([images(50, 3)], extend=True)
    assert guard.calibration.alarm_rate == 0.05
    assert guard.calibration.parts == (300, 100, 50)
    guard.save(tmp_path / "guard")
    again = offmap.load(tmp_path / "guard", network)
    assert again.explain() == guard.explain()
    assert again.at(0.1).calibration.parts == (300, 100, 50)
    assert fitted(network).calibrate([images(300, 1)]).calibration.parts == ()


def test_what_was_learned_on_calibration_data_stays(network: nn.Module) -> None:
    x = images(200, 0)
    guard = offmap.Guard(network, "auto").fit([(x, network(x).argmax(1).detach())])
    guard.calibrate([images(400, 1)], 0.1)
    (auto,) = guard.each()
    scale = auto.scale_.clone()
    guard.calibrate([images(200, 2)], extend=True)
    assert torch.equal(auto.scale_, scale)
    assert guard.calibration.parts[1] == 200  # no share of them was learned on


def test_other_data_are_refused_by_a_named_test(network: nn.Module) -> None:
    """At 1 %: random samples pass nearly always, and what the guard accepted does not."""
    guard = fitted(network).calibrate([images(1000, 1)], 0.1)
    before = guard.calibration
    more = images(1000, 2)
    accepted = more[~guard(more).is_ood]
    kept, new = before.scores_[0], guard(accepted).scores
    p = stats.ks_2samp(kept.numpy(), new.numpy()).pvalue
    assert p < 0.01
    with pytest.raises(DataError, match=rf"Kolmogorov and Smirnov: p = {p:.2g}, below 0.01"):
        guard.calibrate([accepted], extend=True)
    with pytest.raises(DataError, match="calibrate anew on these samples alone"):
        guard.calibrate([3 * images(100, 2)], extend=True)
    assert guard.calibration is before
    refused = 0
    rng = np.random.default_rng(0)
    for _ in range(100):
        sample = torch.from_numpy(rng.normal(size=(60, 3, 2, 2)).astype(np.float32))
        try:
            guard.at(0.1).calibrate([sample], extend=True)
        except DataError:
            refused += 1
    assert refused <= 5  # of 100 at 1 %: more than five in 0.05 % of cases


def test_a_monitor_begins_anew(network: nn.Module) -> None:
    guard = fitted(network).calibrate([images(300, 1)], 0.1)
    monitor = offmap.Monitor(guard)
    guard.calibrate([images(100, 2)], extend=True)
    with pytest.raises(ArgumentError, match="another network, detector or calibration set"):
        monitor.go_on_with(guard)


def test_what_cannot_be_extended_is_said(network: nn.Module) -> None:
    guard = fitted(network)
    with pytest.raises(NotFittedError, match="call fit, then calibrate"):
        guard.calibrate([images(100, 2)], extend=True)
    guard.calibrate([images(300, 1)], 0.1)
    with pytest.raises(ArgumentError, match="leave out alarm_rate, confidence"):
        guard.calibrate([images(100, 2)], 0.2, confidence=0.9, extend=True)
    labels = torch.arange(3).repeat_interleave(torch.tensor([293, 6, 6]))
    few = offmap.Guard(nn.Flatten(), "energy").fit([images(20, 0)])
    x = 9.0 * nn.functional.one_hot(labels, 3).float() + 0.1 * torch.rand(305, 3)
    few.calibrate([x], 0.1, per_class=True, pool=True)
    with pytest.raises(ArgumentError, match="does not know the class of each sample"):
        few.calibrate([x[:100]], extend=True)


def test_a_rate_that_is_named_is_never_passed_over(network: nn.Module) -> None:
    guard = fitted(network).calibrate([images(300, 1)], 0.1)
    with pytest.raises(ArgumentError, match="leave out alarm_rate"):
        guard.calibrate([images(100, 2)], 0.05, extend=True)  # what is usual, but not here
    for rates in (0, np.array([0.1, 0.2])):
        with pytest.raises(ArgumentError, match="leave out alarm_rate"):
            guard.calibrate([images(100, 2)], rates, extend=True)  # type: ignore[arg-type]


def test_no_sample_counts_twice(network: nn.Module, tmp_path: Path) -> None:
    first, second = (ImageSet(str(i), images(200, i).mul(40).byte()) for i in (1, 2))
    guard = offmap.Guard(network, "energy").fit([images(200, 0).mul(40).byte()])
    guard.calibrate(first).calibrate(second, extend=True)
    with pytest.warns(OverlapWarning, match="calibration data"):  # of the first of two parts
        guard.check([first.images])
    guard.save(tmp_path)
    for again in (guard, offmap.load(tmp_path, network)):  # as another process knows it
        for data in (first, second):
            with pytest.raises(DataError, match="calibrated on the same samples"):
                again.calibrate(data, extend=True)


def test_frames_do_not_join_a_sample_of_each_group(network: nn.Module, tmp_path: Path) -> None:
    """Neither to extend nor to check: copies of one sample would count as many."""
    frames = images(60, 1).repeat_interleave(5, 0)
    groups = [i // 5 for i in range(300)]
    guard = fitted(network).calibrate([frames], 0.1, groups=groups)
    guard.save(tmp_path)
    for each in (guard, offmap.load(tmp_path, network)):
        for ask in (
            lambda of=each: of.calibrate([frames + 0.1], extend=True),
            lambda of=each: of.check([frames]),
        ):
            with pytest.raises(ArgumentError, match="on one sample of each group"):
                ask()
        assert each.check([frames], ood=True).samples == 300
    guard.calibrate([images(40, 2).repeat_interleave(5, 0)], extend=True, groups=groups[:200])
    assert guard.calibration.parts == (60, 40)
    assert guard.check([images(90, 3)], groups=str).samples == 90
    guard.calibrate([images(300, 4)], 0.1).check([images(90, 3)])  # anew, without groups
