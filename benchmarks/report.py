"""The size of a report, and how long it takes, for generated evaluations.

Thirteen and sixty detectors on eight OOD sets, 57,000 samples in all, with pictures of 32x32. With
node, also the median time that the page's script takes for what a step of the slider shows, apart
from the browser's drawing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks._measure import print_settings
from offmap.data import ImageSet
from offmap.evaluation import Results, Row, SetInfo
from offmap.guard.decide import alarm_threshold
from offmap.metrics import augrc, aurc, detection, oscr
from offmap.reporting import report
from offmap.reporting.page import script

SIZES = {"id": 9000, "calibration": 1000} | dict.fromkeys(
    ("cifar100", "tiny_imagenet", "textures", "places", "mnist", "svhn", "noise", "other"), 5875
)
_STEPS = """
const page = require(process.argv[1]);
const data = JSON.parse(require("fs").readFileSync(process.argv[2]));
const times = [];
for (let i = 0; i < 300; i++) {
  const start = performance.now();
  page.at(data, i % data.detectors.length, i % data.rates.rates.length);
  data.sets.forEach((_, s) => {
    const of = data.histograms[0][s], box = {left: 0, top: 0, width: 1, height: 1};
    of.counts.forEach((counts) => page.path(...page.outline(counts, page.tallest(of.counts)), box));
  });
  times.push(performance.now() - start);
}
console.log(times.sort((a, b) => a - b)[150]);
"""


def main() -> None:
    options = parser().parse_args()
    print_settings(("jinja2",), samples=sum(SIZES.values()), sets=len(SIZES) - 2)
    for count in options.detectors:
        measure(count)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--detectors", type=int, nargs="+", default=[13, 60], help="how many")
    return made


def measure(count: int) -> None:
    results, inputs = generated(count)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        start = time.perf_counter()
        made = report(results, path, inputs=inputs)
        seconds = time.perf_counter() - start
        pictures = sum(
            len(part.partition('"')[0]) for part in path.read_text().split("data:image")[1:]
        )
        print(
            f"{count} detectors: report.html {megabytes(path)} (bar 8 MB), report.json "
            f"{megabytes(path.with_suffix('.json'))}, in {seconds:.1f} s; "
            f"{pictures / 1e6:.2f} MB of it are pictures; {step(made.data, Path(folder))}"
        )


def megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.2f} MB"


def step(data: object, folder: Path) -> str:
    """The median time of one step of the slider."""
    node = shutil.which("node")
    if node is None:
        return "node is not installed, so the script is not timed"
    (folder / "data.json").write_text(json.dumps(data))
    (folder / "page.js").write_text(script())
    done = subprocess.run(
        [node, "-e", _STEPS, str(folder / "page.js"), str(folder / "data.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    return f"a step of the slider computes {float(done.stdout):.3f} ms"


def generated(count: int) -> tuple[Results, dict[str, ImageSet]]:
    """Scores of normal distributions, as many detectors as asked for."""
    rng = np.random.default_rng(0)
    sets = list(SIZES)[2:]
    groups = {name: "near" if i < 2 else "far" for i, name in enumerate(sets)}
    right = rng.uniform(size=SIZES["id"]) < 0.92
    labels = rng.integers(0, 10, SIZES["id"]).astype(np.int32)
    predictions = {name: rng.integers(0, 10, n).astype(np.int32) for name, n in SIZES.items()}
    predictions["id"] = np.where(right, labels, (labels + 1) % 10).astype(np.int32)
    scores = {
        f"detector{i}": {
            name: rng.normal(rng.uniform(0.5, 2) if name in groups else 0, size=n).astype("f4")
            for name, n in SIZES.items()
        }
        for i in range(count)
    }
    rows = [row(name, ood, groups[ood], of, right) for name, of in scores.items() for ood in sets]
    roles = {"id": "id", "calibration": "calibration"}
    results = Results(
        rows=rows,
        scores=scores,
        sets=[
            SetInfo(name=name, role=roles.get(name, "ood"), group=groups.get(name, ""), n=n)
            for name, n in SIZES.items()
        ],
        settings={"network": "resnet18", "alarm_rate": 0.05},
        predictions=predictions,
        labels={"id": labels},
        keys={name: [f"{i}.png" for i in range(n)] for name, n in SIZES.items()},
    )
    return results, {name: pictures(n) for name, n in SIZES.items() if name != "calibration"}


def row(name: str, ood: str, group: str, scores: dict[str, np.ndarray], right: np.ndarray) -> Row:
    threshold = alarm_threshold(scores["calibration"], 0.05)
    return Row(
        detector=name,
        set=ood,
        group=group,
        threshold=threshold,
        id_alarm=float((scores["id"] > threshold).mean()),
        ood_caught=float((scores[ood] > threshold).mean()),
        oscr=oscr(scores["id"], right, scores[ood]),
        aurc=aurc(scores["id"], right),
        augrc=augrc(scores["id"], right),
        **detection(scores["id"], scores[ood]).__dict__,
    )


def pictures(n: int) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return ImageSet("generated", pixels, sample_keys=tuple(f"{i}.png" for i in range(n)))


if __name__ == "__main__":
    main()
