"""Evaluations from scores alone, such as other tools write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from offmap._utils.files import reason_of
from offmap._utils.warning import warn_user
from offmap.data.sources.arrays import UNREADABLE
from offmap.errors import ArgumentError, DataError, DataNotFoundError, LabelError, OffmapWarning
from offmap.evaluation._inputs import check_names, check_settings
from offmap.evaluation.results import Results, SetInfo
from offmap.evaluation.rows import row_of
from offmap.guard.decide import exact_rate

Array = NDArray[Any]
_ROLES = {"id": "id", "calibration": "calibration"}
_OPENOOD = {"pred", "conf", "label"}


@dataclass
class _Read:
    """Scores by set, higher is more OOD, and what else a file says of the samples."""

    scores: dict[str, Array]
    predictions: dict[str, Array] = field(default_factory=dict)
    labels: dict[str, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path) -> Self:
        """A file, or a folder of OpenOOD's."""
        import pyarrow.csv
        import pyarrow.parquet as pq

        if not path.exists():
            raise DataNotFoundError(f"{path} is not there: give a file or folder of scores")
        if not path.is_dir() and path.suffix not in (".npz", ".csv", ".parquet"):
            raise DataError(f"{path}: scores are read from .npz, .csv and .parquet")
        try:
            if path.is_dir():
                return cls.of_openood(path)
            if path.suffix == ".npz":
                return cls(_arrays(path))
            table = pq.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
            return cls({name: table[name].drop_null().to_numpy() for name in table.column_names})
        except DataError:
            raise
        except (OSError, ValueError, KeyError, pyarrow.ArrowException) as error:
            raise _unreadable(path, error) from error

    @classmethod
    def of_openood(cls, folder: Path) -> Self:
        """A folder with a file a set."""
        files = {path.stem: _arrays(path) for path in sorted(folder.glob("*.npz"))}
        if not files or any(not set(of) >= _OPENOOD for of in files.values()):
            raise DataError(
                f"{folder} must hold .npz files of OpenOOD, each with pred, conf and label"
            )
        return cls(
            {name: -of["conf"].astype(np.float64) for name, of in files.items()},
            {name: of["pred"] for name, of in files.items()},
            {name: of["label"] for name, of in files.items()},
        )

    def with_id_set(self, id: str | None, path: Path) -> Self:
        """The same, with the ID set called "id"."""
        labelled = [s for s, x in self.labels.items() if len(x) and (x >= 0).all()]
        own = id or ("id" if "id" in self.scores else labelled[0] if len(labelled) == 1 else None)
        if own != "id" and "id" in self.scores:
            raise DataError(
                f"{path} has a set 'id' beside {own!r}: call it otherwise, or leave it out"
            )
        if own not in self.scores:
            raise DataError(
                f"{path} has the sets {', '.join(self.scores)}, and none is called 'id': call that "
                "of the ID samples so"
            )
        parts = self.scores, self.predictions, self.labels
        renamed = ({"id" if s == own else s: x for s, x in part.items()} for part in parts)
        return type(self)(*renamed)

    def check_same_samples(self, read: Mapping[str, Self]) -> None:
        """Refuse files whose labels show other samples; warn of those with other predictions."""
        if names := [name for name, of in read.items() if _differ(of.labels, self.labels)]:
            raise DataError(
                f"{', '.join(names)}: other labels than in the first file that has some; the "
                "scores must be of the same samples, in one order"
            )
        if names := [n for n, of in read.items() if _differ(of.predictions, self.predictions)]:
            warn_user(
                f"{', '.join(names)}: other predictions than in the first file that has some, as "
                "of methods that change the features; accuracy and all that counts right answers "
                "are of the first: read each file alone for its own",
                OffmapWarning,
            )


def of_scores(
    scores: Mapping[str, Mapping[str, Any]],
    *,
    near: Iterable[str] = (),
    far: Iterable[str] = (),
    predictions: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
    alarm_rate: float = 0.05,
    settings: Mapping[str, Any] | None = None,
) -> Results:
    """Results, with tables, report and comparison, from scores that are there already.

    Args:
        scores: by detector and set, higher is more OOD: "id", the OOD sets by name, and
            "calibration", if there are held-out ID scores for the thresholds.
        near: which OOD sets are near-OOD.
        far: which are far-OOD; the others stand in a group "ood".
        predictions: class indices by set, if known.
        labels: the true ones, of ID.
        alarm_rate: of the thresholds.
        settings: anything to be kept with them.

    Raises:
        DataError: sets are missing, or differ from detector to detector.
        ArgumentError: no such OOD set, one that is both near and far, a detector's name that
            results use, or settings that are no JSON.
        LabelError: predictions or labels that are not one class for each sample, or of a set
            without scores.
        ShapeError, NonFiniteError: as the metrics.
    """
    check_names(scores)
    check_settings(settings)
    exact_rate(alarm_rate, "alarm_rate")
    by_detector = {name: _of_one_kind(name, of) for name, of in scores.items()}
    sizes_of_each = [{s: len(x) for s, x in of.items()} for of in by_detector.values()]
    if not sizes_of_each or any(sizes != sizes_of_each[0] for sizes in sizes_of_each):
        raise DataError(f"all detectors must have scores of the same samples; seen {sizes_of_each}")
    sizes = sizes_of_each[0]
    if "id" not in sizes or not set(sizes) - set(_ROLES):
        raise DataError(f"there must be a set 'id' and an OOD set; seen {', '.join(sizes)}")
    groups = _groups([name for name in sizes if name not in _ROLES], near, far)
    predicted = _classes("predictions", predictions or {}, sizes)
    true = _classes("labels", {s: x for s, x in (labels or {}).items() if s not in groups}, sizes)
    right = predicted["id"] == true["id"] if "id" in predicted and "id" in true else None
    rate = alarm_rate if "calibration" in sizes else None
    rows = [
        row_of(name, s, group, of, rate, right)
        for name, of in by_detector.items()
        for s, group in groups.items()
    ]
    infos = [
        SetInfo(
            name=s,
            role=_ROLES.get(s, "ood"),
            group=groups.get(s, ""),
            n=n,
            right=int(right.sum()) if s == "id" and right is not None else None,
        )
        for s, n in sizes.items()
    ]
    own = {"alarm_rate": rate, **(settings or {})}
    return Results(rows, by_detector, infos, own, predictions=predicted, labels=true)


def read_scores(
    paths: str | Path | Mapping[str, str | Path],
    *,
    id: str | None = None,
    near: Sequence[str] = (),
    far: Sequence[str] = (),
    alarm_rate: float = 0.05,
) -> Results:
    """Results from files of scores.

    * A folder of ``.npz`` files, one a set, as OpenOOD writes them: ``pred``, ``conf`` (higher is
      more ID, so the score is its negative) and ``label`` (below 0 for OOD).
    * An ``.npz`` file with an array of scores a set, or ``.csv`` or ``.parquet`` with a column a
      set, whose empty cells are none; higher is more OOD.

    Args:
        paths: one, or some by the name of their detector.
        id: which set is the ID one; by default "id", or of OpenOOD's files that with labels.
        near: which OOD sets are near-OOD.
        far: which are far-OOD.
        alarm_rate: of the thresholds, where there is a set "calibration".

    Raises:
        DataNotFoundError: there is no such file.
        DataError: it cannot be read, or does not say which set is ID; or labels differ.
    """
    by_name = paths if isinstance(paths, Mapping) else {Path(paths).stem: paths}
    read = {
        name: _Read.of(Path(path)).with_id_set(id, Path(path)) for name, path in by_name.items()
    }
    first = next((of for of in read.values() if "id" in of.predictions), _Read({}))
    first.check_same_samples(read)
    return of_scores(
        {name: of.scores for name, of in read.items()},
        near=near,
        far=far,
        predictions=first.predictions,
        labels=first.labels,
        alarm_rate=alarm_rate,
        settings={"id": id} if id else None,
    )


def _differ(a: Mapping[str, Array], b: Mapping[str, Array]) -> bool:
    return any(not np.array_equal(a[name], b[name]) for name in a.keys() & b.keys())


def _of_one_kind(detector: str, by_set: Mapping[str, Any]) -> dict[str, Array]:
    """The scores of one detector, all in float32 or all in float64."""
    arrays = {}
    for name, values in by_set.items():
        place = f"{detector} on {name}"
        scores = np.array(values)  # a copy: those of a file may not be written to, and torch warns
        if scores.ndim != 1 or scores.dtype.kind not in "iuf" or scores.dtype.itemsize > 8:
            raise DataError(
                f"scores of {place} must be numbers (n,) of at most 64 bits; seen {scores.dtype} "
                f"of shape {scores.shape}"
            )
        integers = scores.dtype.kind in "iu" and scores.size > 0
        if integers and max(-int(scores.min()), int(scores.max())) > 2**53:
            raise DataError(f"scores of {place} go beyond 2**53, where float64 skips whole numbers")
        # Whole numbers too become float64: float32 skips some of them, and two scores would be one.
        short = scores.dtype in (np.float16, np.float32)
        arrays[name] = scores.astype(np.float32 if short else np.float64)
    # In float64 if some are: NumPy would round a threshold to the float32 that it is beside.
    kind = np.result_type(*arrays.values()) if arrays else None
    return {s: x.astype(kind, copy=False) for s, x in arrays.items()}


def _classes(
    kind: str, by_set: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[str, NDArray[np.int32]]:
    """One class for each sample of each set."""
    classes = {}
    for name, values in by_set.items():
        if name not in sizes:
            raise LabelError(
                f"there are {kind} of {name!r}, and scores of {', '.join(sizes)}: name the same "
                "sets"
            )
        array = np.asarray(values)
        numbers = array if array.dtype.kind in "biuf" else np.full(array.shape, np.nan)
        with np.errstate(invalid="ignore"):
            classes[name] = numbers.astype(np.int32)
        shape = (sizes[name],)
        if array.shape != shape or not np.array_equal(classes[name], numbers):
            raise LabelError(
                f"{kind} of {name} must be {shape[0]} classes, one a sample; seen {array.dtype} of "
                f"shape {array.shape}"
            )
    return classes


def _groups(sets: Sequence[str], near: Iterable[str], far: Iterable[str]) -> dict[str, str]:
    near, far = set(near), set(far)
    if names := near & far:
        raise ArgumentError(f"{', '.join(sorted(names))}: near-OOD and far-OOD; name it as one")
    group_of = dict.fromkeys(near, "near") | dict.fromkeys(far, "far")
    if unknown := set(group_of) - set(sets):
        raise ArgumentError(f"no OOD set {', '.join(sorted(unknown))} among {', '.join(sets)}")
    order = ("near", "far", "ood")
    groups = {name: group_of.get(name, "ood") for name in sets}
    return dict(sorted(groups.items(), key=lambda item: order.index(item[1])))


def _arrays(path: Path) -> dict[str, Array]:
    try:
        # NumPy leaves a file open that it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} holds no scores that can be read: {reason_of(error)}")
