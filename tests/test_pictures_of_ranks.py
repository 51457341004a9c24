"""The picture of mean ranks shows what the ranks are, and which bars meet."""

from __future__ import annotations

import pytest

from offmap import plots
from offmap.evaluation import aggregate
from tests.reporting.conftest import several


def test_bars_of_the_critical_difference_stand_around_the_mean_ranks() -> None:
    together = aggregate(several())
    found = together.ranks("fpr_id_kept")
    (axis,) = plots.ranks(together, "fpr_id_kept").axes
    names = sorted(found.mean, key=lambda name: found.mean[name])
    assert [label.get_text() for label in axis.get_yticklabels()] == names
    (line, _, (bars,)) = axis.containers[0]
    assert line.get_xdata() == pytest.approx([found.mean[name] for name in names])
    ends = [sorted(x for x, _ in segment) for segment in bars.get_segments()]
    assert [b - a for a, b in ends] == pytest.approx([found.critical_difference] * 3)
    assert "by fpr_id_kept over 3 OOD sets" in axis.get_xlabel()
