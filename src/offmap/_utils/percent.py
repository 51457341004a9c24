"""Shares in percent, for the sentences of reports and messages."""

from __future__ import annotations

from math import ceil, floor, log10


def percent(share: float, digits: int = 0) -> str:
    """A share as it was typed: with that many decimals, or as many as it needs.

    >>> percent(0.95), percent(0.995), percent(0.05, 2), percent(0.00025, 2)
    ('95%', '99.5%', '5.00%', '0.025%')
    """
    exact, padded = f"{100 * share:.6g}", f"{100 * share:.{digits}f}"
    return f"{padded if float(padded) == float(exact) else exact}%"


def about(share: float) -> str:
    """A measured share, to two decimals, or two significant digits if it is smaller.

    With fewer, a rate of one in 100,000 would read as 0.

    >>> about(0.0599), about(0.000041), about(0.0)
    ('5.99%', '0.0041%', '0.00%')
    """
    return f"{100 * share:.{_digits(share)}f}%"


def at_most(share: float) -> str:
    """An upper limit, rounded up to two decimals, or two significant digits if it is smaller.

    Rounded to the nearest, it could be below the limit, or 0.

    >>> at_most(0.05), at_most(0.063211), at_most(0.000041), at_most(0.0)
    ('5.00%', '6.33%', '0.0041%', '0.00%')
    """
    digits = _digits(share)
    unit = 10**digits
    return f"{ceil(100 * share * unit - 1e-6) / unit:.{digits}f}%"


def _digits(share: float) -> int:
    return max(2, 1 - floor(log10(100 * share))) if share > 0 else 2
