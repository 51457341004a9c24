"""The tree of a composite detector as passes over data: which stage is in which pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from offmap.detectors._needs import ACTIVATIONS, SOURCES, Needs, Source
from offmap.errors import ArgumentError

if TYPE_CHECKING:
    from offmap.activations import Tap
    from offmap.detectors._detector import Detector

Path = tuple[int, ...]  # the numbers of the parts that lead from the root to a node


@dataclass(frozen=True)
class Step:
    """One stage of one node of a tree.

    Args:
        path: of the node.
        stage: which of its own stages.
        source: the data.
        number: in which pass over the data, from 0.
    """

    path: Path
    stage: int
    source: Source
    number: int


def plan(root: Detector) -> list[Step]:
    """All stages of a tree: each in the first pass after those it depends on.

    Raises:
        ArgumentError: training data would be needed after calibration data.
    """
    steps: list[Step] = []
    _add_steps(root, (), (0, 0), root, steps)
    return steps


def _add_steps(
    node: Detector, path: Path, clock: tuple[int, int], root: Detector, steps: list[Step]
) -> tuple[int, int]:
    """Add the steps of a node that begins at a clock (passes by source); the clock at its end."""
    if not node.parts_first:
        clock = _add_stages(node, path, clock, root, steps)
    ends = [clock]
    for i, part in enumerate(node.all_parts()):
        ends.append(_add_steps(part, (*path, i), clock, root, steps))
    clock = (max(end[0] for end in ends), max(end[1] for end in ends))
    return _add_stages(node, path, clock, root, steps) if node.parts_first else clock


def _add_stages(
    node: Detector, path: Path, clock: tuple[int, int], root: Detector, steps: list[Step]
) -> tuple[int, int]:
    train, calibration = clock
    for number, stage in enumerate(node.stages):
        if stage.source == "calibration":
            steps.append(Step(path, number, stage.source, calibration))
            calibration += 1
        elif calibration:
            raise ArgumentError(
                f"{root!r}: {node!r} learns on training data what rests on something learned on "
                "calibration data, and training comes first: exchange the two"
            )
        else:
            steps.append(Step(path, number, stage.source, train))
            train += 1
    return train, calibration


def passes(root: Detector, source: str) -> int:
    """Passes over a source of data that fitting takes."""
    return max((step.number + 1 for step in plan(root) if step.source == source), default=0)


def sources(root: Detector) -> tuple[Source, ...]:
    """The data that fitting reads."""
    return tuple(source for source in SOURCES if passes(root, source))


def at(root: Detector, path: Path) -> Detector:
    """The node that a path leads to."""
    node = root
    for i in path:
        node = node.all_parts()[i]
    return node


def reads(root: Detector, step: Step) -> Needs:
    """Which of logits and features of the network a step reads, seen through its wrappers."""
    node = at(root, step.path)
    stage = node.stages[step.stage].reads
    needs = node.needs & ACTIVATIONS if stage is None else stage
    for depth in range(len(step.path) - 1, -1, -1):
        sees = at(root, step.path[:depth]).sees
        needs = needs if sees is None else sees
    return needs


def taps_of(root: Detector) -> tuple[Tap, ...]:
    """The layers that a tree reads, each once."""
    return tuple(dict.fromkeys(tap for node in nodes(root) for tap in node.taps()))


def why_not_exported(root: Detector) -> str | None:
    """Why no graph can hold a tree, or ``None``: the reason of the first node that has one."""
    for node in nodes(root):
        if Needs.INPUTS in type(node).needs:
            return f"{node!r} runs the network again, which no graph here does"
        if (reason := node.not_exportable()) is not None:
            return reason
    return None


def cost(root: Detector) -> str:
    """The cost of a score beyond the forward pass, in a word: the highest in the tree.

    "sums" are products with learned tensors, "bank" a search in kept samples, "layers" reductions
    of other layers, "passes" further passes through the network.
    """
    if any(Needs.INPUTS in type(node).needs for node in nodes(root)):
        return "passes"
    if taps_of(root):
        return "layers"
    banks = any("bank_" in node.learned_names() for node in nodes(root))
    return "bank" if banks else "sums"


def nodes(root: Detector) -> Iterator[Detector]:
    """Every node of a tree; a template stands for its copies as long as there are none."""
    yield root
    for part in root.all_parts():
        yield from nodes(part)
