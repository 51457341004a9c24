"""OpenOOD's tables beside ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offmap.errors import DataError, DataNotFoundError, UnknownNameError
from offmap.evaluation import of_scores, read_summary

TEXT = """dataset,FPR@95,AUROC,AUPR_IN,AUPR_OUT,ACC
cifar100,35.30,89.93,90.10,88.00,95.06
nearood,35.30,89.93,90.10,88.00,95.06
mnist,20.01,93.50,80.00,99.10,95.06
"""


def written(folder: Path, text: str = TEXT) -> Path:
    path = folder / "msp.csv"
    path.write_text(text)
    return path


def test_figures_are_shares_under_our_names(tmp_path: Path) -> None:
    summary = read_summary(written(tmp_path))
    assert list(summary.rows) == ["cifar100", "nearood", "mnist"]
    assert summary.rows["mnist"] == pytest.approx(
        {"auroc": 0.935, "fpr_ood_caught": 0.2001, "aupr_in": 0.8, "aupr_out": 0.991}
    )


def test_ours_stand_beside_theirs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sets = {"id": (0, 50), "mnist": (2, 40), "own": (0, 9)}
    results = of_scores({"msp": {s: rng.normal(at, size=n) for s, (at, n) in sets.items()}})
    summary = read_summary(written(tmp_path))
    for metric, theirs in (("auroc", 93.5), ("fpr_ood_caught", 20.01)):
        ours = 100 * results.get("msp", "mnist", metric)
        lines = summary.beside(results, "msp", metric).splitlines()
        assert lines[0].split() == [metric, "ours", "OpenOOD", "difference"]
        assert lines[1].split() == ["mnist", f"{ours:.2f}", f"{theirs:.2f}", f"{ours - theirs:.2f}"]
        assert len(lines) == 2
    assert summary.beside(results, "msp", "AUC") == summary.beside(results, "msp")
    with pytest.raises(DataError, match="and no detection_accuracy"):
        summary.beside(results, "msp", "detection_accuracy")
    with pytest.raises(UnknownNameError, match="two readings"):
        summary.beside(results, "msp", "fpr95")
    with pytest.raises(UnknownNameError, match="energy"):
        summary.beside(results, "energy")


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="is not there"):
        read_summary(tmp_path / "none.csv")
    with pytest.raises(DataError, match="no columns AUPR_IN, AUPR_OUT"):
        read_summary(written(tmp_path, "dataset,FPR@95,AUROC\nmnist,1,2\n"))
    with pytest.raises(DataError, match="no CSV file that can be read"):
        read_summary(tmp_path)
    (tmp_path / "scores.npz").write_bytes(b"PK\x03\xff\xfe")
    with pytest.raises(DataError, match="no CSV file that can be read"):
        read_summary(tmp_path / "scores.npz")
    for wrong in ("nan", "120", "x"):
        text = TEXT.replace("93.50", wrong)
        with pytest.raises(DataError, match="AUROC of mnist"):
            read_summary(written(tmp_path, text))
    results = of_scores({"msp": {"id": np.arange(4.0), "other": np.arange(3.0)}})
    with pytest.raises(DataError, match="call ours as they are"):
        read_summary(written(tmp_path)).beside(results, "msp")
