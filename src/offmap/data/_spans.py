"""Images by where they lie: few bytes that say what to read, before anything is read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from glob import has_magic, iglob
from pathlib import Path

from offmap._utils.addresses import Remote, is_address, place
from offmap._utils.arguments import does_not_exist
from offmap._utils.files import expanded
from offmap.data._decode import Item, Skipped
from offmap.data.sources.folder import search
from offmap.data.sources.parquet import Parquet
from offmap.data.sources.store import search as names_below
from offmap.errors import ArgumentError, DataNotFoundError


@dataclass(frozen=True)
class Span:
    """Images that lie together: files, or rows of a Parquet file.

    Args:
        files: paths, as verdicts name them.
        table: a Parquet file in their place.
        rows: of it.
        absent: what matched is no file, and is not waited for.
    """

    files: tuple[str, ...] = ()
    table: str = ""
    rows: range = range(0)
    absent: bool = False

    def __len__(self) -> int:
        return len(self.rows) if self.table else len(self.files)

    def names(self) -> Iterator[str]:
        """The name of each image."""
        return (f"{self.table} row {row}" for row in self.rows) if self.table else iter(self.files)

    def items(self) -> Iterator[Item]:
        """Name and content of each image."""
        if self.table:
            return Parquet.open(place(self.table), labelled=False).read(self.rows)
        return ((file, None if self.absent else place(file)) for file in self.files)

    def cut(self, start: int, stop: int) -> Span:
        """Some of the images."""
        return replace(self, files=self.files[start:stop], rows=self.rows[start:stop])


def spans_of(inputs: Iterable[str], left_out: list[Skipped]) -> Iterator[Span]:
    """The images of files, folders, patterns, Parquet files and standard input, in order.

    Args:
        inputs: as for :func:`read_images`.
        left_out: a list that gets what lies in the folders and is no image.
    """
    for spec in inputs:
        if spec == "-":
            # Lines are names, which need not be in the encoding of the locale.
            content = getattr(sys.stdin, "buffer", None)
            lines = sys.stdin if content is None else map(os.fsdecode, content)
            yield from (Span((line,)) for line in map(str.strip, lines) if line)
        elif is_address(spec):
            remote = Remote(spec)
            if remote.is_dir:
                names, skipped = names_below(remote)
                left_out += skipped
                yield Span(tuple(str(remote.file(name)) for name in names))
            else:
                yield _rows_of(remote) if remote.suffix == ".parquet" else Span((spec,))
        elif (path := expanded(spec)).is_dir():
            images, _, skipped = search(path)
            left_out += skipped
            yield Span(tuple(map(str, images)))
        elif path.suffix == ".parquet" and path.is_file():
            yield _rows_of(path)
        elif path.is_file():
            yield Span((str(path) if spec.startswith("~") else spec,))
        else:
            for match in matches(spec):
                if Path(match).is_file() or Path(match).is_dir():
                    yield from spans_of([match], left_out)
                else:  # a link to nowhere, or a device, which is not waited for
                    yield Span((match,), absent=True)


def _rows_of(path: Path | Remote) -> Span:
    """The rows of a Parquet file."""
    return Span(table=str(path), rows=range(len(Parquet.open(path, labelled=False))))


def matches(pattern: str) -> list[str]:
    """The files and folders that a pattern stands for.

    Raises:
        DataNotFoundError: none.
    """
    paths = sorted(iglob(str(expanded(pattern)), recursive=True))
    if not paths:
        if not has_magic(pattern):
            missing = does_not_exist(expanded(pattern))
            raise DataNotFoundError(f"{missing}give files, folders or patterns that are there")
        raise DataNotFoundError(f"{pattern} is no file or folder, and matches none")
    return paths


def behind(spans: Iterable[Span], passed: Iterable[str]) -> Iterator[Span]:
    """The spans behind the first images, which must have these names.

    Raises:
        ArgumentError: the first images are others.
    """
    spans, span = iter(spans), Span()
    names, count = span.names(), 0
    for i, name in enumerate(passed):
        while (current := next(names, None)) is None:
            if (successor := next(spans, None)) is None:
                current = "missing"
                break
            span, count = successor, 0
            names = span.names()
        if current != name:
            raise ArgumentError(
                f"image {i} was {name}, and is {current} now: these are other images"
            )
        count += 1
    if count < len(span):
        yield span.cut(count, len(span))
    yield from spans


def blocks_of(spans: Iterable[Span], size: int) -> Iterator[tuple[Span, ...]]:
    """Spans cut and joined so that each block, but the last, has so many images."""
    block: list[Span] = []
    missing = size
    for span in spans:
        start = 0
        while start < len(span):
            block.append(span.cut(start, start + missing))
            start += len(block[-1])
            missing -= len(block[-1])
            if not missing:
                yield tuple(block)
                block, missing = [], size
    if block:
        yield tuple(block)
