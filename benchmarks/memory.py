"""Peak memory of fitting from a stream: it must not grow with the data.

``python -m benchmarks.memory [--pairs 3]``

Measured: the peak resident size (``getrusage``) of a process that fits Mahalanobis, or ViM, on
activations made batch by batch and given as a one-shot iterator, 512 features and 10 classes, of
50,000 samples against 500,000. Bar: it grows by less than 10 %; the growth is given of the whole
process and of what it holds beyond its imports, each fit in a process of its own.

Mahalanobis has one stage and holds one batch. ViM has two: the second reads the activations back
from shards in a temporary folder (1 GB for 500,000). Shards are read through a file mapping, whose
pages count in the resident size while they are mapped: one shard of 16 MiB at a time.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Iterator

from benchmarks._measure import arguments, keep, print_settings, spread

# Torch is imported by the measured processes alone: Linux hands the peak of the process that starts
# another on to it.
FEATURES, CLASSES, BATCH = 512, 10, 1000
SMALL, LARGE = 50_000, 500_000


def main() -> None:
    made = arguments(__doc__, pairs=3)
    made.add_argument("--child", nargs=2, metavar=("DETECTOR", "N"), help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.child:
        print(*fitted(options.child[0], int(options.child[1])))
        return
    print_settings(features=FEATURES, classes=CLASSES, batch=BATCH, precision="fp32")
    large = options.limit or LARGE
    for name in ("mahalanobis", "vim"):
        compare(name, min(SMALL, large // 10), large, options.pairs)


def compare(name: str, small: int, large: int, pairs: int) -> None:
    growth, beyond = [], []
    for _ in range(pairs):
        (before, low), (_, high) = in_process(name, small), in_process(name, large)
        print(
            f"{name}: after import {before} MiB, peak {low} MiB of {small:,}, {high} of {large:,}"
        )
        growth.append(high / low - 1)
        beyond.append((high - low) / (low - before))
    print(f"{name}, growth of the peak: {spread(growth)}; bar below 0.1")
    print(f"{name}, growth beyond the imports: {spread(beyond)}")
    keep(f"{name}, growth of the peak", growth, "below 0.1")


def in_process(name: str, n: int) -> tuple[int, int]:
    """Resident size after the imports, and its peak, in MiB."""
    command = [sys.executable, "-m", "benchmarks.memory", "--child", name, str(n)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    before, peak = map(int, printed.split())
    return before, peak


def fitted(name: str, n: int) -> tuple[int, int]:
    import torch

    import offmap

    generator = torch.Generator().manual_seed(0)
    head = offmap.Head(torch.randn(CLASSES, FEATURES, generator=generator) / FEATURES**0.5)
    detector = offmap.detector(name)
    before = peak()
    detector.fit(stream(n, head, generator), head=head)
    return before, peak()


def stream(n: int, head: object, generator: object) -> Iterator[tuple[object, object]]:
    """Features about one mean a class, never all held."""
    import torch

    import offmap

    means = 3 * torch.randn(CLASSES, FEATURES, generator=generator)
    for _ in range(0, n, BATCH):
        labels = torch.randint(CLASSES, (BATCH,), generator=generator)
        features = means[labels] + torch.randn(BATCH, FEATURES, generator=generator)
        yield offmap.Activations(head(features), features), labels


def peak() -> int:
    """Largest resident size of this process so far, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit >> 20


if __name__ == "__main__":
    main()
