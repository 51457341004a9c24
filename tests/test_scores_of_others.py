"""Scores that other tools wrote make the same results as our own evaluation of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import offmap
from offmap.cli import main
from offmap.errors import ArgumentError, DataError, DataNotFoundError, LabelError, OffmapWarning
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


def test_no_score_is_rounded(tmp_path: Path) -> None:
    """2^24 + 1 is no float32, and the float32 nearest to 0.1 lies above the float64."""
    whole = of_scores({"a": {"id": [2**24] * 4, "x": [2**24 + 1] * 4}})
    assert whole.get("a", "x") == 1
    single, double = np.float32([0.1] * 20), np.array([0.1] * 39)
    mixed = of_scores({"a": {"id": single, "x": double, "calibration": double}})
    assert mixed.rows[0].threshold == 0.1
    assert (mixed.rows[0].id_alarm, mixed.rows[0].ood_caught) == (1, 0)
    assert mixed.get("a", "x") == 0
    mixed.save(tmp_path)
    loaded = offmap.Results.load(tmp_path)
    assert auroc(loaded.scores["a"]["id"], loaded.scores["a"]["x"]) == 0


def test_sets_of_two_types_are_saved_as_they_are(tmp_path: Path) -> None:
    results = of_scores({"a": {"id": [0.1, 0.2], "x": [0.1, 0.3]}})
    single = np.array([0.1, 0.2], np.float32)
    replace(results, scores={"a": results.scores["a"] | {"id": single}}).save(tmp_path)
    loaded = offmap.Results.load(tmp_path).scores["a"]
    assert loaded["x"].tolist() == [0.1, 0.3]
    assert loaded["id"].tolist() == single.tolist()


def test_scores_that_float64_cannot_tell_apart_are_refused() -> None:
    with pytest.raises(DataError, match=r"scores of a on x go beyond 2\*\*53"):
        of_scores({"a": {"id": [1, 2], "x": [2**60, 2**60 + 1]}})
    with pytest.raises(ArgumentError, match=r"alarm_rate must lie in \(0, 1\); seen 5"):
        of_scores({"a": {"id": [1, 2], "x": [3, 4]}}, alarm_rate=5)


@pytest.mark.parametrize(
    "predictions",
    [[1], [1, 0], [[1], [0], [1]], [1.5, 0, 1], [2**32, 0, 1], ["cat", "dog", "cat"], [None] * 3],
)
def test_predictions_that_are_not_one_class_a_sample_are_refused(predictions: Any) -> None:
    scores = {"a": {"id": [0.1, 0.2, 0.3], "x": [1.0, 2.0]}}
    labels = {"id": [1, 0, 1]}
    assert of_scores(scores, predictions={"id": [1.0, 0, 1]}, labels=labels).accuracy == (3, 3)
    with pytest.raises(LabelError, match="predictions of id must be 3 classes, one a sample"):
        of_scores(scores, predictions={"id": predictions}, labels=labels)
    with pytest.raises(LabelError, match="labels of id must be 3 classes, one a sample"):
        of_scores(scores, predictions=labels, labels={"id": predictions})


def test_predictions_of_a_set_without_scores_are_refused() -> None:
    """They were left out in silence, and with them the accuracy."""
    scores = {"a": {"id": [0.1, 0.2, 0.3], "x": [1.0, 2.0]}}
    right = {"id": [1, 0, 1]}
    for kinds in ({"predictions": {"ID": [1, 0, 1]}}, {"labels": {"ID": [1, 0, 1]}}):
        (kind,) = kinds
        with pytest.raises(LabelError, match=f"there are {kind} of 'ID', and scores of id, x"):
            of_scores(scores, **({"predictions": right, "labels": right} | kinds))
    labels = right | {"x": [-1, -1]}  # as of OpenOOD, of OOD samples
    assert of_scores(scores, predictions=right, labels=labels).labels.keys() == {"id"}


def test_a_second_set_that_would_be_called_id_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("id,mine,x\n1,5,9\n2,6,8\n")
    assert read_scores(tmp_path / "s.csv").scores["s"]["id"].tolist() == [1, 2]
    with pytest.raises(DataError, match=r"s.csv has a set 'id' beside 'mine'"):
        read_scores(tmp_path / "s.csv", id="mine")


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
        DataError, match="has the sets cifar10, far one, mnist, near one, and none is called 'id'"
    ):
        read_scores(folder)
    assert read_scores(folder, id="cifar10").groups == {"ood": ["far one", "mnist", "near one"]}


def test_files_of_other_predictions_are_told_and_of_other_labels_refused(
    scores: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """OpenOOD writes the predictions of each method: those of the first were taken for all."""
    label = np.arange(80) % 3
    for name, wrong, shift in (("msp", 10, 0), ("react", 20, 0), ("other", 0, 1)):
        folder = tmp_path / name
        folder.mkdir()
        pred = np.where(np.arange(80) < wrong, (label + 1) % 3, label)
        np.savez(folder / "id", pred=pred, conf=-scores["id"], label=(label + shift) % 3)
        n, none = SIZES["far one"], np.zeros(SIZES["far one"], int)
        np.savez(folder / "far one", pred=none, conf=-scores["far one"], label=none - np.ones(n))
    paths = {name: tmp_path / name for name in ("msp", "react", "other")}
    with pytest.warns(OffmapWarning, match="react: other predictions than in the first"):
        both = read_scores({name: paths[name] for name in ("msp", "react")})
    assert both.accuracy == (70, 80)
    assert read_scores({"react": paths["react"]}).accuracy == (60, 80)
    with pytest.raises(DataError, match="other: other labels than in the first"):
        read_scores({name: paths[name] for name in ("msp", "other")})


def test_predictions_are_of_the_first_file_that_has_some(
    scores: dict[str, np.ndarray], tmp_path: Path
) -> None:
    sizes = {s: scores[s] for s in ("id", "far one")}
    np.savez(tmp_path / "plain.npz", **sizes)
    (tmp_path / "msp").mkdir()
    for name, label in (("id", 1), ("far one", -1)):
        own = np.full(len(scores[name]), label)
        np.savez(tmp_path / "msp" / name, pred=own, conf=-scores[name], label=own)
    read = read_scores({"plain": tmp_path / "plain.npz", "msp": tmp_path / "msp"})
    assert read.accuracy == (80, 80)


def test_what_are_no_scores_is_refused(scores: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there must be a set 'id' and an OOD set; seen id"):
        of_scores({"a": {"id": scores["id"]}})
    with pytest.raises(DataError, match="scores of the same samples"):
        of_scores({"a": scores, "b": {s: x[:5] for s, x in scores.items()}})
    with pytest.raises(ArgumentError, match="no OOD set mnist among near one, far one"):
        of_scores({"a": scores}, far=["mnist"])
    with pytest.raises(DataError, match=r"a on far one must be numbers \(n,\)"):
        of_scores({"a": scores | {"far one": np.zeros((3, 2))}})
    if (long := np.zeros(3, np.longdouble)).itemsize > 8:  # they were rounded
        with pytest.raises(DataError, match="of at most 64 bits; seen float"):
            of_scores({"a": scores | {"far one": long}})
    with pytest.raises(ArgumentError, match="settings are kept as JSON"):  # it failed when saved
        of_scores({"a": scores}, settings={"threshold": float("nan")})
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


def test_a_damaged_file_of_scores_is_named(scores: dict[str, np.ndarray], tmp_path: Path) -> None:
    """One that was cut short, or is empty or no archive, ended in an error of NumPy or zipfile."""
    np.savez_compressed(tmp_path / "all.npz", **scores)
    content = (tmp_path / "all.npz").read_bytes()
    np.save(tmp_path / "array.npy", scores["id"])
    folder = tmp_path / "openood"
    folder.mkdir()
    for damaged in (
        b"",
        content[:-100],
        content[:200] + bytes(60) + content[260:],
        (tmp_path / "array.npy").read_bytes(),
    ):
        for path, place in (
            (tmp_path / "cut.npz", tmp_path / "cut.npz"),
            (folder / "id.npz", folder),
        ):
            path.write_bytes(damaged)
            with pytest.raises(DataError, match=rf"{path.name} holds no scores that can be read"):
                read_scores(place)


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


def test_a_network_that_shares_nothing_with_the_first_is_told(scores: dict[str, Any]) -> None:
    """Its differences were a heading over an empty table, beside another network's full one."""
    results = {name: of_scores({"msp": scores}) for name in ("a", "b")}
    results["c"] = of_scores({"knn": scores})
    text = offmap.compare(results).differences_table()
    assert text.endswith("== c minus a ==\nno detector and OOD set in common")
    assert "near one" in text.partition("== c minus a ==")[0]


def test_a_group_may_have_an_empty_name() -> None:
    """Its mean was that over all sets."""
    one = of_scores({"a": {"id": [1, 2], "x": [3, 4], "y": [0, 1]}}, near=["x"])
    rows = [replace(row, group="" if row.group == "near" else row.group) for row in one.rows]
    assert replace(one, rows=rows).mean("a", group="") == one.mean("a", group="near") == 1
    assert one.mean("a") < 1


def test_a_set_is_near_or_far(scores: dict[str, Any]) -> None:
    """What was named as both became far, without a word."""
    with pytest.raises(ArgumentError, match="near one: near-OOD and far-OOD; name it as one"):
        of_scores({"msp": scores}, near=["near one"], far=["far one", "near one"])
