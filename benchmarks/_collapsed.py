"""A network that ``offmap bench`` has evaluated, with its neural collapse; and rank correlation."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import offmap
from offmap import data, networks
from offmap._utils.table import render
from offmap.detectors import taps_of
from offmap.evaluation.collapse import Collapse
from offmap.evaluation.measure import measure
from offmap.metrics import Difference, Placements, placed_difference
from offmap.training import normalization

RATIO = "NECO(times_max_logit=False)"
EXACT = 8  # values up to which all orders are tried
DRAWN = 40_000  # orders of more


@dataclass(frozen=True)
class Network:
    """The catalogue on a network, its collapse, and NECO with what it is held against."""

    results: offmap.Results
    collapse: Collapse
    neco: offmap.Results

    @property
    def sets(self) -> list[str]:
        return list(self.collapse.nc5)

    @property
    def nc5(self) -> float:
        return float(np.mean([*self.collapse.nc5.values()]))

    def gain(self, detector: str, over: str, sets: Sequence[str]) -> Difference:
        """The difference of the mean AUROC over some sets, paired."""
        a, b = (
            Placements.of(scores["id"], [scores[name] for name in sets])
            for scores in (self.neco.scores[detector], self.neco.scores[over])
        )
        return placed_difference(a, b)


def measured(folder: Path, weights: Path, per_class: int) -> Network:
    """Read a folder, and measure its network on the data that its plan names."""
    results = offmap.Results.load(folder)
    model, file, plan = (results.settings[key] for key in ("model", "weights", "plan"))
    known = data.load(plan["id"], limit=plan["limit"], seed=plan["seed"])

    def load(spec: str, limit: int | None) -> Any:
        return data.load_like(spec, known, limit=limit, seed=plan["seed"])

    limit = plan.get("train_limit") or plan["limit"]
    found = measure(
        networks.build(model, weights=weights / file if file else None),
        load(
            plan["train"] or f"{plan['id']}:train",
            limit and max(limit, per_class * len(known.classes)),
        ),
        id_test=known.split(0.1, seed=plan["seed"])[1],
        ood={
            name: load(spec, plan["limit"]) for name, spec in (plan["near"] | plan["far"]).items()
        },
        detectors=["msp", "maxlogit", "energy", "neco", RATIO],
        cache=folder / "activations",
        # Activations of bench are found by all that it read.
        taps=[tap for name in results.detectors for tap in taps_of(offmap.detector(name))],
        normalization=normalization(
            plan["normalization"] or (model if model.startswith("zoo:") else plan["id"])
        ),
        show_progress=False,
    )
    assert found.results is not None
    return Network(results, found.collapse, found.results)


def collapse_table(runs: Mapping[str, Network]) -> str:
    """The figures of collapse, a row for each network."""
    figures = {name: run.collapse.figures() for name, run in runs.items()}
    names = ("n", "accuracy", "nc1", "nc2_norms", "nc2_angles", "nc2_simplex", "nc3", "nc4")
    cells = {n: [*(float(f[x]) for x in names), runs[n].nc5] for n, f in figures.items()}
    return render(cells, [*names, "nc5, mean"], star=False, corner="network", digits=4)


def correlation(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float, float]:
    """Spearman's correlation, its 95 % interval, and the share of orders as far from 0 or more."""
    rho, p = together([a], [b])
    half = 1.96 * np.sqrt((1 + rho**2 / 2) / (len(a) - 3))
    middle = np.arctanh(np.clip(rho, -1 + 1e-9, 1 - 1e-9))
    return rho, float(np.tanh(middle - half)), float(np.tanh(middle + half)), p


def together(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The mean over groups of Spearman's correlation, and p over the orders of their columns.

    The columns of all groups change places together: what two groups share is no further evidence.
    """
    x, y = (np.stack([_ranks(row) for row in rows]) for rows in (a, b))
    orders = _orders(x.shape[1])
    found = np.einsum("gn,gon->o", x, y[:, orders]) / x.size
    rho = float((x * y).mean())
    return rho, float(np.mean(np.abs(found) >= abs(rho) - 1e-9))


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    from scipy.stats import rankdata  # here: it takes a second

    found = rankdata(values)
    # What is the same everywhere has no order: correlation 0.
    return np.asarray((found - found.mean()) / (found.std() or 1))


def _orders(n: int) -> NDArray[np.int64]:
    if n <= EXACT:
        return np.array([*itertools.permutations(range(n))])
    drawn = np.tile(np.arange(n), (DRAWN, 1))
    return np.random.default_rng(0).permuted(drawn, axis=1)
