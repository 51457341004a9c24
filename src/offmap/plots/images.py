"""Images under titles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from offmap.plots._panels import SMALL, TITLE, panels


def image_grid(images: Sequence[Tensor], titles: Sequence[str], *, heading: str = "") -> Figure:
    """Images ``(c, h, w)``, uint8 or float, each under its title."""
    figure, axes = panels(len(images), side=1.5, columns=8)
    for axis, image, title in zip(axes, images, titles, strict=True):
        axis.imshow(as_pixels(image), cmap="gray", interpolation="nearest")
        axis.set_title(title, fontsize=SMALL)
        axis.axis("off")
    figure.suptitle(heading, fontsize=TITLE + 1)
    return figure


def as_pixels(image: Tensor) -> Any:
    """``(h, w, c)`` in [0, 1]; floats are stretched to that range."""
    x = image.detach().cpu().float()
    low, high = (0.0, 255.0) if not image.is_floating_point() else (float(x.min()), float(x.max()))
    return ((x - low) / max(high - low, 1e-12)).permute(1, 2, 0).squeeze(-1).numpy()
