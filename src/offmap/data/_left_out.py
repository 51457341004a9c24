"""Files of a data set that are not used, counted by kind in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from offmap._utils.warning import warn_user
from offmap.data._decode import Skipped
from offmap.errors import LeftOutWarning

HIDDEN = "hidden, or left by a system"
LEADS_BACK = "a link that leads back"
UNREAD = "no image by its suffix"
NO_SUFFIX = "no image, and no suffix"

# Images that PIL does not read safely, or not without a plug-in.
_CONVERTIBLE = frozenset(
    {".avif", ".cr2", ".dng", ".heic", ".heif", ".j2k", ".jp2", ".jxl", ".nef", ".svg", ".tga"}
)


class _Set(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def skipped(self) -> tuple[Skipped, ...]: ...
    @property
    def left_out(self) -> tuple[Skipped, ...]: ...


def skipped_in_words(
    name: str, skipped: Sequence[Skipped] = (), left_out: Sequence[Skipped] = ()
) -> str:
    """One line on the unused files of a set: how many of each kind, and the first; or no text.

    Hidden files, what systems leave behind and links to a folder that they lie in are not named:
    nobody misses them.

    >>> skipped_in_words("photos", [Skipped("a/1.png", "truncated")])
    'skipped in photos: 1 unreadable, first a/1.png (truncated)'
    """
    missed = [file for file in left_out if file.reason not in (HIDDEN, LEADS_BACK)]
    if not (files := [*skipped, *missed]):
        return ""
    kinds = Counter[str]()  # by suffix, or by the reason why they are left out
    for file in missed:
        if file.reason.startswith(UNREAD):
            kinds[Path(file.path).suffix.lower()] += 1
        elif file.reason == NO_SUFFIX:
            kinds["without suffix"] += 1
        else:
            kinds[file.reason.removeprefix("a ").removeprefix("an ")] += 1
    counts = [f"{len(skipped)} unreadable"] if skipped else []
    counts += [f"{count} {kind}" for kind, count in kinds.most_common()]
    line = f"skipped in {name}: {', '.join(counts)}, first {files[0].path} ({files[0].reason})"
    convertible = ", ".join(sorted(_CONVERTIBLE.intersection(kinds)))
    return f"{line}; convert {convertible} to PNG or JPEG" if convertible else line


def tell_skipped(images: _Set) -> None:
    """Warn of the unused files of a set, if there are any."""
    tell(skipped_in_words(images.name, images.skipped, images.left_out))


def tell(line: str) -> None:
    """Warn in these words, if there are any."""
    if line:
        warn_user(line, LeftOutWarning)
