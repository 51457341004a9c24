"""Which split of a data set is meant."""

from __future__ import annotations

from collections.abc import Iterable

from offmap.errors import DataNotFoundError

_SAME = {"valid": "val", "validation": "val"}


def choose_split(there: Iterable[str], wanted: str | None, where: str) -> str:
    """The split of that name; without one ``test``, else ``val``, else the only one.

    ``val``, ``valid`` and ``validation`` are one name.

    Raises:
        DataNotFoundError: no such split, or several and none named.

    >>> choose_split(["train", "valid"], None, where="here")
    'valid'
    """
    by_name = {_SAME.get(split, split): split for split in there}
    for name in (wanted,) if wanted else ("test", "val"):
        if (split := by_name.get(_SAME.get(name, name))) is not None:
            return split
    if wanted is None and len(by_name) == 1:
        return next(iter(by_name.values()))
    asked = f"split {wanted!r}" if wanted else "split 'test' or 'val', and several others"
    listed = ", ".join(sorted(by_name.values())) or "none"
    raise DataNotFoundError(f"{where} has no {asked}: name one of {listed}, as in NAME:SPLIT")
