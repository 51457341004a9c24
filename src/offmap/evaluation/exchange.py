"""Why one system's F1 is above or below another's, in counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from offmap.metrics import Outcomes


@dataclass(frozen=True)
class Exchange:
    r"""The gains and costs of one system against another on the same samples.

    With ``R`` right answers among ``A`` accepted, ``n`` ID samples, and ``E = A - R`` what was
    accepted and should not have been (wrong answers and OOD), F1 is ``2 R / (A + n)``, and

    .. math:: F_a - F_b = \frac{(2 - F_b)(R_a - R_b) - F_b (E_a - E_b)}{A_a + n}

    exactly: where the F1 is F, a right answer is worth ``(2 - F) / F`` errors.

    Args:
        right: ``R_a - R_b``.
        wrong: how many more ID samples ``a`` accepts and answers wrongly.
        ood: how many more OOD samples it accepts.
        f1: of ``b``.
        size: ``A_a + n``.
    """

    right: int
    wrong: int
    ood: int
    f1: float
    size: int

    @classmethod
    def of(cls, a: Outcomes, b: Outcomes) -> Exchange:
        """From two systems' outcomes on the same samples."""
        right, wrong, ood = (x - y for x, y in zip(_counts(a), _counts(b), strict=True))
        size = a.selection.accepted + len(a.accepted)
        return cls(right, wrong, ood, b.selection.f1, size)

    @property
    def difference(self) -> float:
        """``F_a - F_b``, by the formula."""
        return ((2 - self.f1) * self.right - self.f1 * (self.wrong + self.ood)) / self.size

    @property
    def price(self) -> float:
        """Errors that one more right answer is worth; infinite where ``b`` has none right."""
        return (2 - self.f1) / self.f1 if self.f1 else float("inf")

    def __str__(self) -> str:
        return (
            f"right answers {self.right:+d}, wrong {self.wrong:+d}, OOD accepted {self.ood:+d}; "
            f"a right one is worth {self.price:.2f} errors: "
            f"({2 - self.f1:.4f} * {self.right} - {self.f1:.4f} * {self.wrong + self.ood}) "
            f"/ {self.size} = {100 * self.difference:+.2f}"
        )


@dataclass(frozen=True)
class Swap:
    r"""What another network's answers change while the filter and its threshold stay.

    .. math:: \Delta F = 2 (a_c d_c - a_f d_f) / (A + n)

    with ``d_c`` the ID samples on which only the other network is right, ``d_f`` those on which
    only the filter's own is, and ``a`` the shares of them that the filter accepts. So the answers
    gain exactly if ``d_c / d_f > a_f / a_c``.

    Args:
        gained: ``d_c`` and how many of them are accepted.
        lost: ``d_f`` and how many of them are accepted.
        size: ``A + n``.
    """

    gained: tuple[int, int]
    lost: tuple[int, int]
    size: int

    @classmethod
    def of(
        cls, own: Bool[np.ndarray, " n"], other: Bool[np.ndarray, " n"], outcomes: Outcomes
    ) -> Swap:
        """From the correct predictions of both networks, and the outcomes of a system.

        Args:
            own: whether the filter's network labels each ID sample rightly.
            other: whether the other does.
            outcomes: of the filter, whoever answers.
        """
        accepted = outcomes.accepted
        size = outcomes.selection.accepted + len(accepted)

        def counts(mask: Bool[np.ndarray, " n"]) -> tuple[int, int]:
            return int(mask.sum()), int((mask & accepted).sum())

        return cls(counts(other & ~own), counts(own & ~other), size)

    @property
    def difference(self) -> float:
        """In F1, by the formula."""
        return 2 * (self.gained[1] - self.lost[1]) / self.size


def _counts(outcomes: Outcomes) -> tuple[int, int, int]:
    """Right, wrong and OOD among the accepted samples."""
    right, ood = outcomes.selection.right, int(outcomes.ood_accepted.sum())
    return right, outcomes.selection.accepted - ood - right, ood
