"""Does neural collapse tell which detector to take? From what ``offmap bench`` has written.

``python -m benchmarks.collapse_and_detectors RESULTS ... [--weights FOLDER]``, folders of
``offmap bench ... --out``, one a network; ``--weights`` holds checkpoints that are not of the zoo

Of each network NC1 to NC5 on its un-augmented training images: those of ``bench``, at least
``--per-class`` of each class, through the activations that ``bench`` has kept. Against them AUROC
of families and detectors, which compares networks, and its advantage over MSP *within* a
network. Spearman's rank correlation over the networks, its 95 % interval (Bonett and Wright 2000),
p over all orders, and Holm's p over the rows. Then what a choice by NC1 costs; and NECO against
MaxLogit, paired, beside NC5.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks._collapsed import RATIO, Network, collapse_table, correlation, measured, together
from benchmarks.auto import AUTO, single
from offmap._utils.table import render
from offmap.detectors import entries
from offmap.metrics import holm

FAMILIES = ("logits", "features", "shapers", "layers")
NAMED = ("maxlogit", "energy", "gen", "neco", "knn", "mahalanobispp", "vim", "cadref", AUTO)
FEW = 5  # networks below which no rank correlation is given
Runs = Mapping[str, Network]
COLLAPSE: dict[str, Callable[[Network], float]] = {
    "NC1": lambda run: run.collapse.nc1,
    "NC5": lambda run: run.nc5,
}


def means(run: Network) -> dict[str, float]:
    """Mean AUROC over the OOD sets, in %: of families, the mean of their members; and of some."""
    of = {name: 100 * run.results.mean(name) for name in ("msp", *single(run.results), AUTO)}
    family = {entry.name: entry.family for entry in entries()}
    members = {f: [of[name] for name in of if family[name] == f] for f in FAMILIES}
    families = {f"{f} ({len(v)})": float(np.mean(v)) for f, v in members.items()}
    return families | {name: of[name] for name in ("msp", *NAMED)}


def advantages(runs: Runs) -> dict[str, list[float]]:
    """The same less MSP, a number for each network."""
    found = [means(run) for run in runs.values()]
    return {row: [of[row] - of["msp"] for of in found] for row in found[0] if row != "msp"}


def correlations(runs: Runs, figure: Callable[[Network], float]) -> str:
    """Of a figure of collapse with AUROC itself, and with the advantage over MSP."""
    collapse, found = [figure(run) for run in runs.values()], [means(run) for run in runs.values()]
    raw = {row: correlation(collapse, [of[row] for of in found])[0] for row in found[0]}
    rows = {row: correlation(collapse, of) for row, of in advantages(runs).items()}
    corrected = holm([p for *_, p in rows.values()])
    cells = {name: [raw[name], *rows[name], p] for name, p in zip(rows, corrected, strict=True)}
    columns = ["AUROC itself", "advantage", "low", "high", "p", "Holm's p"]
    return render(cells, columns, star=False, corner="", digits=3)


def of_one_id(runs: Runs) -> dict[str, Runs]:
    """Networks of the same ID set, where there are enough and others beside them."""
    ids = {name: run.results.settings["plan"]["id"] for name, run in runs.items()}
    parts = {id: {n: run for n, run in runs.items() if ids[n] == id} for id in ids.values()}
    return {id: part for id, part in parts.items() if FEW <= len(part) < len(runs)}


def losses(runs: Runs) -> dict[str, list[float]]:
    """Points behind the best single detector of each network, by ways to choose one without it."""
    of = {n: {d: 100 * r.results.mean(d) for d in single(r.results)} for n, r in runs.items()}
    nc1 = {name: np.log(run.collapse.nc1) for name, run in runs.items()}

    def best(names: Sequence[str]) -> str:
        return max(of[names[0]], key=lambda d: sum(of[name][d] for name in names))

    def lost(choose: Callable[[str, list[str]], list[str]]) -> list[float]:
        chosen = {name: choose(name, [other for other in runs if other != name]) for name in runs}
        return [
            max(of[name].values()) - float(np.mean([of[name][d] for d in chosen[name]]))
            for name in runs
        ]

    def nearest(name: str, others: list[str]) -> list[str]:
        return [best([min(others, key=lambda other: abs(nc1[other] - nc1[name]))])]

    combined = [100 * run.results.mean(AUTO) for run in runs.values()]
    return {
        "best of all other networks": lost(lambda _, others: [best(others)]),
        "best of the network nearest in NC1": lost(nearest),
        "best of another network by chance": lost(lambda _, others: [best([x]) for x in others]),
        "msp": lost(lambda *_: ["msp"]),
        AUTO: [max(of[n].values()) - x for n, x in zip(runs, combined, strict=True)],
    }


def of_neco(runs: Runs, over: str = "maxlogit") -> str:
    """NECO less another, paired, with NC5; and whether it gains as NC5 falls."""
    lines = []
    for detector in ("neco", RATIO):
        gains = {name: run.gain(detector, over, run.sets) for name, run in runs.items()}
        cells = {
            n: [runs[n].nc5, *(100 * x for x in (g.difference, g.low, g.high))]
            for n, g in gains.items()
        }
        columns = ["NC5", "difference", "low", "high"]
        lines += [f"{detector} less {over}, points of mean AUROC, 95 %, by NC5"]
        lines += [render(dict(sorted(cells.items(), key=lambda x: x[1])), columns, star=False)]
        rho, low, high, p = correlation(
            [r.nc5 for r in runs.values()], [g[1] for g in cells.values()]
        )
        lines += [f"over networks: Spearman {rho:+.2f} ({low:+.2f} to {high:+.2f}), p {p:.3f}"]
        by_set = [
            [run.gain(detector, over, [s]).difference for s in run.sets] for run in runs.values()
        ]
        rho, p = together([[*run.collapse.nc5.values()] for run in runs.values()], by_set)
        lines += [f"over the sets of a network: mean Spearman {rho:+.2f}, p {p:.3f}"]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="folders of offmap bench")
    parser.add_argument("--weights", type=Path, default=Path(), help="folder of the checkpoints")
    parser.add_argument("--per-class", type=int, default=100, help="training images at least")
    options = parser.parse_args(arguments)
    runs = {f.name: measured(f, options.weights, options.per_class) for f in options.results}
    print(collapse_table(runs))
    print("\nmean AUROC less that of MSP, in points")
    print(render(advantages(runs), list(runs), star=False, corner=""))
    if len(runs) < FEW:
        return
    for heading, part in {"all": runs, **of_one_id(runs)}.items():
        for name, figure in COLLAPSE.items():
            print(f"\nSpearman's correlation with {name}, {len(part)} networks, {heading}")
            print(correlations(part, figure))
    print("\npoints behind the best single detector of the network, chosen afterwards")
    lost = {how: [*found, float(np.mean(found))] for how, found in losses(runs).items()}
    print(render(lost, [*runs, "mean"], star=False, corner="choice"))
    print(f"\n{of_neco(runs)}")


if __name__ == "__main__":
    main()
