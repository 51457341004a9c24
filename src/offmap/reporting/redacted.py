"""A report without the names of files and folders, to be sent to others."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from offmap.evaluation import Results
from offmap.reporting.sections import Block, Gallery, Section

_SIGN = r"[^\\/\s'\"<>|:,;()\[\]=]"
_PATH = re.compile(rf"(?:[A-Za-z]:|file:/)?{_SIGN}*(?:[\\/]{_SIGN}+)+[\\/]?")
# A text that begins so is a path, with the spaces in it.
_WHOLE = re.compile(r"(?:[\\/]|\.{1,2}[\\/]|~|[A-Za-z]:[\\/]|file:)")
_HIDDEN = "[path]"


def without_paths(results: Results) -> Results:
    """The same evaluation, whose sets, groups and detectors are numbered where they are paths.

    A word with a slash in it counts as a path: better to hide one word too many than one folder too
    few. A path without a slash, such as a file in the working folder, is not recognised.
    """
    names, groups = _names(results), _number_paths("group", results.groups)
    detectors = _number_paths("detector", [*results.detectors, *results.left_out])
    rows = [
        replace(row, detector=detectors[row.detector], set=names[row.set], group=groups[row.group])
        for row in results.rows
    ]
    sets = [
        replace(
            info,
            name=names.get(info.name, info.name),
            group=groups.get(info.group, info.group),
            source=hidden(info.source),
            transform=hidden(info.transform),
            skipped=[[f"file {i}", hidden(why)] for i, (_, why) in enumerate(info.skipped, 1)],
            left_out=[[f"file {i}", hidden(why)] for i, (_, why) in enumerate(info.left_out, 1)],
        )
        for info in results.sets
    ]
    scores = {
        detectors[d]: {names.get(s, s): x for s, x in results.scores[d].items()}
        for d in results.detectors
    }
    return replace(
        results,
        rows=rows,
        sets=sets,
        scores=scores,
        settings=hidden(results.settings),
        summaries={detectors.get(d, hidden(d)): hidden(x) for d, x in results.summaries.items()},
        left_out={detectors[d]: hidden(why) for d, why in results.left_out.items()},
        predictions={names.get(s, s): x for s, x in results.predictions.items()},
        keys={names.get(s, s): x for s, x in results.keys.items()},
    )


def renamed(results: Results, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Data sets under the names that :func:`without_paths` gives them."""
    names = _names(results)
    return {names.get(name, name): data for name, data in inputs.items()}


def numbered_data(by_name: Mapping[str, Any]) -> dict[str, Any]:
    """Results by the name of their data, with numbers for names that are paths.

    >>> numbered_data({"./photos/fresh": 1, "cifar10": 2})
    {'data 1': 1, 'cifar10': 2}
    """
    names = _number_paths("data", by_name)
    return {names[name]: value for name, value in by_name.items()}


def hidden(value: Any) -> Any:
    """Plain values with ``[path]`` for each path in their texts.

    >>> hidden({"command": "offmap bench --id '/data/my photos' --size 64", "why": "no ./a/b"})
    {'command': "offmap bench --id '[path]' --size 64", 'why': 'no [path]'}
    """
    if isinstance(value, str):
        return hidden_command(value) if value.startswith("offmap ") else _hidden_text(value)
    if isinstance(value, Mapping):
        return {
            hidden(name): hidden_command(each) if name == "command" else hidden(each)
            for name, each in value.items()
        }
    if isinstance(value, Sequence):
        return [hidden(each) for each in value]
    return value


def hidden_command(command: str) -> str:
    """A command line, word by word: a path in quotes may hold spaces.

    >>> hidden_command("offmap study pixmix --weights 'plain=runs/my best one' --limit 40")
    "offmap study pixmix --weights 'plain=[path]' --limit 40"
    """
    try:
        words = shlex.split(command)
    except ValueError:  # no command line
        return _hidden_text(command)
    shown = []
    for word in words:
        name, equals, _ = word.partition("=")
        whole = _HIDDEN if _PATH.search(name) else f"{name}{equals}{_HIDDEN}"
        shown.append(whole if _PATH.search(word) else _hidden_text(word))
    return command if shown == words else shlex.join(shown)


def _hidden_text(text: str) -> str:
    return _HIDDEN if _WHOLE.match(text) else _PATH.sub(_HIDDEN, text)


def hidden_section(section: Section) -> Section:
    """A section whose texts name no path; its samples have numbers for names already."""
    blocks: list[Block] = []
    for block in section.blocks:
        if isinstance(block, Gallery):
            samples = [
                replace(each, prediction=hidden(each.prediction), reason=hidden(each.reason))
                for each in block.samples
            ]
            blocks.append(replace(block, caption=hidden(block.caption), samples=samples))
        else:
            texts = {f.name: hidden(getattr(block, f.name)) for f in fields(block)}
            blocks.append(replace(block, **texts))
    return Section(section.name, hidden(section.title), blocks)


def _names(results: Results) -> dict[str, str]:
    """New names of the OOD sets and of the shifted ones: "set 2" for the second OOD set."""
    sets = [name for names in results.groups.values() for name in names]
    shifted = [info.name for info in results.sets if info.role == "shift"]
    return _number_paths("set", sets) | _number_paths("shifted set", shifted)


def _number_paths(kind: str, names: Iterable[str]) -> dict[str, str]:
    """New names: a number for each that is a path."""
    return {n: f"{kind} {i}" if hidden(n) != n else n for i, n in enumerate(names, 1)}
