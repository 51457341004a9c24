"""What each detector's score costs, in products with the head, and how much memory it takes.

``python -m benchmarks.costs [--n 10000] [--d 512] [--classes 100] [--detectors ...]``
``python -m benchmarks.costs --large [--detectors ...]``

Measured: scoring ``--n`` generated samples in one call, by every detector of the catalogue for one
classifier, with its default arguments: processor time on one thread as a multiple of that of the
product ``h @ W.T`` in float32, runs alternating, and by how much a fork grows that scores.
What takes more than 200 products is measured once.
Bars: at most 40 products and 256 MiB. A covariance a class, banks and Gram matrices are held to the
second bar alone; beside them stands how many products the operations of their formula make. Of
layers there is Gram alone, from what a hook gives; what runs the network is left out.

With ``--large``: 2,048 features, 1,000 classes, 100,000 samples made in a stream, each detector
fitted and scored on 10,000 in a fork of its own. Bar: at most 4 GiB of resident memory at the peak,
the imports and the head among them. What is refused for its size is printed with its reason.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch

import offmap
from benchmarks._generated import World, both_clocks, extra_memory, peak
from benchmarks._measure import arguments, keep, print_settings, spread
from offmap.activations import Batch, Tap
from offmap.detectors import catalogue, ordinary, taps_of
from offmap.errors import OffmapError, OffmapWarning

PRODUCTS, MEBIBYTES, GIBIBYTES = 40.0, 256.0, 4.0
_MANY = 200.0
TRAINING = 10_000  # samples to fit on, and so the rows of the largest bank
_GRAM = Tap(":stages", "gram")
# Multiplications a sample of those that are not held to the bar, by classes and features.
FLOORS: dict[str, Callable[[int, int], float]] = {
    "classgaussian": lambda c, d: c * d * d,
    "knn": lambda c, d: TRAINING * d,
    "nnguide": lambda c, d: 1000 * d,
    "relation": lambda c, d: TRAINING * (c + d),
    "gram": lambda c, d: 10 * 2 * d,
}


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", OffmapWarning)
    warnings.simplefilter("ignore", UserWarning)
    names = options.detectors or of_one_network()
    d, classes = (2048, 1000) if options.large else (options.d, options.classes)
    n = options.n or (100_000 if options.large else 10_000)
    print_settings(n=n, features=d, classes=classes, threads=1)
    if options.large:
        missed = [line for name in names for line in large(name, n, d, classes)]
    else:
        missed = small(names, n, World.of(d, classes), options.pairs)
    print("missed:", "; ".join(missed) or "none")


def parser() -> argparse.ArgumentParser:
    made = arguments(__doc__, pairs=7)
    made.add_argument("--n", type=int, help="samples to score (10,000), or to fit on (100,000)")
    made.add_argument("--d", type=int, default=512, help="features, a multiple of 16 (512)")
    made.add_argument("--classes", type=int, default=100, help="(100)")
    made.add_argument("--large", action="store_true", help="peak memory, 1,000 classes of 2,048")
    made.add_argument("--detectors", nargs="+", help="by default all of one classifier")
    return made


def of_one_network() -> list[str]:
    """Names of those that read logits, features or the head; of layers, Gram alone."""
    made = {name: catalogue()[name].default() for name in ordinary()}
    names = [name for name, each in made.items() if each.goes_on or not taps_of(each)]
    return [*names, "gram"]


def small(names: Sequence[str], n: int, world: World, pairs: int) -> list[str]:
    """Print times and memory of scoring; gives the bars that are missed."""
    features, _ = world.draw(n, 0)
    acts = activations(world, features)
    training = [read(world, batch) for batch in world.stream(TRAINING)]
    weight, missed = world.head.weight, []
    for name in names:
        detector = offmap.detector(name).fit(training, calibration=training[:5], head=world.head)
        score = partial(detector.score, acts)
        memory = extra_memory(score) / 2**20
        times = ratios(score, lambda: features @ weight.T, pairs)
        missed += told(name, times, memory, len(weight), features.shape[1])
    return missed


def activations(world: World, features: torch.Tensor) -> offmap.Activations:
    """With what a hook gives of a layer, whose map the features are taken for."""
    layers = {_GRAM.key(): _GRAM(features.unflatten(1, (-1, 4, 4)))}
    return offmap.Activations(world.head(features), features, layers)


def read(world: World, batch: Batch) -> Batch:
    return activations(world, batch[0].features), batch[1]


def ratios(score: Callable[[], object], product: Callable[[], object], pairs: int) -> list[float]:
    """Processor time over that of the product, pair by pair."""
    product()
    first = both_clocks(score)[1] / both_clocks(product)[1]
    if first > _MANY:
        return [first]
    return [both_clocks(score)[1] / both_clocks(product)[1] for _ in range(pairs)]


def told(name: str, times: list[float], memory: float, c: int, d: int) -> list[str]:
    """Print one line; gives the bars that are missed."""
    floor = FLOORS[name](c, d) / (c * d) if name in FLOORS else None
    bar = f"at most {PRODUCTS:g}" if floor is None else f"none; its operations make {floor:.3g}"
    print(f"{name}: {spread(times)} products, bar {bar}; {memory:.0f} MiB", flush=True)
    keep(f"{name} / product with the head", times, bar)
    keep(f"{name}, extra memory", [memory], f"at most {MEBIBYTES:g}", unit="MiB")
    ratio = statistics.median(times)
    slow = [f"{name} {ratio:.1f} products"] if floor is None and ratio > PRODUCTS else []
    return slow + ([f"{name} {memory:.0f} MiB"] if memory > MEBIBYTES else [])


def large(name: str, n: int, d: int, classes: int) -> list[str]:
    """Print the peak of a fork that fits and scores; gives the bar if it is missed."""
    try:
        gibibytes = (peak() + extra_memory(partial(fit_and_score, name, n, d, classes))) / 2**30
    except MemoryError as error:
        print(f"{name}: {error}", flush=True)
        return [f"{name}: no peak"]
    print(f"{name}: {gibibytes:.2f} GiB at the peak; bar at most {GIBIBYTES:g}", flush=True)
    keep(f"{name}, peak of fit and score", [gibibytes], f"at most {GIBIBYTES:g}", unit="GiB")
    return [f"{name} {gibibytes:.2f} GiB"] if gibibytes > GIBIBYTES else []


def fit_and_score(name: str, n: int, d: int, classes: int) -> None:
    """From streams, of which a batch is held at a time."""
    world = World.of(d, classes)
    detector = offmap.detector(name)
    try:
        detector.fit(world.stream(n), calibration=world.stream(max(n // 20, 1)), head=world.head)
    except OffmapError as error:
        print(f"{name}: refused: {error}", flush=True)
        return
    for acts, _ in world.stream(max(n // 10, 1)):
        detector.score(acts)


if __name__ == "__main__":
    main()
