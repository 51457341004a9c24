"""Images beside the training samples that they lie nearest to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from torch import Tensor

from offmap.plots._panels import SMALL, TITLE, panels
from offmap.plots.images import as_pixels

if TYPE_CHECKING:
    from offmap.guard.neighbours import Neighbour

_LETTERS = 22


def neighbours(
    images: Sequence[Tensor],
    nearest: Sequence[Sequence[Neighbour]],
    titles: Sequence[str],
    *,
    heading: str = "",
) -> Figure:
    """A row for each image: under its title, and behind it its nearest training samples.

    Args:
        images: ``(c, h, w)``, uint8 or float.
        nearest: of :func:`offmap.guard.nearest`, as many for each; over them, name and distance.
        titles: such as file, class and p-value.
        heading: above all.
    """
    columns = 1 + max(map(len, nearest), default=0)
    figure, axes = panels(columns * len(images), side=1.5, columns=columns)
    for i, (image, near, title) in enumerate(zip(images, nearest, titles, strict=True)):
        names = [each.key.rpartition("/")[2][-_LETTERS:] for each in near]
        captions = [f"{n}\nat {each.distance:.3g}" for n, each in zip(names, near, strict=True)]
        row = axes[columns * i : columns * (i + 1)]
        cells = zip([image, *(each.image for each in near)], [title, *captions], strict=True)
        for axis, (picture, caption) in zip(row, cells, strict=False):
            axis.imshow(as_pixels(picture), cmap="gray", interpolation="nearest")
            axis.set_title(caption, fontsize=SMALL)
        for axis in row:
            axis.axis("off")
    figure.suptitle(heading, fontsize=TITLE + 1)
    return figure
