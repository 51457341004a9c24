"""Rank metrics against scikit-learn on the same scores, in interleaved pairs.

``python -m benchmarks.metrics [--n 10000000] [--pairs 7] [--dtype float32]``

Three ways to the same five numbers (AUROC, AUPR-out, AUPR-in, FPR@95TPR in both readings):

- scikit-learn: ``roc_auc_score``, two ``average_precision_score``, two ``roc_curve``;
- one call: ``detection``, which sorts once and finds DeLong's interval and the best accuracy too;
- five calls: the five public functions, which share a sort up to two million scores.

Labels and negated scores are made before the clock starts, and no way finds the sort of another.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable

import numpy as np
import scipy
import sklearn
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from benchmarks._measure import keep
from offmap.metrics import _ranking, aupr_in, aupr_out, auroc, detection, fpr_at_tpr

Array = np.ndarray
Numbers = list[float]


def one_call(id_scores: Array, ood_scores: Array) -> Numbers:
    found = detection(id_scores, ood_scores)
    return [found.auroc, found.aupr_out, found.aupr_in, found.fpr_id_kept, found.fpr_ood_caught]


def five_calls(id_scores: Array, ood_scores: Array) -> Numbers:
    return [
        auroc(id_scores, ood_scores),
        aupr_out(id_scores, ood_scores),
        aupr_in(id_scores, ood_scores),
        fpr_at_tpr(id_scores, ood_scores, reading="id_kept"),
        fpr_at_tpr(id_scores, ood_scores, reading="ood_caught"),
    ]


def with_sklearn(is_ood: Array, is_id: Array, scores: Array, negated: Array) -> Numbers:
    return [
        roc_auc_score(is_ood, scores),
        average_precision_score(is_ood, scores),
        average_precision_score(is_id, negated),
        sklearn_fpr(is_id, negated),
        sklearn_fpr(is_ood, scores),
    ]


def sklearn_fpr(positive: Array, scores: Array) -> float:
    # Without dropping points: the one that is wanted may be among the collinear ones.
    fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False)
    return float(fpr[np.argmax(tpr >= 0.95)])


def timed(work: Callable[[], Numbers]) -> tuple[float, Numbers]:
    _ranking._Kept.last = None
    start = time.perf_counter()
    numbers = work()
    return time.perf_counter() - start, numbers


def samples(n: int, dtype: str) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return rng.normal(size=n // 2).astype(dtype), rng.normal(1, 1, size=n - n // 2).astype(dtype)


def spread(values: Array, unit: str) -> str:
    return f"{np.median(values):7.2f}{unit}  ({values.min():.2f} to {values.max():.2f})"


def environment() -> str:
    threads = {name: os.environ.get(name, "unset") for name in ("OMP_NUM_THREADS",)}
    return (
        f"python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, "
        f"scikit-learn {sklearn.__version__}, torch {torch.__version__}\n"
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch threads "
        f"{torch.get_num_threads()}, {threads}; sorting takes one thread on both sides"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000_000, help="scores in all, half of them ID")
    parser.add_argument("--pairs", type=int, default=7, help="interleaved rounds")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    args = parser.parse_args()
    id_scores, ood_scores = samples(args.n, args.dtype)
    scores = np.concatenate([id_scores, ood_scores])
    is_ood = np.repeat([0, 1], [len(id_scores), len(ood_scores)])
    theirs = (is_ood, 1 - is_ood, scores, -scores)
    ways = {
        "scikit-learn": lambda: with_sklearn(*theirs),
        "one call": lambda: one_call(id_scores, ood_scores),
        "five calls": lambda: five_calls(id_scores, ood_scores),
    }
    print(f"{args.n:,} scores, {args.dtype}, {args.pairs} rounds\n{environment()}\n", flush=True)
    rounds = [{name: timed(way) for name, way in ways.items()} for _ in range(args.pairs)]
    seconds = {name: np.array([each[name][0] for each in rounds]) for name in ways}
    for name, times in seconds.items():
        ratio = seconds["scikit-learn"] / times
        print(f"{name:14}{spread(times, ' s')}   {spread(ratio, ' x faster')}")
        if name != "scikit-learn":
            what = f"scikit-learn / {name}, {args.n:,} scores, {args.dtype}"
            keep(what, ratio.tolist(), ">= 10" if name == "one call" else ">= 8")
    last = {name: np.array(numbers) for name, (_, numbers) in rounds[-1].items()}
    worst = max(np.abs(last[name] - last["scikit-learn"]).max() for name in ways)
    print(f"\nlargest difference of a number: {worst:.1e} (allowed: 1e-9)")
    if worst > 1e-9:
        raise SystemExit("the numbers differ")


if __name__ == "__main__":
    main()
