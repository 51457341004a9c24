"""A report of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offmap._utils.files import atomic, write_json
from offmap.errors import ArgumentError
from offmap.evaluation import Results
from offmap.reporting.content import Content
from offmap.reporting.gallery import without_pictures
from offmap.reporting.page import page
from offmap.reporting.redacted import hidden, hidden_command, renamed, without_paths
from offmap.reporting.sections import Gallery, Section, in_words

_FORMAT, _VERSION = "offmap report", 1


@dataclass(frozen=True)
class Report:
    """What a report says, for a page, for programs, and for a terminal.

    Args:
        title: of it.
        sections: titles, paragraphs, tables, drawings and galleries, the verdict first.
        data: what the drawings are made from.
    """

    title: str
    sections: list[Section]
    data: dict[str, Any]

    def text(self, *names: str) -> str:
        """The sections in words, or those that are named."""
        chosen = [each for each in self.sections if not names or each.name in names]
        return "\n\n".join(in_words(section) for section in chosen)

    def html(self) -> str:
        """The page: one file that loads nothing."""
        return page(self.title, self.sections, self.data)

    def record(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "title": self.title,
            "sections": [section.record() for section in self.sections],
            "data": self.data,
        }

    def save(self, path: str | Path) -> None:
        """Write the page, and beside it the same content as JSON.

        Raises:
            ArgumentError: the path does not end in .html, or the file of the same name in .json is
                no report.
        """
        path = checked(path)
        with atomic(path) as temporary:
            temporary.write_text(self.html(), encoding="utf-8")
        write_json(path.with_suffix(".json"), self.record())


def report(
    results: Results | str | Path,
    path: str | Path | None = None,
    *,
    inputs: Mapping[str, Any] | None = None,
    thumbnails: bool = True,
    redact_paths: bool = False,
    command: str = "",
) -> Report:
    """A report of an evaluation, as one HTML file that opens from disk and loads nothing.

    Args:
        results: of :func:`offmap.evaluate`, or a folder that they were saved into.
        path: of the page, such as ``report.html``; ``report.json`` is written beside it. Without
            one, nothing is written.
        inputs: data sets by name, the ID set as "id": pictures of samples and names of classes.
        thumbnails: whether there are pictures of samples.
        redact_paths: hide paths and keys of samples, so that the report can be sent to others.
        command: that made the report, to be shown in it.

    Raises:
        StoreError: the folder holds no results.
        ArgumentError: the path does not end in .html, the file of its name in .json is no report,
            or the rows are of only some of the samples.
    """
    if path is not None:
        checked(path)
    results = results if isinstance(results, Results) else Results.load(results)
    data = dict(inputs or {})
    if redact_paths:
        data, results = renamed(results, data), without_paths(results)
        command = hidden_command(command)
    content = Content(results, data, command, named=not redact_paths)
    sections = content.sections()
    if not thumbnails:
        sections = [_without_pictures(section) for section in sections]
    made = Report(
        hidden(content.title) if redact_paths else content.title, sections, content.data()
    )
    if path is not None:
        made.save(path)
    return made


def inputs_of(id_test: Any, ood: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Data sets by name, as :func:`report` takes them, from those of an evaluation by group."""
    return {"id": id_test, **{name: x for sets in ood.values() for name, x in sets.items()}}


def checked(path: str | Path) -> Path:
    """A path of a page, whose content can be written beside it as JSON.

    Raises:
        ArgumentError: it does not end in .html, or there is other JSON of its name.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError(
            f"a report is one HTML file: give a path such as report.html, not {path}"
        )
    beside = path.with_suffix(".json")
    if beside.exists() and not _is_report(beside):
        raise ArgumentError(
            f"{beside}, which a report of that name would replace, is no report: choose another "
            "name, such as report.html"
        )
    return path


def _is_report(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("format") == _FORMAT


def _without_pictures(section: Section) -> Section:
    blocks = [without_pictures(b) if isinstance(b, Gallery) else b for b in section.blocks]
    return Section(section.name, section.title, blocks)
