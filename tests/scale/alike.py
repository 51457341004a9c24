"""Whether two fits are one: up to the order in which sums were added."""

from __future__ import annotations

from torch import Tensor, allclose, equal, float64


def close(a: Tensor, b: Tensor) -> bool:
    """Equal to 1e-10 of their size, or to the rounding of what is kept in float32."""
    if not a.is_floating_point():
        return equal(a, b)
    finite = b[b.isfinite()].abs()
    size = float(finite.max()) if finite.numel() else 0.0
    tolerance = (1e-10 if a.dtype == float64 else 1e-6) * size
    return allclose(a, b, rtol=0, atol=tolerance, equal_nan=True)


def alike(a: Tensor, b: Tensor) -> bool:
    """The same; a basis or a root up to the turns that change nothing of what it measures."""
    if a.shape != b.shape:
        return False
    return close(a, b) or (a.ndim == 2 and (close(a.T @ a, b.T @ b) or close(a @ a.T, b @ b.T)))
