"""Scores that other tools wrote make the same results as our own evaluation of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import offmap
from offmap.cli import main
from offmap.errors import ArgumentError, DataError, DataNotFoundError
from offmap.evaluation import of_scores, read_scores
from offmap.guard.decide import alarm_threshold
from offmap.metrics import aurc, auroc, detection

SIZES = {"id": 80, "calibration": 60, "near one": 30, "far one": 40}


@pytest.fixture
def scores() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {s: rng.normal(2.0 * ("one" in s), size=n) for s, n in SIZES.items()}


def test_results_are_those_of_the_metrics(scores: dict[str, np.ndarray]) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 80)
    predictions = np.where(rng.uniform(size=80) < 0.8, labels, (labels + 1) % 3)
    results = of_scores(
        {"ours": scores, "noise": {s: rng.normal(size=n) for s, n in SIZES.items()}},
        near=["near one"],
        far=["far one"],
        predictions={"id": predictions},
        labels={"id": labels},
    )
    assert results.groups == {"near": ["near one"], "far": ["far one"]}
    row = results.rows[0]
    threshold = alarm_threshold(scores["calibration"], 0.05)
    assert row.auroc == auroc(scores["id"], scores["near one"])
    assert row.fpr_id_kept == detection(scores["id"], scores["near one"]).fpr_id_kept
    assert (row.threshold, row.ood_caught) == (threshold, (scores["near one"] > threshold).mean())
    assert row.aurc == pytest.approx(aurc(scores["id"], predictions == labels))
    assert results.accuracy == (int((predictions == labels).sum()), 80)
    assert "Recommended: ours" in " ".join(offmap.report(results).text("verdict").split())


def write(path: Path, scores: dict[str, np.ndarray]) -> Path:
    longest = max(map(len, scores.values()))
    columns = {s: [*x.tolist(), *[None] * (longest - len(x))] for s, x in scores.items()}
    if path.suffix == ".npz":
        np.savez(path, **scores)
    elif path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        rows = zip(*columns.values(), strict=True)
        cells = (",".join("" if x is None else repr(x) for x in row) for row in rows)
        path.write_text("\n".join([",".join(columns), *cells]))
    return path


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_files_with_an_array_or_column_a_set_are_read(
    scores: dict[str, np.ndarray], tmp_path: Path, suffix: str
) -> None:
    path = write(tmp_path / f"mine{suffix}", scores)
    results = read_scores(path, near=["near one"])
    assert results.detectors == ["mine"]
    assert results.groups == {"near": ["near one"], "ood": ["far one"]}
    assert results.rows == of_scores({"mine": scores}, near=["near one"]).rows
    both = read_scores({"a": path, "b": path})
    assert both.detectors == ["a", "b"]


def test_the_files_of_openood_are_read(scores: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Its confidence is higher for ID; the set with labels is the ID set."""
    folder = tmp_path / "scores"
    folder.mkdir()
    rng = np.random.default_rng(1)
    label = rng.integers(0, 3, 80)
    pred = np.where(rng.uniform(size=80) < 0.8, label, (label + 1) % 3)
    np.savez(folder / "cifar10", pred=pred, conf=-scores["id"], label=label)
    for name in ("near one", "far one"):
        n = SIZES[name]
        np.savez(folder / name, pred=np.zeros(n, int), conf=-scores[name], label=-np.ones(n, int))
    results = read_scores(folder, near=["near one"], far=["far one"])
    assert results.get("scores", "far one") == auroc(scores["id"], scores["far one"])
    assert results.accuracy == (int((pred == label).sum()), 80)
    assert results.get("scores", "near one", "aurc") == pytest.approx(
        aurc(scores["id"], pred == label)
    )
    assert "no calibration data" in offmap.report(folder).text("verdict").replace("\n", " ")
    np.savez(folder / "mnist", pred=pred, conf=-scores["id"], label=label)
    with pytest.raises(
        DataError, match="has the sets cifar10, far one, mnist, near one: say which"
    ):
        read_scores(folder)
    assert read_scores(folder, id="cifar10").groups == {"ood": ["far one", "mnist", "near one"]}


def test_what_are_no_scores_is_refused(scores: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there must be a set 'id' and an OOD set; seen id"):
        of_scores({"a": {"id": scores["id"]}})
    with pytest.raises(DataError, match="scores of the same samples"):
        of_scores({"a": scores, "b": {s: x[:5] for s, x in scores.items()}})
    with pytest.raises(ArgumentError, match="no OOD set mnist among near one, far one"):
        of_scores({"a": scores}, far=["mnist"])
    with pytest.raises(DataError, match=r"a on far one must be numbers \(n,\)"):
        of_scores({"a": scores | {"far one": np.zeros((3, 2))}})
    with pytest.raises(DataNotFoundError, match="is not there"):
        read_scores(tmp_path / "none.npz")
    np.savez(tmp_path / "pickled.npz", id=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="allow_pickle=False"):
        read_scores(tmp_path / "pickled.npz")
    (tmp_path / "x.txt").write_text("1")
    with pytest.raises(
        DataError, match=r"x\.txt: scores are read from \.npz, \.csv and \.parq"
    ) as e:
        read_scores(tmp_path / "x.txt")
    assert "holds no scores" not in str(e.value)
    (tmp_path / "folder").mkdir()
    np.savez(tmp_path / "folder" / "mnist", other=scores["id"])
    with pytest.raises(DataError, match=r"^\S+ must hold \.npz files of OpenOOD"):
        read_scores(tmp_path / "folder")
    # Saved, it would take the place of the column of that name.
    with pytest.raises(ArgumentError, match="no detector can be called 'label'"):
        read_scores({"label": write(tmp_path / "label.npz", scores)})


def test_they_are_compared_and_taken_together_by_the_commands(
    scores: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = of_scores({"mine": scores})
    ours.save(tmp_path / "ours")
    other = {s: x + 0.1 * np.random.default_rng(2).normal(size=len(x)) for s, x in scores.items()}
    path = write(tmp_path / "mine.npz", other)
    with pytest.raises(SystemExit) as ended:
        main(["compare", f"a={tmp_path / 'ours'}", f"b={path}", "--mean"])
    assert not ended.value.code
    together = offmap.aggregate({"a": ours, "b": read_scores(path)})
    assert together.table() in capsys.readouterr().out
