"""Errors of statistics and scores when classes collapse to points far apart.

``python -m benchmarks.precision [--limit N]``

Ten classes of 64 features, whose means spread by 4, with a spread within of 1, 0.1 and 0.01.
Measured, as the largest error relative to the truth:

- the pooled within-class scatter of 100,000 samples, from sums of squares in float32 and float64
  (subtract ``n`` times the squared mean), and from the form of Chan, Golub and LeVeque (1983) in
  float32 and in float64, which is ours; all added up over batches of 1,000;
- scores of 500 samples, half as far out again: ours, and the plain float32 formula that one
  would write first (sums of squares and an inverse; an expanded square for KNN's distance).

The truth is computed in ``np.longdouble`` from the same float32 samples, differences first;
for ViM its eigenvectors, which NumPy has only in float64, are those of the longdouble moment.
Bar: our scatter within 1e-12, our scores within 1e-6, at every spread. KNN in float32 is shown and
has no bar: it orders neighbours by float32 similarities, which is what its ``precision`` is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import torch
from torch import Tensor

from benchmarks._measure import arguments, print_settings
from offmap import KNN, Activations, Detector, Head, Mahalanobis, ViM
from offmap.stats import ClassMoments

Exact = np.ndarray  # of np.longdouble

CLASSES, FEATURES, BATCH, QUERIES, BANK, K = 10, 64, 1000, 500, 2000, 50
DIM = 10  # of the class means: a cut through noise of one variance has no answer to compare with
FAR = 4.0  # deviation of each coordinate of a class mean


@dataclass(frozen=True)
class Sample:
    """Training samples with labels, queries, and a head."""

    x: Tensor
    labels: Tensor
    queries: Tensor
    head: Head

    @classmethod
    def of(cls, n: int, spread: float) -> Sample:
        """Gaussians of this spread about means far apart."""
        generator = torch.Generator().manual_seed(0)
        means = FAR * torch.randn(CLASSES, FEATURES, generator=generator)
        labels = torch.arange(n + QUERIES) % CLASSES
        noise = torch.randn(n + QUERIES, FEATURES, generator=generator)
        noise[n:] *= 1.5
        x = means[labels] + spread * noise
        head = Head(means / means.norm(dim=1, keepdim=True), torch.linspace(-1, 1, CLASSES))
        return cls(x[:n], labels[:n], x[n:], head)

    def parts(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.x.split(BATCH), self.labels.split(BATCH), strict=True))

    def acts(self, x: Tensor) -> Activations:
        return Activations(self.head(x), x)


def main() -> None:
    options = arguments(__doc__).parse_args()
    print_settings(threads=torch.get_num_threads(), batch=BATCH, classes=CLASSES, features=FEATURES)
    for spread in (1.0, 0.1, 0.01):
        sample = Sample.of(options.limit or 100_000, spread)
        print(f"spread {spread}, n {len(sample.x):,}")
        for name, error in (scatters(sample) | scores(sample)).items():
            print(f"  {name}: {error:.1e}")


def scatters(s: Sample) -> dict[str, float]:
    """Relative errors of the pooled scatter, in the Frobenius norm."""
    truth = moments(s)[1]
    found = {
        "scatter, float32 sums": raw_scatter(s, torch.float32),
        "scatter, float64 sums": raw_scatter(s, torch.float64),
        "scatter, float32 Chan": chan(s, torch.float32).scatter,
        "scatter, float64 Chan (ours)": chan(s, torch.float64).scatter,
    }
    size = np.sqrt(np.square(truth).sum())
    return {
        name: float(np.sqrt(np.square(exact(matrix) - truth).sum()) / size)
        for name, matrix in found.items()
    }


def scores(s: Sample) -> dict[str, float]:
    """Largest relative errors of the scores."""
    bank = s.x[:BANK]
    truth = {"Mahalanobis": mahalanobis(s), "ViM": vim(s), "KNN": knn(s, bank)}
    found = {
        "Mahalanobis (ours)": ours(Mahalanobis(ridge=0.0), s, s.parts()),
        "Mahalanobis, plain float32": plain_mahalanobis(s),
        "ViM (ours)": ours(ViM(DIM), s, s.parts()),
        "KNN float32 (ours)": ours(KNN(K), s, [(bank, s.labels[:BANK])]),
        "KNN float64 (ours)": ours(KNN(K, precision="float64"), s, [(bank, s.labels[:BANK])]),
        "KNN, plain float32": plain_knn(s, bank),
    }
    return {
        f"score, {name}": worst(scores, truth[name.partition(",")[0].split()[0]])
        for name, scores in found.items()
    }


def ours(detector: Detector, s: Sample, parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    detector.fit([(s.acts(x), labels) for x, labels in parts], head=s.head)
    return detector.score(s.acts(s.queries))


def chan(s: Sample, dtype: torch.dtype) -> ClassMoments:
    if dtype == torch.float64:
        return reduce(add, (ClassMoments.of(x, y, classes=CLASSES) for x, y in s.parts()))
    return reduce(add, (chan_part(x, y) for x, y in s.parts()))


def chan_part(x: Tensor, labels: Tensor) -> ClassMoments:
    """``ClassMoments.of`` without its float64; their sum is the library's."""
    count = torch.bincount(labels, minlength=CLASSES).to(x)
    mean = torch.zeros(CLASSES, FEATURES).index_add_(0, labels, x) / count[:, None]
    centred = x - mean[labels]
    return ClassMoments(count, mean, centred.T @ centred)


def raw_scatter(s: Sample, dtype: torch.dtype) -> Tensor:
    return reduce(add, (x.to(dtype).T @ x.to(dtype) for x, _ in s.parts())) - squared_means(
        s, dtype
    )


def squared_means(s: Sample, dtype: torch.dtype) -> Tensor:
    """Sum over the classes of ``n m m'``."""
    total = torch.zeros(CLASSES, FEATURES, dtype=dtype).index_add_(0, s.labels, s.x.to(dtype))
    count = torch.bincount(s.labels, minlength=CLASSES).to(dtype)[:, None]
    return (total / count).T @ total


def plain_mahalanobis(s: Sample) -> Tensor:
    precision = torch.linalg.inv(raw_scatter(s, torch.float32) / len(s.x))
    means = torch.stack([s.x[s.labels == c].mean(0) for c in range(CLASSES)])
    gaps = s.queries[:, None] - means
    return torch.einsum("ncd,de,nce->nc", gaps, precision, gaps).amin(1)


def plain_knn(s: Sample, bank: Tensor) -> Tensor:
    a, b = (torch.nn.functional.normalize(x) for x in (s.queries, bank))
    squares = 2 - 2 * a @ b.T
    return squares.clamp(min=0).sqrt().kthvalue(K).values


def moments(s: Sample) -> tuple[Exact, Exact]:
    """Class means and pooled scatter."""
    x, labels = exact(s.x), s.labels.numpy()
    means = np.stack([x[labels == c].mean(0) for c in range(CLASSES)])
    return means, product(x - means[labels])


def product(x: Exact) -> Exact:
    """``x' x`` by rows of the result: longdouble has no BLAS."""
    return np.stack([(x * column[:, None]).sum(0) for column in x.T])


def mahalanobis(s: Sample) -> Exact:
    means, scatter = moments(s)
    inverse = inverted(scatter / len(s.x))
    gaps = exact(s.queries)[:, None] - means
    return np.stack([((gaps[:, c] @ inverse) * gaps[:, c]).sum(1) for c in range(CLASSES)]).min(0)


def inverted(matrix: Exact) -> Exact:
    """By Gauss-Jordan elimination; the matrix is positive definite, so no pivot is sought."""
    both = np.hstack([matrix, np.eye(len(matrix), dtype=np.longdouble)])
    for i in range(len(matrix)):
        both[i] /= both[i, i]
        others = np.arange(len(matrix)) != i
        both[others] -= both[others, i : i + 1] * both[i]
    return both[:, len(matrix) :]


def vim(s: Sample) -> Exact:
    weight, bias = s.head.weight.double().numpy(), s.head.bias.double().numpy()
    x = exact(s.x) + np.linalg.pinv(weight, rcond=1e-4) @ bias
    vectors = np.linalg.eigh((product(x) / len(x)).astype(np.float64))[1]
    residual = vectors[:, : FEATURES - DIM].astype(np.longdouble)
    norms = np.sqrt(np.square(x @ residual).sum(1))
    alpha = exact(s.head(s.x)).max(1).mean() / norms.mean()
    q = exact(s.queries) + np.linalg.pinv(weight, rcond=1e-4) @ bias
    logits = exact(s.head(s.queries))
    top = logits.max(1)
    energy = top + np.log(np.exp(logits - top[:, None]).sum(1))
    return alpha * np.sqrt(np.square(q @ residual).sum(1)) - energy


def knn(s: Sample, bank: Tensor) -> Exact:
    a, b = (x / np.sqrt(np.square(x).sum(1, keepdims=True)) for x in map(exact, (s.queries, bank)))
    squares = np.stack([np.square(row - b).sum(1) for row in a])
    return np.sqrt(np.sort(squares, axis=1)[:, K - 1])


def exact(x: Tensor) -> Exact:
    return x.double().numpy().astype(np.longdouble)


def worst(found: Tensor, truth: Exact) -> float:
    return float((np.abs(exact(found) - truth) / np.abs(truth)).max())


if __name__ == "__main__":
    main()
