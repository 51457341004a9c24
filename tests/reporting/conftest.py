"""Evaluations made of numbers, with names that try to break out of the page."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from offmap.data import ImageSet
from offmap.evaluation import Results, Row, SetInfo
from offmap.guard.decide import alarm_threshold
from offmap.metrics import augrc, aurc, detection, oscr

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
SETS = {HOSTILE: "near", "/data/secret hideaway/a/test": "far", "plain": "far"}
CLASSES = ('<b onclick="alert(3)">cat', "dog", "{{ 7 * 7 }}", "'\"&")
KEY = "../secret/<svg onload=alert(4)>.png"
RATE = 0.05


def evaluated(
    *, labels: bool = True, calibration: bool = True, n: int = 300, seed: int = 0
) -> Results:
    """Three detectors, one of them the maximum softmax probability, on three OOD sets."""
    rng = np.random.default_rng(seed)
    sizes = {"id": n, **dict.fromkeys(SETS, 120), **({"calibration": 150} if calibration else {})}
    known = {"id", "calibration"}
    truth = rng.integers(0, 4, n)
    right = rng.uniform(size=n) < 0.9
    predictions = {name: rng.integers(0, 4, size).astype(np.int32) for name, size in sizes.items()}
    predictions["id"] = np.where(right, truth, (truth + 1) % 4).astype(np.int32)
    scores = {
        d: {s: rng.normal(0 if s in known else gain, size=m) for s, m in sizes.items()}
        for d, gain in ((HOSTILE, 1.5), ("weak", 0.3))
    }
    scores["weak"] = {s: np.round(x, 1).astype(np.float32) for s, x in scores["weak"].items()}
    scores["msp"] = {s: rng.beta(1 if s in known else 3, 6, size=m) for s, m in sizes.items()}
    rows = []
    for d, of in scores.items():
        for s, group in SETS.items():
            more = {}
            if labels:
                more = {
                    "oscr": oscr(of["id"], right, of[s]),
                    "aurc": aurc(of["id"], right),
                    "augrc": augrc(of["id"], right),
                }
            if calibration:
                t = alarm_threshold(of["calibration"], RATE)
                more |= {"threshold": t, "id_alarm": float((of["id"] > t).mean())}
                more |= {"ood_caught": float((of[s] > t).mean())}
            figures = detection(of["id"], of[s]).__dict__
            rows.append(Row(detector=d, set=s, group=group, **figures, **more))
    infos = [
        SetInfo(
            name=name,
            role=name if name in known else "ood",
            group=SETS.get(name, ""),
            n=size,
            right=int(right.sum()) if labels and name == "id" else None,
            source=name if name not in known else "/data/secret hideaway/photos",
            skipped=[
                ["/data/secret hideaway/broken.png", "cannot identify /data/secret hideaway/x"]
            ],
        )
        for name, size in sizes.items()
    ]
    return Results(
        rows=rows,
        scores=scores,
        sets=infos,
        settings={
            "network": HOSTILE,
            "alarm_rate": RATE if calibration else None,
            "command": "offmap bench --id '/data/secret hideaway/photos' --out x",
            "plan": {"far": {"a": "/data/secret hideaway/a/test"}},
        },
        summaries={"msp": "nothing to learn", HOSTILE: HOSTILE},
        left_out={"other": "it reads ./secret/file and <i>more</i>"},
        predictions=predictions,
        labels={"id": truth.astype(np.int32)} if labels else {},
        keys={s: [f"{KEY}{i}" for i in range(m)] for s, m in sizes.items()},
    )


def images(n: int, classes: tuple[str, ...] = ()) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, 3, 40, 40), generator=generator, dtype=torch.uint8)
    labels = torch.zeros(n, dtype=torch.int64) if classes else None
    return ImageSet(
        "set", pixels, labels, classes, sample_keys=tuple(f"{KEY}{i}" for i in range(n))
    )


@pytest.fixture(scope="session")
def results() -> Results:
    return evaluated()


@pytest.fixture(scope="session")
def inputs() -> dict[str, ImageSet]:
    return {"id": images(300, CLASSES), **{name: images(120) for name in SETS}}
