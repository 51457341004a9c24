"""``auto`` against every single detector, from what ``offmap bench`` has written for some networks.

``python -m benchmarks.auto RESULTS ...``, each a folder of ``offmap bench ... --out``

For each network: the mean AUROC over all its OOD sets and over the near ones, the best single
detector for each, chosen afterwards, and the paired difference with its 95 % interval (DeLong, the
sets of a network share their ID samples). Then the best *fixed* single detector over all networks.
Bars: above the best single one on six of eight networks, on none more than 0.3 points below; 0.7
above the best fixed one; near sets of CIFAR-100 within 1 point of the best single one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import offmap
from offmap.detectors import entries
from offmap.metrics import Difference, Placements, placed_difference

AUTO = "auto"


def single(results: offmap.Results) -> list[str]:
    """The detectors that combine no others."""
    composed = {entry.name for entry in entries() if entry.family in ("combined", "ensembles")}
    return [name for name in results.detectors if name not in composed]


def best(results: offmap.Results, group: str | None) -> str:
    return max(single(results), key=lambda name: results.mean(name, group=group))


def against(results: offmap.Results, other: str, group: str | None) -> Difference:
    groups = [group] if group else results.groups
    sets = [name for each in groups for name in results.groups[each]]
    a, b = (
        Placements.of(scores["id"], [scores[name] for name in sets])
        for scores in (results.scores[AUTO], results.scores[other])
    )
    return placed_difference(a, b)


def row(name: str, results: offmap.Results, group: str | None) -> str:
    other = best(results, group)
    means = [100 * results.mean(each, group=group) for each in (AUTO, other)]
    found = against(results, other, group)
    interval = f"{100 * found.low:+.2f} to {100 * found.high:+.2f}"
    words = f"{100 * found.difference:+.2f} ({interval})"
    return f"{name:14} {group or 'all':5} {means[0]:6.2f} {other:16} {means[1]:6.2f}  {words}"


def fixed(each: Iterable[offmap.Results]) -> list[tuple[float, str]]:
    """The mean over the networks of each single detector that all of them have."""
    runs = list(each)
    common = set.intersection(*(set(single(results)) for results in runs))
    means = [(sum(r.mean(name) for r in runs) / len(runs), name) for name in common | {AUTO}]
    return sorted(means, reverse=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="folders of offmap bench")
    folders = parser.parse_args(arguments).results
    runs = {folder.name: offmap.Results.load(folder) for folder in folders}
    print("AUROC in %: auto, the best single detector, and the paired difference (95 %)")
    for group in (None, "near"):
        for name, results in runs.items():
            print(row(name, results, group))
    print(f"mean over {len(runs)} networks, all sets: auto and the best fixed single detectors")
    means = fixed(runs.values())
    for mean, name in means:
        if name == AUTO or mean in [m for m, _ in means[:6]]:
            print(f"{name:16} {100 * mean:6.2f}")


if __name__ == "__main__":
    main()
