"""Sets of an evaluation that must be disjoint: samples that are in two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from offmap.errors import DataError
from offmap.evaluation._inputs import Named
from offmap.forward import Seen, check_apart

_WORDS = {"id": "ID set", "calibration": "calibration data", "train": "training data"}


def check_other_sets(sets: Sequence[Named]) -> None:
    """Refuse, before any work, one set in two roles.

    Raises:
        DataError: two sets that must be disjoint have one fingerprint.
    """
    for a, b in combinations(sets, 2):
        own = getattr(a.data, "fingerprint", None)
        if (
            own is not None
            and own == getattr(b.data, "fingerprint", None)
            and _must_be_disjoint(a, b)
        ):
            raise DataError(
                f"the {_words(a)} and the {_words(b)} are the same samples: what is measured on "
                "them says nothing of new data; give other data for one of them"
            )


def overlaps(item: Named, sets: Sequence[Named], seen: Mapping[str, Seen]) -> dict[str, int]:
    """How many samples of a set are in those read before it: a warning, above 1 % an error."""
    counts = {}
    for other in sets:
        if other.name in seen and other.name != item.name and _must_be_disjoint(item, other):
            are_sets = all(hasattr(each.data, "fingerprint") for each in (item, other))
            a, b = seen[item.name], seen[other.name]
            if count := check_apart(_words(item), a, _words(other), b, sets=are_sets):
                counts[f"{item.name} in {other.name}"] = count
    return counts


def _must_be_disjoint(a: Named, b: Named) -> bool:
    return not a.role == b.role == "ood"


def _words(item: Named) -> str:
    kind = "shifted ID set" if item.role == "shift" else "OOD set"
    return _WORDS.get(item.role, f"{kind} {item.name!r}")
