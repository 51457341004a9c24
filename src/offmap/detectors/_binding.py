"""Before the fit: bind heads, copy detectors for members, and refuse unmet needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch

from offmap.activations import Activations, Head, Heads
from offmap.detectors._checks import check_head, check_needs, columns, warn_signed
from offmap.detectors._needs import SOURCES, Needs
from offmap.detectors._plan import Path, at, nodes, taps_of
from offmap.errors import ArgumentError, DegenerateError, LabelError, NeedsError

if TYPE_CHECKING:
    from offmap.detectors._composite import Composite
    from offmap.detectors._detector import Detector
    from offmap.detectors._tolerant import Tolerant

AnyHead = Head | Heads | None
_SHARE_OF_MEMORY = 0.5


def prepare(root: Detector, head: AnyHead, acts: Activations | None) -> None:
    """Reset a detector, copy it for each member, check it, and bind it to the head."""
    root.reset()
    if acts is None:  # what the head tells
        layer = next((h for h in head if h), None) if isinstance(head, tuple) else head
        classes, features = (0, 0) if layer is None else layer.weight.shape
        width = classes, features, len(head) if isinstance(head, tuple) else 0
    else:
        width = columns(acts)
        # Whether it is an ensemble, which no part can change.
        check_needs(root.needs & Needs.MEMBERS, acts, root)
    _leave_out_unserved(root, acts, width)
    _renew_needs(root)
    if acts is not None:
        check_needs(root.needs & ~Needs.INPUTS, acts, root)
        if head is not None and Needs.HEAD in root.needs:
            check_head(head, acts, root)
        warn_signed(root, acts)
    _expand(root, head, acts, width)
    _check_footprint(root, width)
    bind(root, head, root)
    _renew_needs(root)
    widths = [width[0], width[1] if Needs.FEATURES in root.needs else 0, width[2]]
    root.set_buffers(
        columns_=torch.tensor(widths, device="cpu"),
        passes_=torch.zeros(len(SOURCES), device="cpu").long(),
    )


def _renew_needs(root: Detector) -> None:
    """Renew the needs of each composite, parts first."""
    for node in reversed([*nodes(root)]):
        if node.all_parts():
            cast("Composite", node).renew_needs()


def _expand(
    node: Detector, head: AnyHead, acts: Activations | None, width: tuple[int, int, int]
) -> None:
    """Make the copies of templates, from the root on: a copy may hold templates itself."""
    if getattr(node, "template", None) is not None:
        wrapper = cast("Composite", node)
        if acts is not None:
            wrapper.expand(wrapper.copies(acts))
        elif isinstance(head, tuple):
            wrapper.expand(len(head))
    for i, part in enumerate(node.all_parts()):
        part_head = head[i] if isinstance(head, tuple) and _is_over_members(node) else head
        part_acts = _acts_of_part(node, i, acts)
        if _is_over_members(node):  # members may differ in what they have
            _leave_out_unserved(part, part_acts, width)
        _expand(part, part_head, part_acts, width)


def _is_over_members(node: Detector) -> bool:
    """Whether each part of a node sees a member of its own."""
    return Needs.MEMBERS in type(node).needs


def _acts_of_part(node: Detector, i: int, acts: Activations | None) -> Activations | None:
    """The activations of the network that part ``i`` of a node sees."""
    if acts is None or not acts.members or not _is_over_members(node):
        return acts
    return acts.members[i]


def bind(node: Detector, head: AnyHead, root: Detector) -> None:
    """Give a head to a node, and to the parts whose head does not depend on what it learns.

    Raises:
        NeedsError: the node needs a head, and there is none.
    """
    if Needs.HEAD in type(node).needs:
        if not isinstance(head, Head):
            raise NeedsError(
                f"{root!r} needs the network's last linear layer, and none is known: "
                "give head=offmap.Head(weight, bias), or leave this detector out"
            )
        node.bind(head)
    if node.parts_first or not node.stages:
        bind_parts(node, head, root)


def bind_parts(node: Detector, head: AnyHead, root: Detector) -> None:
    """Give each part its head, derived from the buffers learned so far."""
    for i, part in enumerate(node.all_parts()):
        if part.learns:
            with sparing_part(node, (i,)):
                part_head = (
                    cast("Composite", node).head_of(i, head) if Needs.HEAD in part.needs else None
                )
                bind(part, part_head, root)


def _leave_out_unserved(
    node: Detector, acts: Activations | None, width: tuple[int, int, int]
) -> None:
    """Leave out, where allowed, the parts with unmet needs or too large a footprint."""
    for i, part in enumerate(node.all_parts()):
        if node.goes_on:
            with sparing_part(node, (i,)):
                if acts is not None:
                    check_needs(part.needs & ~Needs.INPUTS, acts, part)
                    first = acts.members[0] if acts.members else acts
                    for tap in taps_of(part):
                        first.tapped(tap)
                _check_footprint(part, width)
    for i, part in enumerate(node.all_parts()):
        _leave_out_unserved(part, _acts_of_part(node, i, acts), width)


@contextmanager
def sparing_part(root: Detector, path: Path, *, labelled: bool = True) -> Iterator[None]:
    """Leave out the part of a tree that raises an error, where its composite tolerates that.

    Unmet needs and degenerate data are tolerated; wrong arguments, such as labels, are refused.
    """
    try:
        yield
    except (NeedsError, DegenerateError, ArgumentError, LabelError) as error:
        if labelled and isinstance(error, LabelError):
            raise
        for depth in reversed(range(len(path))):
            if (node := at(root, path[:depth])).goes_on:
                cast("Tolerant", node).leave_out(path[depth], error)
                return
        raise


def present(root: Detector, path: Path) -> bool:
    """Whether neither a node nor one above it has been left out."""
    return not any(at(root, path[:k]).absent for k in range(len(path) + 1))


def _check_footprint(root: Detector, width: tuple[int, int, int]) -> None:
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for node in nodes(root):
        size = node.footprint(*width[:2]) * max(width[2], 1)
        if size > _SHARE_OF_MEMORY * available:
            raise ArgumentError(
                f"{node!r} would hold {size / 2**30:.1f} GiB for {width[0]} classes of {width[1]} "
                f"features, and this machine has {available / 2**30:.1f}: "
                f"{node.way_out}"
            )
