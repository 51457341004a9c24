"""What must be known of a set before its first image is decoded: channels and size."""

from __future__ import annotations

from collections.abc import Iterable

from offmap.data._decode import Item, Skipped, peek
from offmap.data._fit import Fit
from offmap.errors import ArgumentError, DataError


def settle(
    items: Iterable[Item], size: tuple[int, int] | None, channels: int | None, name: str
) -> tuple[Fit, tuple[int, int, int]]:
    """The fit and the shape it gives; headers are looked at for what was not asked for."""
    if channels not in (None, 1, 3):
        raise ArgumentError(f"channels must be 1 (grey), 3 (colour) or None; seen {channels}")
    if size is None or channels is None:
        c, h, w = _look(items, channels, name)
        return Fit(channels or c, size), (channels or c, *(size or (h, w)))
    return Fit(channels, size), (channels, *size)


def _look(items: Iterable[Item], channels: int | None, name: str) -> tuple[int, int, int]:
    """Size of the first image; 3 channels if any image has them."""
    broken, shape = [], None
    for header in map(peek, items):
        if isinstance(header, Skipped):
            broken.append(header)
            continue
        shape = shape or header
        if header[0] == 3 or channels is not None:
            return header[0], *shape[1:]
    if shape is None:
        raise unreadable(name, tuple(broken))
    return shape


def unreadable(name: str, skipped: tuple[Skipped, ...]) -> DataError:
    """No image of a set can be decoded."""
    first = skipped[0]
    return DataError(
        f"none of the {len(skipped)} images of {name} can be read; the first, {first.path}: "
        f"{first.reason}"
    )


def unequal(name: str, expected: tuple[int, ...], seen: tuple[int, ...]) -> DataError:
    """An image has another shape than those before it."""
    sizes = " and ".join(f"{h}x{w}" for _, h, w in (expected, seen))
    return DataError(
        f"the images of {name} differ in size: seen {sizes}; pass size, for one number the length "
        "of the shorter side"
    )
