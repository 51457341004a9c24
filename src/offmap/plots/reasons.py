"""Images beside maps of what in them raises the score."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from offmap.plots._panels import SMALL, TITLE, panels
from offmap.plots.images import as_pixels

_LETTERS, _LINES = 30, 5


def reasons(
    images: Sequence[Tensor],
    maps: Sequence[Float[Tensor, "h w"]],
    titles: Sequence[str],
    *,
    heading: str = "",
) -> Figure:
    """Each image under its title, and beside it in red what raises its score, in blue what lowers.

    Args:
        images: ``(c, h, w)``, uint8 or float.
        maps: of :func:`offmap.guard.occlusion`; each has a scale of its own.
        titles: such as file, class and reason; long lines are broken, and cut at five.
        heading: above all.
    """
    figure, axes = panels(2 * len(images), side=1.9, columns=6)
    for i, (image, heatmap, title) in enumerate(zip(images, maps, titles, strict=True)):
        limit = float(heatmap.abs().max()) or 1.0
        picture, map_axis = axes[2 * i], axes[2 * i + 1]
        picture.imshow(as_pixels(image), cmap="gray", interpolation="nearest")
        map_axis.imshow(
            heatmap.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"
        )
        lines = [part for line in title.splitlines() for part in textwrap.wrap(line, _LETTERS)]
        more = " …" if len(lines) > _LINES else ""
        picture.set_title("\n".join(lines[:_LINES]) + more, fontsize=SMALL, loc="left")
        map_axis.set_title(f"up to {limit:.3g}", fontsize=SMALL)
        for axis in (picture, map_axis):
            axis.axis("off")
    figure.suptitle(heading, fontsize=TITLE + 1)
    return figure
