"""Scoring a folder of generated JPEGs: its rate, and whether memory grows with their number.

``python -m benchmarks.scoring [--images 100000]``

Measured: ``score_files`` with a guard on the embedded digits' network, on generated 64x64 JPEGs
in a folder, in a process of its own; its peak memory with a tenth of the images against all; and
its time against decoding the same files in the same threads and running the bare network on them.
Bars: memory grows by less than 10 %; the ratio is shown.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import offmap
from benchmarks._measure import print_settings, seconds
from offmap import demo
from offmap.data import Skipped, read_images
from offmap.guard.files import score_files


def generate(folder: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    for i in range(count):
        part = folder / f"{i // 1000:04}"
        part.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(part / f"{i % 1000:03}.jpg", quality=80)


def score(folder: Path, out: Path) -> None:
    sets = demo.digits_data()
    guard = offmap.Guard(demo.shipped(), "vim", normalization=demo.NORMALIZATION)
    guard.fit(sets.train).calibrate(sets.calibration)
    network = demo.shipped()

    def bare() -> None:
        batch: list[torch.Tensor] = []
        with torch.no_grad():
            for _, image in read_images([str(folder)], (1, 8, 8)):
                if not isinstance(image, Skipped):
                    batch.append(image)
                if len(batch) == 256:
                    network(demo.NORMALIZATION(torch.stack(batch))).argmax(1)
                    batch.clear()

    spent = seconds(lambda: score_files(guard, [str(folder)], out))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{spent:.2f} {seconds(bare):.2f} {peak}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--child", nargs=2, type=Path)
    options = parser.parse_args()
    if options.child:
        return score(*options.child)
    print_settings(images=options.images)
    with tempfile.TemporaryDirectory() as folder:
        for count in (options.images // 10, options.images):
            place = Path(folder) / str(count)
            generate(place, count)
            command = [sys.executable, "-m", "benchmarks.scoring", "--child", str(place)]
            done = subprocess.run(
                [*command, f"{folder}/{count}.parquet"], capture_output=True, text=True, check=True
            )
            spent, bare, peak = done.stdout.split()
            ratio = float(spent) / float(bare)
            print(
                f"{count:,} images: {count / float(spent):,.0f} a second, {ratio:.2f} x decoding "
                f"and the bare network; peak memory {peak} MiB"
            )


if __name__ == "__main__":
    main()
