"""One detector in a pass: collecting the statistics of a batch, and solving their sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from torch import Tensor

from offmap._utils.precision import without_autocast
from offmap.activations import Activations, Sample
from offmap.detectors._binding import AnyHead, bind_parts, present, sparing_part
from offmap.detectors._checks import check_labels
from offmap.detectors._needs import SOURCES, Source
from offmap.detectors._plan import Path, Step, at
from offmap.detectors._spread import Sums
from offmap.errors import NeedsError, ShapeError
from offmap.stats import Statistic

if TYPE_CHECKING:
    from offmap.detectors._composite import Composite
    from offmap.detectors._detector import Detector


def collect(
    root: Detector,
    steps: Sequence[Step],
    acts: Activations | Sample,
    labels: Tensor | None,
    i: int,
    sums: Sums,
) -> None:
    """Add the statistics of a batch to the sums of a tree; shared views are computed once."""
    batch = activations_of(acts)
    members = int(root.get_buffer("columns_")[2])
    if len(batch.members) != members:
        raise ShapeError(
            f"this {type(root).__name__} is being fitted on {members} members, and a batch is that "
            f"of {len(batch.members)}: is it the same ensemble?"
        )
    views: dict[Path, Activations | Sample] = {(): acts}
    # Labels of another kind are refused where they are read, and ignored elsewhere.
    classes = None if labels is None or labels.is_floating_point() else labels.long()
    with without_autocast(batch.device):
        for step in steps:
            if not present(root, step.path):
                continue
            with sparing_part(root, step.path, labelled=labels is not None):
                node = at(root, step.path)
                if node.stages[step.stage].labels:
                    check_labels(labels, batch, root)
                view = node.own_view(_view_at(root, step.path, views))
                if node.stages[step.stage].inputs and not isinstance(view, Sample):
                    raise NeedsError(
                        f"{root!r} runs the network again to learn, and activations alone do not "
                        "have the inputs: use Guard or evaluate on the inputs themselves"
                    )
                part = node.collect(step.stage, view, classes)
                if not isinstance(part, Statistic):
                    raise TypeError(
                        f"{type(node).__name__}.collect returned a {type(part).__name__}, which "
                        "does not add up over batches: return an offmap.stats.Statistic"
                    )
                sums[i, step] = sums[i, step] + part if (i, step) in sums else part


def _view_at(
    root: Detector, path: Path, views: dict[Path, Activations | Sample]
) -> Activations | Sample:
    if path not in views:
        wrapper = cast("Composite", at(root, path[:-1]))
        views[path] = wrapper.view_in_fit(
            path[-1], wrapper.view_to_learn(_view_at(root, path[:-1], views))
        )
    return views[path]


def solve(root: Detector, step: Step, stats: Statistic, head: AnyHead) -> None:
    """Solve a step; after the last one of a node, give its parts their heads."""
    node = at(root, step.path)
    node.solve(step.stage, stats)
    if step.stage == len(node.stages) - 1 and not node.parts_first:
        for depth, i in enumerate(step.path):
            head = cast("Composite", at(root, step.path[:depth])).head_of(i, head)
        bind_parts(node, head, root)


def count_pass(root: Detector, source: Source, count: int) -> None:
    """Store in the detector how many passes over a source are done."""
    counts = root.passes_.clone()  # type: ignore[operator]
    counts[SOURCES.index(source)] = count
    root.set_buffers(passes_=counts)


def activations_of(x: Activations | Sample) -> Activations:
    """The activations of a batch, with its inputs or without."""
    return x.acts if isinstance(x, Sample) else x
