"""Study B in figures."""

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
from offmap.studies._anchors_tables import decision
from offmap.studies._study import Data, sets_of
from offmap.training import places

_SHOWN = 16  # images of a grid


def draw(results: Mapping[str, Results], sets: Data, guard: Guard, out: Path) -> None:
    """Confusion, OSCR curves, images with verdicts, and the classes among their anchors."""
    labels = sets.test.labels.numpy()
    unknown = sets_of(results["plain"])[0]
    _draw_confusions(results, labels, unknown, out)
    curves: dict[str, dict[str, Any]] = {name: {} for name in sets_of(results["plain"])}
    for ood, systems in curves.items():
        for network, of_network in results.items():
            correct = of_network.predictions["id"] == labels
            for d in of_network.detectors:
                scores = of_network.scores[d]
                systems[f"{network} {d}"] = oscr_curve(scores["id"], correct, scores[ood])
    plots.save(plots.oscr_curves(curves), out / "oscr.png")
    _draw_verdicts(guard, sets.test, sets.ood["unknown"][unknown], out)
    # Known classes and unknown images, projected from the space of the anchors.
    head = guard.probe.network
    assert isinstance(head, AnchorHead)
    options = {"normalization": guard.probe.normalization, "show_progress": False}
    coordinates, classes = _coordinates(head, sets.test.take(3000), options)
    groups = {str(c): coordinates[classes == c] for c in range(len(head.anchors))}
    for name, images in sets.ood["unknown"].items():
        groups[name] = _coordinates(head, images.take(300), options)[0]
    figure = plots.projection(
        groups, head.anchors.cpu().numpy(), heading="logits and their anchors"
    )
    plots.save(figure, out / "places.png")


def _draw_confusions(results: Mapping[str, Results], labels: Any, unknown: str, out: Path) -> None:
    names = [str(label) for label in range(labels.max() + 1)]
    # An infinite threshold refuses nothing: the closed set.
    closed_set = decision(results["plain"], labels, "msp", unknown, float("inf"))
    heading = f"plain network: accuracy {closed_set.closed_accuracy:.2%}"
    figure = plots.confusion(closed_set.confusion[:-1, :-1], names, heading=heading)
    plots.save(figure, out / "confusion-plain.png")
    anchors = results["anchors"]
    threshold = anchors.get("anchordistance", unknown, "threshold")
    outcome = decision(anchors, labels, "anchordistance", unknown, threshold)
    heading = f"anchors, calibrated; unknown: {unknown}"
    figure = plots.confusion(outcome.confusion, [*names, "unknown"], heading=heading)
    plots.save(figure, out / "confusion-open.png")
    figure = plots.confusion(outcome.binary, ["known", "unknown"], heading=heading)
    plots.save(figure, out / "confusion-binary.png")


def _draw_verdicts(guard: Guard, known: ImageSet, unknown: ImageSet, out: Path) -> None:
    """Images under the guard's verdicts; p is the share of known images at least as far off."""
    half = _SHOWN // 2
    mixed = torch.stack([known.take(half).images, unknown.take(half).images], dim=1).flatten(0, 1)
    grids = {
        "known": known.take(_SHOWN).images,
        "unknown": unknown.take(_SHOWN).images,
        "mixed": mixed,
    }
    for name, images in grids.items():
        verdict = guard(images)
        columns = (verdict.is_ood, verdict.labels, verdict.p_values)
        titles = [
            f"{'unknown' if is_ood else label}\np {p:.3f}"
            for is_ood, label, p in zip(*(c.tolist() for c in columns), strict=True)
        ]
        plots.save(plots.image_grid(list(images), titles, heading=name), out / f"{name}.png")


def _coordinates(network: AnchorHead, data: Any, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """Coordinates of a data set in the space of the anchors, and its labels if it has some."""
    batches = list(places(network, data, **options))
    labels = [labels for _, _, labels in batches if labels is not None]
    return (
        torch.cat([coordinates for coordinates, _, _ in batches]).cpu().numpy(),
        torch.cat(labels).cpu().numpy() if labels else None,
    )
