"""Every score once more: slow, in float64 NumPy, written from the formulas of METHODS.

Each function returns the scores and, for each, the sum of the absolute terms of its formula, which
is what errors are measured against.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Pair = tuple[Array, Array]


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max())
    return e / e.sum()


def logsumexp(z: Array) -> float:
    return float(z.max() + np.log(np.exp(z - z.max()).sum()))


def pairs(rows: list[tuple[float, float]]) -> Pair:
    scores, terms = np.array(rows, dtype=np.float64).T
    return scores, terms


def msp(z: Array) -> Pair:
    rows = []
    for row in z:
        p = softmax(row)
        others = np.delete(p, row.argmax()).sum()
        rows.append((others, others))
    return pairs(rows)


def maxlogit(z: Array) -> Pair:
    return pairs([(-row.max(), abs(row.max())) for row in z])


def anchordistance(z: Array) -> Pair:
    rows = []
    for d in -z:
        softmin = np.exp(-d) / np.exp(-d).sum()
        gamma = [d[j] * np.delete(softmin, j).sum() for j in range(len(d))]
        rows.append((min(gamma), min(gamma)))
    return pairs(rows)


def energy(z: Array, temperature: float = 1.0) -> Pair:
    values = [-temperature * logsumexp(row / temperature) for row in z]
    return pairs([(v, abs(v)) for v in values])


def entropy(z: Array) -> Pair:
    rows = []
    for row in z:
        log_p = row - logsumexp(row)
        log_p[row.argmax()] = np.log1p(-np.delete(softmax(row), row.argmax()).sum())
        value = -(np.exp(log_p) * log_p).sum()
        rows.append((value, value))
    return pairs(rows)


def kluniform(z: Array) -> Pair:
    return pairs(
        [(row.mean() - logsumexp(row), abs(row.mean()) + abs(logsumexp(row))) for row in z]
    )


def gen(z: Array, gamma: float = 0.1, top: int = 100) -> Pair:
    rows = []
    for row in z:
        p = softmax(row)
        value = 0.0
        for j in np.argsort(-p)[:top]:
            rest = np.delete(p, j).sum()
            value += p[j] ** gamma * rest**gamma
        rows.append((value, value))
    return pairs(rows)


def class_means(h: Array, y: Array) -> dict[int, Array]:
    return {int(c): h[y == c].mean(0) for c in np.unique(y)}


def pooled(h: Array, y: Array) -> Array:
    means = class_means(h, y)
    total = np.zeros((h.shape[1],) * 2)
    for row, label in zip(h, y, strict=True):
        gap = row - means[int(label)]
        total += np.outer(gap, gap)
    return total / len(h)


def ridged(covariance: Array, ridge: float, variances: Array | None = None) -> Array:
    """Each variance by its own share; or by that of other ones, times the mean ratio to them."""
    variances = np.diag(covariance) if variances is None else variances
    return covariance + ridge * np.mean(np.diag(covariance) / variances) * np.diag(variances)


def mahalanobis(h: Array, train: Array, y: Array, ridge: float = 1e-6) -> Pair:
    inverse = np.linalg.inv(ridged(pooled(train, y), ridge))
    means = class_means(train, y)
    values = [min((x - m) @ inverse @ (x - m) for m in means.values()) for x in h]
    return pairs([(v, v) for v in values])


def relativemahalanobis(h: Array, train: Array, y: Array, ridge: float = 1e-6) -> Pair:
    nearest, _ = mahalanobis(h, train, y, ridge)
    centre = train.mean(0)
    gap = train - centre
    inverse = np.linalg.inv(ridged(gap.T @ gap / len(train), ridge))
    overall = np.array([(x - centre) @ inverse @ (x - centre) for x in h])
    return nearest - overall, nearest + overall


def unit(x: Array) -> Array:
    norm = np.linalg.norm(x)
    return x / norm if norm > 0 else x


def knn(h: Array, train: Array, k: int = 50) -> Pair:
    bank = np.stack([unit(x) for x in train])
    values = [np.sort(np.linalg.norm(bank - unit(x), axis=1))[k - 1] for x in h]
    return pairs([(v, 2.0) for v in values])  # a difference of two unit vectors


def complement(train: Array, weight: Array, bias: Array, dim: int) -> tuple[Array, Array]:
    origin = -np.linalg.pinv(weight, rcond=1e-4) @ bias
    x = train - origin
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    leading = vectors[:, np.argsort(-values)[:dim]]
    return origin, np.eye(len(values)) - leading @ leading.T


def residual(h: Array, train: Array, weight: Array, bias: Array, dim: int) -> Pair:
    origin, projector = complement(train, weight, bias, dim)
    values = [np.linalg.norm(projector @ (x - origin)) for x in h]
    return pairs([(v, v) for v in values])


def vim(h: Array, train: Array, weight: Array, bias: Array, dim: int) -> Pair:
    norms, _ = residual(h, train, weight, bias, dim)
    train_norms, _ = residual(train, train, weight, bias, dim)
    alpha = (train @ weight.T + bias).max(1).sum() / train_norms.sum()
    energies = np.array([logsumexp(x @ weight.T + bias) for x in h])
    return alpha * norms - energies, alpha * norms + abs(energies)


def neco(
    h: Array,
    z: Array,
    train: Array,
    dim: int,
    *,
    scale: bool = True,
    center: bool = True,
    denominator: str = "scaled",
    times_max_logit: bool = True,
) -> Pair:
    mean = train.mean(0)
    deviation = train.std(0) if scale else np.ones_like(mean)
    deviation = np.where(deviation < 1e-12, 1.0, deviation)
    x = (train - mean) / deviation if scale else train
    gap = x - x.mean(0)
    values, vectors = np.linalg.eigh(gap.T @ gap / len(gap))
    leading = vectors[:, np.argsort(-values)[:dim]]
    rows = []
    for raw, logits in zip(h, z, strict=True):
        scaled = (raw - mean) / deviation if scale else raw
        inside = scaled - x.mean(0) if center else scaled
        below = np.linalg.norm(scaled if denominator == "scaled" else raw)
        share = np.linalg.norm(leading.T @ inside) / below if below > 0 else 0.0
        value = share * logits.max() if times_max_logit else share
        rows.append((-value, abs(value)))
    return pairs(rows)


def react(h: Array, train: Array, weight: Array, bias: Array, quantile: float = 0.9) -> Pair:
    clipped = np.minimum(h, np.quantile(train, quantile))
    return energy(clipped @ weight.T + bias)


def careful_entropy(p: Array) -> float:
    """Entropy of probabilities, the logarithm of the largest from the sum of the others."""
    top = p.argmax()
    value = -np.log1p(-np.delete(p, top).sum()) * p[top]
    for j in range(len(p)):
        if j != top and p[j] > 0:
            value -= p[j] * np.log(p[j])
    return float(value)


def mean_probabilities(z: Array) -> Array:
    """Of logits ``(m, n, c)``, the members' mean ``(n, c)``."""
    return np.stack([np.mean([softmax(z[m, i]) for m in range(len(z))], axis=0) for i in rows(z)])


def rows(z: Array) -> range:
    return range(z.shape[1])


def maxprobability(z: Array) -> Pair:
    values = [np.delete(q, q.argmax()).sum() for q in mean_probabilities(z)]
    return pairs([(v, v) for v in values])


def totalentropy(z: Array) -> Pair:
    values = [careful_entropy(q) for q in mean_probabilities(z)]
    return pairs([(v, v) for v in values])


def expectedentropy(z: Array) -> Pair:
    values = [np.mean([careful_entropy(softmax(row)) for row in z[:, i]]) for i in rows(z)]
    return pairs([(v, v) for v in values])


def mutualinformation(z: Array) -> Pair:
    """The plain difference; against the score itself, but for the float64 rounding of its terms."""
    total, expected = totalentropy(z)[0], expectedentropy(z)[0]
    return total - expected, total - expected + 1e-9 * total


def membermean(each: list[Pair]) -> Pair:
    scores, terms = (np.mean(part, axis=0) for part in zip(*each, strict=True))
    return scores, terms
