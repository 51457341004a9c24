"""The whole job on embedded data: ten letters are known, and all else is OOD.

Runs in less than a minute and without a network connection: the letters are drawn with fonts in
matplotlib's wheel, and pictures lie in this package, as do the weights of its classifier, which
:func:`offmap.demo.letters.train` made. The smaller digits of 8x8 pixels are for first steps:
``digits_data()`` and ``shipped()``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from offmap import plots, reporting
from offmap.data import ImageSet
from offmap.demo import letters
from offmap.demo.digits import (
    COMMAND,
    KNOWN,
    NORMALIZATION,
    SEED,
    Digits,
    card,
    digits_data,
    shipped,
    train,
)
from offmap.demo.letters import letters_data
from offmap.demo.parts import FAR, FAR28, Parts, pictures
from offmap.detectors import ordinary
from offmap.evaluation import Results, evaluate

__all__ = [
    "COMMAND",
    "FAR",
    "FAR28",
    "KNOWN",
    "NORMALIZATION",
    "SEED",
    "Digits",
    "Parts",
    "best",
    "card",
    "digits_data",
    "draw",
    "letters_data",
    "pictures",
    "run",
    "shipped",
    "train",
]

_RATE = 0.05


def run(
    out: str | Path,
    *,
    detectors: Any = None,
    retrain: bool = False,
    alarm_rate: float = _RATE,
    report: bool = False,
    show_progress: bool | None = None,
) -> Results:
    """Evaluate detectors on the letters, and write tables and figures into ``out``.

    Without ``detectors``, all for one network with a linear head. With ``report``, ``report.html``
    too.
    """
    sets = letters_data()
    network = letters.train(sets, Path(out) / "training") if retrain else letters.shipped()
    results = evaluate(
        network,
        train=sets.train,
        id_test=sets.test,
        calibration=sets.calibration,
        ood=sets.ood,
        detectors=ordinary() if detectors is None else detectors,
        alarm_rate=alarm_rate,
        normalization=letters.NORMALIZATION,
        show_progress=show_progress,
        settings={"id": "ten letters", "retrained": retrain},
    )
    results.save(out)
    inputs = reporting.inputs_of(sets.test, sets.ood)
    draw(results, Path(out), inputs)
    if report:
        # Without the folder, which is of one machine; a program alone gives other detectors.
        rate = "" if alarm_rate == _RATE else f" --alarm-rate {alarm_rate}"
        command = "" if detectors else f"offmap demo{' --retrain' if retrain else ''}{rate}"
        reporting.report(results, Path(out) / "report.html", inputs=inputs, command=command)
    return results


def best(results: Results) -> str:
    """The detector with the highest mean AUROC."""
    return max(results.detectors, key=results.mean)


def draw(results: Results, out: Path, inputs: Mapping[str, ImageSet], *, worst: int = 8) -> None:
    """Histograms of the best detector, ROC curves of all, and the mistakes of the best one.

    Args:
        results: of the evaluation.
        out: folder for the figures.
        inputs: the ID set as "id", and the OOD sets by name.
        worst: how many samples of each set are shown: those with the lowest scores.
    """
    top = best(results)
    plots.save(plots.histograms(results, top), out / "histograms.png")
    plots.save(plots.roc_curves(results), out / "roc.png")
    images, titles = [], []
    for name in (row.set for row in results.rows if row.detector == top):
        for i in np.argsort(results.scores[top][name], kind="stable")[:worst]:
            images.append(inputs[name].images[i])
            titles.append(f"{name}\n“{inputs['id'].classes[results.predictions[name][i]]}”")
    heading = f"OOD samples with the lowest {top} scores; predictions of the network in quotes"
    plots.save(plots.image_grid(images, titles, heading=heading), out / "most_wrong.png")
