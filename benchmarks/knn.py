"""KNN's exact search against scikit-learn's, on the features of ResNet-20.

``python -m benchmarks.knn --weights FILE [--pairs 7] [--limit N]``, with ``$OFFMAP_DATA``

Measured: ``KNN(k=50).score`` of CIFAR-10's 10,000 test features over a bank of its 50,000 training
features, all queries in one call and in batches as ``evaluate`` makes them. Against: scikit-learn's
``NearestNeighbors(algorithm="brute")`` on the same rows, float32 and already normalised (ours
normalises within the call), as many threads. Bar: at most 1.3 times as long.

Distances must be equal: those of ``KNN(precision="float64")`` to scikit-learn's on float64 rows.
In float32, scikit-learn's come from an expanded square and ours from the difference.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from benchmarks import _cifar
from benchmarks._measure import interleaved
from offmap import KNN, Activations, Normalization
from offmap.forward import forward

K = 50


def main() -> None:
    made = _cifar.parser(__doc__)
    made.add_argument("--query-batch", type=int, default=256, help="of the batched queries (256)")
    options = _cifar.started(made, "scikit-learn")
    bank, queries = (features(f"cifar10:{split}", options) for split in ("train", "test"))
    print(f"bank {len(bank):,}, queries {len(queries):,}, {bank.features.shape[1]} features, k {K}")
    detector = KNN(K).fit([(bank, None)])
    baseline = search(rows(bank, np.float32), rows(queries, np.float32))
    for name, size in (("one call", len(queries)), ("batched", options.query_batch)):
        parts = [queries[i : i + size] for i in range(0, len(queries), size)]
        score = (f"offmap, {name}", lambda parts=parts: [detector.score(p) for p in parts])
        interleaved(score, ("scikit-learn", baseline), options.pairs).print("at most 1.3")
    print_equality(bank, queries, baseline())


def features(name: str, options: object) -> Activations:
    """Activations of a whole set."""
    shared = {"batch_size": options.batch_size, "channels_last": not options.contiguous}
    normalization = Normalization(_cifar.MEAN, _cifar.STD)
    network, images = _cifar.network(options.weights), _cifar.load(name, options.limit)
    batches = list(forward(network, images, normalization=normalization, **shared))
    return Activations(
        torch.cat([acts.logits for acts, _ in batches]),
        torch.cat([acts.features for acts, _ in batches]),
    )


def rows(acts: Activations, dtype: type[np.floating]) -> NDArray[np.floating]:
    """Features of norm 1."""
    x = acts.features.double()
    return (x / x.norm(dim=1, keepdim=True)).numpy().astype(dtype)


def search(bank: NDArray[np.floating], queries: NDArray[np.floating]):
    """A function that gives the distances to the k-th neighbours."""
    fitted = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(bank)
    return lambda: fitted.kneighbors(queries)[0][:, -1]


def print_equality(bank: Activations, queries: Activations, float32: NDArray[np.float32]) -> None:
    exact = search(rows(bank, np.float64), rows(queries, np.float64))()
    for precision in ("float64", "float32"):
        ours = KNN(K, precision=precision).fit([(bank, None)]).score(queries).numpy()
        print(f"largest difference, KNN({precision}) to scikit-learn float64: {gap(ours, exact)}")
    print(f"largest difference, scikit-learn float32 to float64: {gap(float32, exact)}")


def gap(found: NDArray[np.floating], exact: NDArray[np.float64]) -> str:
    return f"{np.abs(found - exact).max():.2g} (distances {exact.min():.3g} to {exact.max():.3g})"


if __name__ == "__main__":
    main()
