"""Does the false-alarm rate hold? 200 random calibration/test splits of real CIFAR-10 scores.

``python -m benchmarks.coverage --weights FILE [--splits 200]``, with ``$OFFMAP_DATA``; or
``--results DIR``, the scores that ``offmap bench ... --out DIR`` has kept

The 10,000 test images of CIFAR-10, which neither the network nor the fit has seen, are cut at
random into ``n`` for calibration and the rest for measuring, for each detector alone and for three
of them combined. Bar: the mean rate of false alarms lies within ``floor(a (n + 1)) / (n + 1) +- 4
sqrt(a (1 - a) (1/n + 1/m) / splits)``; where scores tie it may lie below, and so may Bonferroni's,
which is valid and not exact.

Then certificates (5 %, confidence 95 %) from 200, 1,000 and 5,000 samples: how many of the splits
are above 5 % on the rest, against the exact beta-binomial probability. Bar: within 4 standard
errors of it; below, where scores tie.
"""

from __future__ import annotations

import argparse
import math

import torch
from scipy import stats
from torch import Tensor

import offmap
from benchmarks import _cifar
from benchmarks._measure import print_settings
from offmap.guard import Calibration

RATES = (0.01, 0.05, 0.1)
CERTIFIED = (200, 1000, 5000)
COMBINED = ("msp", "knn", "vim")


def mean_alarms(rule: str, rate: float, scores: Tensor, n: int, splits: int) -> float:
    alarms = []
    labels = torch.zeros(len(scores), dtype=torch.long)
    for seed in range(splits):
        order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(seed))
        calibration = Calibration(rule, rate)
        calibration.learn(scores[order[:n]], labels[order[:n]], 1)
        *_, is_ood = calibration(scores[order[n:]], labels[order[n:]])
        alarms.append(float(is_ood.double().mean()))
    return sum(alarms) / splits


def report(name: str, rule: str, scores: Tensor, n: int, splits: int) -> None:
    m = len(scores) - n
    for rate in RATES:
        exact = math.floor(rate * (n + 1)) / (n + 1)
        bound = 4 * math.sqrt(rate * (1 - rate) * (1 / n + 1 / m) / splits)
        mean = mean_alarms(rule, rate, scores, n, splits)
        below = rule == "bonferroni" or len(scores.unique()) < len(scores)
        inside = abs(mean - exact) <= bound or (below and mean < exact)
        verdict = "within" if inside else "OUTSIDE"
        print(f"{name:<24} {rate:6.2f} {mean:9.5f}  {exact:.5f} +- {bound:.5f}  {verdict}")


def certificates(name: str, scores: Tensor, n: int, splits: int, rate: float = 0.05) -> None:
    m = len(scores) - n
    above = 0
    for seed in range(splits):
        order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(seed))
        calibration = Calibration("plain", rate, confidence=0.95)
        labels = torch.zeros(len(scores), dtype=torch.long)
        calibration.learn(scores[order[:n]], labels[:n], 1)
        *_, is_ood = calibration(scores[order[n:]], labels[n:])
        above += int(is_ood.sum()) > rate * m
    k = int(calibration.ranks)
    exact = float(stats.betabinom.sf(math.floor(rate * m), m, k, n + 1 - k))
    bound = 4 * math.sqrt(exact * (1 - exact) / splits)
    inside = above / splits <= exact + bound
    inside &= above / splits >= exact - bound or len(scores.unique()) < len(scores)
    verdict = "within" if inside else "OUTSIDE"
    print(f"{name:<24} {n:6d} {above / splits:9.3f}  {exact:.3f} +- {bound:.3f}  {verdict}")


def evaluated(weights: str, detectors: list[str] | str) -> offmap.Results:
    return offmap.evaluate(
        _cifar.network(weights),
        train=_cifar.load("cifar10:train"),
        id_test=_cifar.load("cifar10:test"),
        ood={"textures": _cifar.load("textures")},
        normalization=offmap.Normalization(_cifar.MEAN, _cifar.STD),
        detectors=detectors,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights")
    source.add_argument("--results")
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--detectors", nargs="+", default="all")
    options = parser.parse_args()
    print_settings(splits=options.splits, n=options.n)
    if options.results:
        results = offmap.Results.load(options.results)
    else:
        results = evaluated(options.weights, options.detectors)
    columns = {d: torch.tensor(results.scores[d]["id"]) for d in results.detectors}
    for name, scores in columns.items():
        report(name, "plain", scores[:, None], options.n, options.splits)
    if set(COMBINED) <= set(columns):
        both = torch.stack([columns[name] for name in COMBINED], dim=1)
        report(f"bonferroni of {'+'.join(COMBINED)}", "bonferroni", both, options.n, options.splits)
    print("\ncertificates of 5 % above it on the rest: share of splits, exact probability")
    for name, scores in columns.items():
        for n in CERTIFIED:
            certificates(name, scores[:, None], n, options.splits)


if __name__ == "__main__":
    main()
