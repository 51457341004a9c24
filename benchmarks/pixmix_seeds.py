"""PixMix minus plain over several trainings: what another seed would show, and not other samples.

``python -m benchmarks.pixmix_seeds FOLDER ...``, what ``offmap study pixmix --seed S --out FOLDER``
has written, one folder a seed

For each detector that all of them have: the difference of the mean AUROC over the OOD sets in each
training, their mean with Student's 95 % interval over the trainings, and in how many of them the
interval of the paired test over samples lies above 0 (+) and below (-).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from offmap import Results
from offmap._utils.table import render
from offmap.metrics import Difference
from offmap.studies import _pixmix_tables as tables

Trainings = list[dict[str, Results]]


def read(folders: Sequence[Path]) -> Trainings:
    """Both networks of each seed."""
    if len(folders) < 2:
        raise SystemExit("one training shows nothing of others: give two folders or more")
    return [{name: Results.load(each / name) for name in ("plain", "pixmix")} for each in folders]


def accuracy(results: Results) -> float:
    """On the known test images."""
    right, images = results.accuracy or (0, 0)
    return right / images if images else float("nan")


def row(tests: Sequence[Difference]) -> list[float]:
    """One detector: each difference, their mean and its interval, and the signs that are sure."""
    from scipy import stats

    of_each = np.array([100 * test.difference for test in tests])
    n, mean = len(of_each), of_each.mean()
    half = stats.t.ppf(0.975, n - 1) * of_each.std(ddof=1) / n**0.5
    above, below = sum(t.low > 0 for t in tests), sum(t.high < 0 for t in tests)
    return [*of_each, mean, mean - half, mean + half, above, below]


def differences(trainings: Trainings) -> dict[str, list[float]]:
    """A row for each detector that all trainings have, the greatest mean first."""
    of_each = [tables.mean_tests(each) for each in trainings]
    shared = [d for d in of_each[0] if all(d in tests for tests in of_each)]
    rows = {d: row([tests[d] for tests in of_each]) for d in shared}
    return dict(sorted(rows.items(), key=lambda item: -item[1][len(trainings)]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+")
    trainings = read(parser.parse_args().folders)
    for number, each in enumerate(trainings, 1):
        right = ", ".join(f"{name} {100 * accuracy(of):.2f} %" for name, of in each.items())
        print(f"training {number}: {right}")
    rows = differences(trainings)
    columns = [*(f"{n}" for n in range(1, len(trainings) + 1)), "mean", "low", "high"]
    cells = {name: of[: len(columns)] for name, of in rows.items()}
    signs = {
        name: [""] * (len(columns) - 1) + [f"  {a}+ {b}-"] for name, (*_, a, b) in rows.items()
    }
    print(render(cells, columns, star=False, notes=signs))
    up, down = (sum(r[-4] > 0 for r in rows.values()), sum(r[-3] < 0 for r in rows.values()))
    print(f"interval over the trainings above 0: {up} of {len(rows)}, below: {down}")


if __name__ == "__main__":
    main()
