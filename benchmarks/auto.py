"""``auto`` against every single detector, from what ``offmap bench`` has written for some networks.

``python -m benchmarks.auto RESULTS ... [--bounds 2 3]``, folders of ``offmap bench ... --out``

For each network: the mean AUROC over all its OOD sets and over the near ones, the best single
detector for each, chosen afterwards, and the paired difference with its 95 % interval (DeLong, the
sets of a network share their ID samples). Then the best *fixed* single detector over all networks.
Bars: above the best single one on six of eight networks, on none more than 0.3 points below; 0.7
above the best fixed one; near sets of CIFAR-100 within 1 point of the best single one.

``--bounds``: the mean over the networks if a member's share were bounded from so many deviations
on, and without a bound; from the members' own scores, on the scale of the ID samples evaluated.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import offmap
from offmap.detectors import entries
from offmap.detectors.combined.auto import Auto, bounded
from offmap.metrics import Difference, Placements, auroc, placed_difference

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


def with_bound(results: offmap.Results, start: float) -> float:
    """The mean AUROC over the OOD sets of the members by default, bounded from there on."""
    names = [each.record()["detector"] for each in Auto().members]
    known = table(results, names, "id")

    def score(name: str) -> torch.Tensor:
        t = (table(results, names, name) - known.mean(0)) / known.std(0)
        return F.softplus(bounded(t, start)).mean(1)

    sets = [name for each in results.groups.values() for name in each]
    return sum(auroc(score("id"), score(name)) for name in sets) / len(sets)


def table(results: offmap.Results, detectors: Sequence[str], name: str) -> torch.Tensor:
    """The scores of some detectors on a set, a column each."""
    columns = [results.scores[detector][name] for detector in detectors]
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.float64))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="folders of offmap bench")
    parser.add_argument("--bounds", nargs="*", type=float, default=[], help="of a member's share")
    options = parser.parse_args(arguments)
    folders = options.results
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
    for start in (*options.bounds, float("inf")) if options.bounds else ():
        mean = sum(with_bound(results, start) for results in runs.values()) / len(runs)
        print(f"members bounded from {start:g} deviations on: {100 * mean:.2f}")


if __name__ == "__main__":
    main()
