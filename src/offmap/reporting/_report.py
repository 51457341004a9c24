"""Reports: of an evaluation, of several, of a guard, of verdicts, of a watch, of a training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from offmap._utils.arguments import does_not_exist
from offmap._utils.files import as_text, atomic, write_json
from offmap.errors import ArgumentError, StoreError
from offmap.evaluation import Aggregate, Results, read_scores
from offmap.guard import Certified, Check, Guard, Monitor
from offmap.guard.log_rows import SUFFIXES
from offmap.guard.words import Facts
from offmap.reporting import guards, networks, runs, studies, verdicts, watches
from offmap.reporting.content import Content
from offmap.reporting.gallery import without_pictures
from offmap.reporting.page import page
from offmap.reporting.redacted import (
    hidden,
    hidden_command,
    hidden_section,
    numbered_data,
    renamed,
    without_paths,
)
from offmap.reporting.sections import Figure, Section, in_words

_FORMAT, _VERSION = "offmap report", 1


@dataclass(frozen=True)
class Report:
    """The content of a report, for a page, for programs, and for a terminal.

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
        sections = (each for each in self.sections if not names or each.name in names)
        return "\n\n".join(map(in_words, sections))

    def html(self) -> str:
        """The page: one file that loads nothing."""
        figures = [b for s in self.sections for b in s.blocks if isinstance(b, Figure)]
        drawings = {each.name: each.drawing for each in figures if each.drawing is not None}
        return page(self.title, self.sections, {**self.data, "drawings": drawings})

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


Subject = Results | Aggregate | Guard | Monitor | str | Path


@dataclass(frozen=True)
class _Options:
    """The options of a report."""

    inputs: Mapping[str, Any]
    checks: Mapping[str, Check]
    guard: Guard | Certified | str | Path | None
    thumbnails: bool
    redact_paths: bool
    command: str

    def check_used(self, subject: str, used: str = "") -> None:
        """Refuse options that a report makes no use of.

        Raises:
            ArgumentError: there is one.
        """
        for name in ("inputs", "checks", "guard"):
            if name != used and getattr(self, name) not in (None, {}):
                raise ArgumentError(f"{name} has no effect on a report of {subject}: leave it out")

    def certified(self) -> Certified | None:
        """What the guard certifies, which may be given by itself, or as the guard or its folder."""
        if isinstance(self.guard, str | Path):
            return Certified.read(self.guard)
        return Certified.of(self.guard) if isinstance(self.guard, Guard) else self.guard


class _Content(Protocol):
    """The content of a report on anything but an evaluation: all of it is in the sections."""

    @property
    def title(self) -> str: ...

    def sections(self) -> list[Section]: ...


def report(
    subject: Subject,
    path: str | Path | None = None,
    *,
    inputs: Mapping[str, Any] | None = None,
    checks: Mapping[str, Check] | None = None,
    guard: Guard | Certified | str | Path | None = None,
    thumbnails: bool = True,
    redact_paths: bool = False,
    command: str = "",
) -> Report:
    """A report as one HTML file that opens from disk and loads nothing.

    Args:
        subject: results of :func:`offmap.evaluate`, or of several networks, see
            :func:`offmap.aggregate`; a guard; a monitor; or a path: the folder of results, of a
            guard, of a study or of a training run, a file of verdicts or a log of them, the state
            of a monitor, scores of another tool, see :func:`offmap.evaluation.read_scores`.
        path: of the page, such as ``report.html``; ``report.json`` is written beside it. Without
            one, nothing is written.
        inputs: of results: data sets by name, the ID set as "id": pictures of samples and names of
            classes.
        checks: of a guard: the results of :meth:`offmap.Guard.check`, by the name of the data.
        guard: of verdicts that do not say what their guard certifies: it, or its folder.
        thumbnails: whether there are pictures of samples.
        redact_paths: hide paths and keys of samples, so that the report can be sent to others.
        command: that made the report, to be shown in it.

    Raises:
        StoreError: the path holds nothing that a report can be made of.
        ArgumentError: the path of the page does not end in .html, the file of its name in .json is
            no report, all detectors were left out, the rows are of only some of the samples, or
            something is given that has no effect on a report of this subject.
    """
    if path is not None:
        checked(path)
    if redact_paths:
        command = hidden_command(command)
    options = _Options(inputs or {}, checks or {}, guard, thumbnails, redact_paths, command)
    draft = (
        _report_on_path(Path(subject), options)
        if isinstance(subject, str | Path)
        else _report_on(subject, options)
    )
    if not thumbnails:
        draft = replace(draft, sections=[*map(without_pictures, draft.sections)])
    if path is not None:
        draft.save(path)
    return draft


def _report_on(subject: Results | Aggregate | Guard | Monitor, options: _Options) -> Report:
    if isinstance(subject, Results):
        return _report_on_results(subject, options)
    if isinstance(subject, Aggregate):
        options.check_used("several networks")
        return _report_of(networks.Networks(subject, options.command), options)
    if isinstance(subject, Monitor):
        options.check_used("a watch")
        return _report_of(watches.Watch(subject, options.command), options)
    if isinstance(subject, Guard):
        return _report_on_guard(Facts.of(subject), options)
    raise ArgumentError(
        f"there is no report of a {type(subject).__name__}: give results, a guard (its filter, of "
        "a cascade), a monitor, or a folder or file of one"
    )


def _report_on_path(path: Path, options: _Options) -> Report:
    """A report on a folder or file, told by the names of its files."""
    if path.suffix == ".json" and path.is_file():
        return _report_on(Monitor.load(path), options)
    if path.suffix in SUFFIXES:
        options.check_used("verdicts", "guard")
        summary, named = verdicts.summary_of(path, options.certified()), not options.redact_paths
        return _report_of(verdicts.Verdicts(summary, path, options.command, named=named), options)
    if (path / "guard.json").is_file():
        return _report_on_guard(Facts.load(path), options)
    if (path / "results.json").is_file():
        return _report_on_results(Results.load(path), options)
    if path.suffix == ".npz" or any(path.glob("*.npz")):
        return _report_on_results(read_scores(path), options)
    if (path / runs.RECORD).is_file():
        options.check_used("a training run")
        return _report_of(runs.Run(path, options.command), options)
    if results := studies.results_of(path):
        options.check_used("a study")
        return _report_of(studies.Study(results, path, options.command), options)
    if not path.exists():
        raise StoreError(f"{does_not_exist(path)}look at the path")
    raise StoreError(
        f"{path} holds no results, guard, study, run or verdicts that a report could be made of"
    )


def _report_on_results(results: Results, options: _Options) -> Report:
    options.check_used("results", "inputs")
    if not results.detectors:
        raise ArgumentError(
            f"these results have no detector to report on: {'; '.join(results.notes()) or 'none'}"
        )
    data = dict(options.inputs)
    if options.redact_paths:
        data, results = renamed(results, data), without_paths(results)
    content = Content(results, data, options.command, named=not options.redact_paths)
    title = hidden(content.title) if options.redact_paths else content.title
    return Report(title, content.sections(), content.data())


def _report_on_guard(facts: Facts, options: _Options) -> Report:
    options.check_used("a guard", "checks")
    # A sentence that begins with a path would be hidden with it.
    checks = numbered_data(options.checks) if options.redact_paths else options.checks
    return _report_of(guards.Promise(facts, checks, options.command), options)


def _report_of(content: _Content, options: _Options) -> Report:
    """The report with that content, without paths if ``redact_paths`` is set."""
    title, sections = content.title, content.sections()
    if options.redact_paths:
        title, sections = hidden(title), [*map(hidden_section, sections)]
    return Report(title, sections, {})


def inputs_of(id_test: Any, ood: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Data sets by name, as :func:`report` takes them, from those of an evaluation by group."""
    return {"id": id_test, **{as_text(n): x for sets in ood.values() for n, x in sets.items()}}


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
    if beside.exists():
        try:
            content = json.loads(beside.read_bytes())
        except ValueError:
            content = None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ArgumentError(
                f"{beside}, which a report of that name would replace, is no report: choose "
                "another name, such as report.html"
            )
    return path
