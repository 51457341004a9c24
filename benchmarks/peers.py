"""Every detector that pytorch-ood 0.4.0 has too: time of fit and of score, and memory.

``python -m benchmarks.peers [--n 50000] [--d 512] [--classes 100] [--queries 10000] [--pairs 5]``

Measured: fitting on ``--n`` generated features (classes apart, as of a ReLU, with the logits of one
linear head) and scoring ``--queries`` others, each detector by itself. Both libraries get the same
tensors, arguments and threads. Theirs are called by what takes features or logits
(``fit_features``, ``predict_logits``, ...), each in one call, as ``Benchmark.evaluate`` calls them;
ours fit in batches of 1,000, as from a loader, and score in one call. Extra memory is that of a
fork that fits and scores, beyond what the features take, by ``ru_maxrss``.

Runs alternate; times are of the processor, because the wall's are those of whatever else runs, and
their ratios stand beside. What takes longer than four seconds is measured once after its warm-up.
Bars: slower on none; at least 10 x in scoring on DICE, OpenMax and Mahalanobis; GMM in a tenth of
the memory. Detectors of features get the logits too here, as every network gives them, where some
of theirs apply the head once more.

Left out: what ours has not (WeightedEBO), and what runs an image network (ODIN, MahalanobisODIN,
MultiMahalanobis, MCD, RankFeat, NACUE, GradUncertainty).
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks._generated import Seconds, World, both_clocks, extra_memory
from benchmarks._measure import arguments, keep, print_settings
from benchmarks._peers import PEERS, Data, Peer, Run

# Their time over ours in scoring, at least; and our memory over theirs, at most.
BARS = {"dice": 10.0, "openmax": 10.0, "mahalanobis": 10.0}
SHARES = {"gmm": 0.1}
_SLOW = 4.0  # seconds; what takes longer is measured once after its warm-up


@dataclass(frozen=True)
class Compared:
    """One call of both libraries, pair by pair.

    Args:
        name: of the detector and the call.
        ours: seconds on the wall and of the processor.
        theirs: likewise.
        bar: of their time over ours.
    """

    name: str
    ours: list[Seconds]
    theirs: list[Seconds]
    bar: float

    def ratios(self, clock: int) -> list[float]:
        """Their time over ours."""
        return [b[clock] / a[clock] for a, b in zip(self.ours, self.theirs, strict=True)]

    def print(self) -> list[str]:
        """One line, kept as a row; gives the bar if it is missed."""
        ours, theirs = (statistics.median(x[1] for x in each) for each in (self.ours, self.theirs))
        ratios = self.ratios(1)
        ratio, wall = statistics.median(ratios), statistics.median(self.ratios(0))
        low, high, pairs = min(ratios), max(ratios), len(ratios)
        print(f"{self.name}: {ours:.4f} s, theirs {theirs:.4f} s: {ratio:.2f} x", end=" ")
        print(f"({low:.2f} to {high:.2f}, {pairs} pairs; on the wall {wall:.2f})", flush=True)
        keep(f"{self.name}: pytorch-ood / offmap", ratios, f"at least {self.bar:g}")
        return [f"{self.name} {ratio:.2f} x"] if ratio < self.bar else []


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(options.threads)
    shown = {name: getattr(options, name) for name in ("n", "d", "classes", "queries", "threads")}
    print_settings(("pytorch-ood", "scikit-learn"), **shown)
    data = generated(options.n, options.d, options.classes, options.queries)
    missed = []
    for name in options.detectors or PEERS:
        missed += compare(name, PEERS[name], data, options.pairs)
    print("missed:", "; ".join(missed) or "none")


def parser() -> argparse.ArgumentParser:
    made = arguments(__doc__, pairs=5)
    made.add_argument("--n", type=int, default=50_000, help="training samples (50,000)")
    made.add_argument("--d", type=int, default=512, help="features, a multiple of 16 (512)")
    made.add_argument("--classes", type=int, default=100, help="(100)")
    made.add_argument("--queries", type=int, default=10_000, help="samples to score (10,000)")
    made.add_argument("--threads", type=int, default=1, help="of torch (1)")
    made.add_argument("--detectors", nargs="+", choices=list(PEERS), help="by default all")
    return made


def generated(n: int, d: int, classes: int, queries: int) -> Data:
    """Tensors of both, and the head as a layer, which theirs take."""
    world = World.of(d, classes)
    head = nn.Linear(d, classes).requires_grad_(False)
    head.weight.copy_(world.head.weight)
    head.bias.copy_(world.head.bias)
    (features, labels), (others, _) = world.draw(n, 1), world.draw(queries, 2)
    return Data(features, head(features), labels, others, head(others), head)


@torch.no_grad()
def compare(name: str, peer: Peer, data: Data, pairs: int) -> list[str]:
    """Print the lines of one detector; gives the bars that it misses."""
    missed = memory(name, peer, data)
    sides = peer.our_runs(data), peer.their_runs(data)
    for i, call in enumerate(("fit", "score")):
        ours, theirs = (side[i] for side in sides)
        found = Compared(
            f"{name} {call}", *timed(ours, theirs, pairs), BARS.get(name, 1.0) if i else 1.0
        )
        if call == "score" or peer.learns:
            missed += found.print()
    return missed


def timed(ours: Run, theirs: Run, pairs: int) -> tuple[list[Seconds], list[Seconds]]:
    """Both in turn, after one warm-up of each."""
    slow = max(both_clocks(ours)[1], both_clocks(theirs)[1]) > _SLOW
    found = [(both_clocks(ours), both_clocks(theirs)) for _ in range(1 if slow else pairs)]
    return [a for a, _ in found], [b for _, b in found]


def memory(name: str, peer: Peer, data: Data) -> list[str]:
    """Print what a process of each grows by that fits and scores."""
    ours, theirs = (
        extra_memory(lambda make=make: [run() for run in make(data)]) / 2**20
        for make in (peer.our_runs, peer.their_runs)
    )
    share, bar = ours / max(theirs, 1.0), SHARES.get(name)
    print(f"{name} memory: {ours:.0f} MiB, theirs {theirs:.0f} MiB: {share:.2f} x", flush=True)
    keep(f"{name} memory: offmap / pytorch-ood", [share], f"at most {bar}" if bar else "none")
    return [f"{name} memory {share:.2f} x"] if bar and share > bar else []


if __name__ == "__main__":
    main()
