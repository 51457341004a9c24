"""Evaluations made of numbers, with names that try to break out of the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import offmap
from offmap.data import ImageSet
from offmap.evaluation import Results, Row, SetInfo
from offmap.guard import Log
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


@pytest.fixture(scope="session")
def guard() -> offmap.Guard:
    """A certified guard around a tiny network, with names of classes that try to break out."""
    generator = torch.Generator().manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, len(CLASSES)))
    torch.nn.init.normal_(network[1].weight, generator=generator)
    x, held = (torch.randn(n, 3, 2, 2, generator=generator) for n in (200, 400))
    made = offmap.Guard(
        network, "mahalanobis", classes=CLASSES, normalization=offmap.Normalization((0.5,), (0.3,))
    )
    made.fit([(x, network(x).argmax(1))])
    return made.calibrate([held], alarm_rate=[0.05, 0.1], confidence=0.95)


@pytest.fixture(scope="session")
def verdict(guard: offmap.Guard) -> offmap.Verdict:
    """On samples of which every fifth is far off, and the last has no finite score."""
    x = torch.randn(120, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    x[::5] *= 6
    x[-1] = torch.nan
    return guard(x)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Paths of samples, of which the first sixty are there."""
    folder = tmp_path_factory.mktemp("secret hideaway")
    for i in range(60):
        Image.new("RGB", (20, 10), (4 * i, 0, 0)).save(folder / f"<i>{i}.png")
    return [str(folder / f"<i>{i}.png") for i in range(120)]


@pytest.fixture(scope="session")
def log(
    guard: offmap.Guard,
    verdict: offmap.Verdict,
    pictures: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A log of those verdicts."""
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    with Log(path, guard) as opened:
        opened.add(verdict, pictures)
    return path


def several() -> dict[str, Results]:
    """Evaluations of three networks."""
    return {f"seed {i}": evaluated(seed=i) for i in range(3)}


def write_run(folder: Path) -> None:
    """The folder of a training run, as far as its report reads it."""
    record = {
        "recipe": {"network": "wrn40_2(classes=10)", "epochs": 3, "seed": 0},
        "data": {"train": {"name": "cifar10:train", "images": 50000, "fingerprint": "0123"}},
        "command": "offmap train --out '/data/secret hideaway/run'",
    }
    (folder / "run.json").write_text(json.dumps(record))
    head = "train_loss,train_accuracy,validation_loss,validation_accuracy,seconds"
    rows = ["2.0,0.3,1.9,0.35,10", "1.5,0.5,1.4,0.55,11", "1.2,0.6,1.1,0.625,12"]
    (folder / "metrics.csv").write_text("\n".join([head, *rows]))
