"""Detectors and data sets of an evaluation, from what a caller may give."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from offmap._utils.files import as_text
from offmap._utils.warning import warn_user
from offmap.activations import Activations
from offmap.data import ImageSet, StreamedSet, load, load_like
from offmap.detectors import Detector, detector, entry_of, unasked
from offmap.errors import ArgumentError, InputsWarning
from offmap.evaluation.by_sample import RESERVED
from offmap.forward import Batched

Scorer = Detector | Callable[[Activations], Tensor]


def scorers(detectors: str | Detector | Mapping[str, Any] | Iterable[Any]) -> dict[str, Scorer]:
    """Detectors and functions by name: "all", names, expressions, detectors, or a mapping.

    Raises:
        ArgumentError: none, two of one name, or a name that results use.
    """
    if isinstance(detectors, str | Detector):
        detectors = unasked() if detectors == "all" else [detectors]
    by_name: dict[str, Scorer] = {}
    if isinstance(detectors, Mapping):
        check_names(detectors)
        by_name = {name: x if callable(x) else detector(x) for name, x in detectors.items()}
    else:
        for spec in detectors:
            scorer = detector(spec)
            name = spec if isinstance(spec, str) else catalogue_name(scorer) or repr(scorer)
            if name in by_name:
                raise ArgumentError(
                    f"two detectors are called {name!r}: give them as a mapping by name"
                )
            by_name[name] = scorer
    if not by_name:
        raise ArgumentError('no detectors were given: name some, or "all"')
    return by_name


def catalogue_name(scorer: Detector) -> str | None:
    """The catalogue's name of a detector whose arguments are the default ones; else none."""
    entry = entry_of(type(scorer))
    default = entry is not None and repr(entry.method.default()) == repr(scorer)
    return entry.name if entry is not None and default else None


def check_names(names: Iterable[str]) -> None:
    """Refuse names of detectors that other columns of the table of samples have.

    Raises:
        ArgumentError: there is one.
    """
    if reserved := [name for name in names if name in RESERVED]:
        raise ArgumentError(f"no detector can be called {reserved[0]!r}: results use it")


def check_settings(settings: Mapping[str, Any] | None) -> None:
    """Refuse settings that could not be saved with the results.

    Raises:
        ArgumentError: they are no JSON.
    """
    try:
        json.dumps(settings, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"settings are kept as JSON: {error}") from None


@dataclass(frozen=True)
class Named:
    """A data set of an evaluation, with the part it plays."""

    name: str
    role: str
    data: Any
    group: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that its labels count in; empty without labels."""
        labelled = isinstance(self.data, ImageSet | StreamedSet) and self.data.labels is not None
        return self.data.classes if labelled else ()

    @property
    def preparation(self) -> str | None:
        """How images were brought to their size; ``None`` of images as given."""
        if not isinstance(self.data, Batched):
            return None
        own, resize = getattr(self.data, "own", None), getattr(self.data, "resize", None)
        return str(own) if own else f"resize={resize!r}" if resize else None

    def warn_if_prepared_unlike(self, id_set: Named) -> None:
        """Warn of images that were brought to their size in another way than the ID ones."""
        way, id_way = self.preparation, id_set.preparation
        if way is not None and id_way is not None and way != id_way:
            warn_user(
                f"the images of {self.name} were made by {way}, and those of the ID set by "
                f"{id_way}: detectors may tell them apart by that alone",
                InputsWarning,
            )


def data_sets(
    id_test: Any,
    ood: Mapping[str, Any],
    calibration: Any,
    train: Any,
    id_shift: Mapping[str, Any] | None = None,
    names: Sequence[str] = (),
) -> list[Named]:
    """All sets, the ID set first; those given by name are loaded at its shape.

    Labels with names count in the classes of the training data, or else in those of the network.
    """
    id_set = loaded(id_test, None)
    sets = [Named("id", "id", id_set)]
    if calibration is not None:
        sets.append(Named("calibration", "calibration", loaded(calibration, id_set)))
    if train is not None:
        sets.append(Named("train", "train", loaded(train, id_set)))
    named = [(name, "shift", "", data) for name, data in (id_shift or {}).items()]
    named += [(name, "ood", group, data) for name, group, data in flat(ood)]
    for name, role, group, data in named:
        if not isinstance(name, str):
            raise ArgumentError(f"the name of a data set is a text; seen {name!r}")
        name = as_text(name)  # a path may be of any bytes, and files of results are UTF-8
        if name in [each.name for each in sets]:
            raise _duplicate_name(name)
        sets.append(Named(name, role, loaded(data, id_set), group))
    if len(sets) == sum(s.role != "ood" for s in sets):
        raise ArgumentError("no OOD sets were given: ood={'near': {'cifar100': data}, ...}")
    for each in sets:
        if each.role != "shift":
            each.warn_if_prepared_unlike(sets[0])
    # In a folder that lacks a class, the labels of the classes behind it would be too low.
    of_train = next((each.classes for each in sets if each.role == "train"), ())
    known = of_train or tuple(names)
    for i, each in enumerate(sets):
        own = each.classes
        if each.role != "ood" and own and own != known and set(own) <= set(known):
            sets[i] = replace(each, data=each.data.with_classes(known))
    return sets


def flat(ood: Mapping[str, Any]) -> Iterable[tuple[str, str, Any]]:
    """OOD sets by name, or by group and name: name, group and data of each.

    Raises:
        ArgumentError: two sets of one name, in different groups; or sets without names.
    """
    if not isinstance(ood, Mapping):
        raise ArgumentError(f"OOD sets are given by name: ood={{'textures': data}}; seen {ood!r}")
    names = set()
    for key, value in ood.items():
        group, sets = (key, value) if isinstance(value, Mapping) else ("ood", {key: value})
        for name, data in sets.items():
            if name in names:
                raise _duplicate_name(name)
            names.add(name)
            yield name, group, data


def _duplicate_name(name: str) -> ArgumentError:
    return ArgumentError(f"two data sets are called {name!r}: give each its own name")


def loaded(data: Any, like: Any) -> Any:
    """Data given by name or path, at the shape of the ID set if that is known."""
    if not isinstance(data, str | Path):
        return data
    return load_like(data, like) if isinstance(like, ImageSet | StreamedSet) else load(data)
