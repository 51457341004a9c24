"""Cards of trained networks: what one must hold, and that it names no foreign code."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from offmap.errors import StoreError
from offmap.networks.library import is_own

# What whoever trained the network says; the hash and the count are added.
GIVEN = (
    *("network", "normalization", "data", "recipe", "budget"),
    *("epochs", "seed", "command", "machine", "accuracy"),
)


def read(path: Path) -> dict[str, Any]:
    """The card in a file, checked.

    Raises:
        StoreError: it cannot be read, or is no card.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refused)
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"the card {path} cannot be read: {error}") from error
    return checked(content, str(path))


def checked(content: Any, where: str) -> dict[str, Any]:
    """The content of a card, if what loading a network relies on is there and in order.

    Raises:
        StoreError: something is missing or not as it must be.
    """
    if not isinstance(content, dict):
        raise StoreError(f"{where} is no card: it must be a JSON object")
    if missing := [key for key in _RULES if key not in content]:
        raise StoreError(f"{where} lacks {', '.join(missing)}: take weights and card together")
    for key, (rule, wanted) in _RULES.items():
        if not rule(content[key]):
            raise StoreError(f"{where}: {key} must be {wanted}; seen {content[key]!r}")
    return content


def _is_network(value: Any) -> bool:
    return isinstance(value, str) and is_own(value)


def _is_normalization(value: Any) -> bool:
    if value == {"per_image": True}:
        return True
    if not isinstance(value, Mapping) or set(value) != {"mean", "std"}:
        return False
    mean, std = value["mean"], value["std"]
    return _are_numbers(mean) and _are_numbers(std) and len(mean) == len(std) and min(std) > 0


def _are_numbers(values: Any) -> bool:
    return (
        isinstance(values, list)
        and bool(values)
        and all(isinstance(x, int | float) and math.isfinite(x) for x in values)
    )


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "network": (
        _is_network,
        "a network of this library, such as wrn40_2 or wrn40_2(dropout=0.3), because a card must "
        "not choose what code is run",
    ),
    "normalization": (
        _is_normalization,
        'an object {"mean": [...], "std": [...]} of numbers, or {"per_image": true}',
    ),
    "sha256": (_is_hash, "64 hexadecimal digits"),
    "parameters": (_is_count, "a whole number"),
}


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
