"""Study B in pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from offmap import plots
from offmap.data import ImageSet
from offmap.evaluation import Results
from offmap.guard import Guard
from offmap.metrics import oscr_curve
from offmap.networks import AnchorHead
from offmap.studies._anchors_tables import decided
from offmap.studies._data import Data
from offmap.training import places

_SHOWN = 16


def draw(results: Mapping[str, Results], found: Data, guard: Guard, out: Path) -> None:
    """Confusion, OSCR curves, images with verdicts, and the classes among their anchors."""
    labels = found.test.labels.numpy()
    unknown = next(iter(next(iter(found.ood.values()))))
    _confusions(results, labels, unknown, [*map(str, range(labels.max() + 1))], out)
    plots.save(plots.oscr_curves(_curves(results, labels)), out / "oscr.png")
    far = found.ood["unknown"][unknown]
    for name, images in {
        "known": found.test.take(_SHOWN),
        "unknown": far.take(_SHOWN),
        "mixed": _mixed(found.test, far),
    }.items():
        _verdicts(guard, images, out / f"{name}.png", name)
    _places(guard, found, out / "places.png")


def _confusions(
    results: Mapping[str, Results], labels: Any, unknown: str, names: list[str], out: Path
) -> None:
    plain, anchors = results["plain"], results["anchors"]
    # Nothing is refused at an infinite threshold: the closed set remains.
    closed = decided(plain, labels, "msp", unknown, float("inf"))
    heading = f"plain network: accuracy {closed.closed_accuracy:.2%}"
    figure = plots.confusion(closed.confusion[:-1, :-1], names, heading=heading)
    plots.save(figure, out / "confusion-plain.png")
    threshold = anchors.get("anchordistance", unknown, "threshold")
    both = decided(anchors, labels, "anchordistance", unknown, threshold)
    heading = f"anchors, calibrated; unknown: {unknown}"
    figure = plots.confusion(both.confusion, [*names, "unknown"], heading=heading)
    plots.save(figure, out / "confusion-open.png")
    figure = plots.confusion(both.binary, ["known", "unknown"], heading=heading)
    plots.save(figure, out / "confusion-binary.png")


def _curves(results: Mapping[str, Results], labels: Any) -> dict[str, dict[str, Any]]:
    first = next(iter(results.values()))
    return {
        unknown: {
            f"{name} {d}": oscr_curve(
                found.scores[d]["id"], found.predicted["id"] == labels, found.scores[d][unknown]
            )
            for name, found in results.items()
            for d in found.detectors
        }
        for unknown in next(iter(first.groups.values()))
    }


def _mixed(known: ImageSet, unknown: ImageSet) -> ImageSet:
    half = _SHOWN // 2
    images = torch.stack([known.take(half).images, unknown.take(half).images], dim=1)
    return ImageSet("mixed", images.flatten(0, 1))


def _verdicts(guard: Guard, shown: ImageSet, path: Path, heading: str) -> None:
    """Images, each under the guard's answer; p is the share of known images at least as far off."""
    verdict = guard(shown.images)
    titles = [
        f"{'unknown' if ood else label}\np {p:.3f}"
        for ood, label, p in zip(
            verdict.is_ood.tolist(), verdict.labels.tolist(), verdict.p_values.tolist(), strict=True
        )
    ]
    plots.save(plots.image_grid(list(shown.images), titles, heading=heading), path)


def _places(guard: Guard, found: Data, path: Path) -> None:
    """Known classes and unknown images, projected from the space of the anchors."""
    network = guard.probe.network
    assert isinstance(network, AnchorHead)
    options = {"normalization": guard.probe.normalization, "show_progress": False}
    placed, labels = _placed(network, found.test.take(3000), options)
    groups = {str(c): placed[labels == c] for c in range(len(network.anchors))}
    for name, images in found.ood["unknown"].items():
        groups[name] = _placed(network, images.take(300), options)[0]
    figure = plots.projection(groups, network.anchors.numpy(), heading="logits and their anchors")
    plots.save(figure, path)


def _placed(network: AnchorHead, data: Any, options: Mapping[str, Any]) -> tuple[Any, Any]:
    parts = list(places(network, data, **options))
    labels = [labels for _, _, labels in parts if labels is not None]
    return (
        torch.cat([placed for placed, _, _ in parts]).cpu().numpy(),
        torch.cat(labels).cpu().numpy() if labels else None,
    )
