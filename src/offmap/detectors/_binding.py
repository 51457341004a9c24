"""Before data are read: the head, the copies of members, and what cannot be served."""

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


def prepare(root: Detector, head: AnyHead, first: Activations | None) -> None:
    """Forget what was learned, make the copies of members, check, and bind to the head."""
    root.reset()
    width = columns(first) if first is not None else _columns_of(head)
    if first is not None:  # an ensemble, or none: no part changes that
        check_needs(root.needs & Needs.MEMBERS, first, root)
    _leave_out_unserved(root, first, width)
    _renew_needs(root)
    if first is not None:
        check_needs(root.needs & ~Needs.INPUTS, first, root)
        if head is not None and Needs.HEAD in root.needs:
            check_head(head, first, root)
        warn_signed(root, first)
    _expand(root, head, first, width)
    _check_footprint(root, width)
    bind(root, head, root)
    _renew_needs(root)
    read = [width[0], width[1] if Needs.FEATURES in root.needs else 0, width[2]]
    root.set_buffers(
        columns_=torch.tensor(read, device="cpu"),
        passes_=torch.zeros(len(SOURCES), device="cpu").long(),
    )


def _renew_needs(root: Detector) -> None:
    """What each node needs, parts before those that are made of them."""
    for node in reversed([*nodes(root)]):
        if node.all_parts():
            cast("Composite", node).renew_needs()


def _columns_of(head: AnyHead) -> tuple[int, int, int]:
    one = next((h for h in head if h), None) if isinstance(head, tuple) else head
    width = (0, 0) if one is None else tuple(one.weight.shape)
    return (*width, len(head) if isinstance(head, tuple) else 0)  # type: ignore[return-value]


def _expand(
    node: Detector, head: AnyHead, first: Activations | None, width: tuple[int, int, int]
) -> None:
    """Make the copies of a tree from its root on: each copy may hold some itself."""
    if getattr(node, "template", None) is not None:
        wrapper = cast("Composite", node)
        if first is not None:
            wrapper.expand(wrapper.copies(first))
        elif isinstance(head, tuple):
            wrapper.expand(len(head))
    for i, part in enumerate(node.all_parts()):
        of_one = head[i] if isinstance(head, tuple) and _is_over_members(node) else head
        seen = _seen_by(node, i, first)
        if _is_over_members(node):  # one may lack what another has
            _leave_out_unserved(part, seen, width)
        _expand(part, of_one, seen, width)


def _is_over_members(node: Detector) -> bool:
    """Whether each part of a node sees a member of its own."""
    return Needs.MEMBERS in type(node).needs


def _seen_by(node: Detector, i: int, first: Activations | None) -> Activations | None:
    """The activations of the network that part ``i`` of a node sees."""
    if first is None or not first.members or not _is_over_members(node):
        return first
    return first.members[i]


def bind(node: Detector, head: AnyHead, root: Detector) -> None:
    """Give a head to a node, and to the parts whose head does not depend on what it learns.

    Raises:
        NeedsError: there is none.
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
    """Give each part its head, whatever that is made of by now."""
    for i, part in enumerate(node.all_parts()):
        if part.learns:
            with sparing_part(node, (i,)):
                own = cast("Composite", node).head_of(i, head) if Needs.HEAD in part.needs else None
                bind(part, own, root)


def _leave_out_unserved(
    node: Detector, first: Activations | None, width: tuple[int, int, int]
) -> None:
    """Where parts may be left out, leave out those that read what is not there, or too much."""
    for i, part in enumerate(node.all_parts()):
        if node.goes_on:
            with sparing_part(node, (i,)):
                if first is not None:
                    check_needs(part.needs & ~Needs.INPUTS, first, part)
                    _check_layers(part, first)
                _check_footprint(part, width)
    for i, part in enumerate(node.all_parts()):
        _leave_out_unserved(part, _seen_by(node, i, first), width)


def _check_layers(part: Detector, first: Activations) -> None:
    one = first.members[0] if first.members else first
    for tap in taps_of(part):
        one.tapped(tap)


@contextmanager
def sparing_part(root: Detector, path: Path, *, labelled: bool = True) -> Iterator[None]:
    """Leave out the part of a tree that an error comes from, where its composite can do without.

    What is missing or cannot be solved is done without; what is wrong, such as labels, is refused.
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
    """Whether a node is still there: a part above it may have been left out."""
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
