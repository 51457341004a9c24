"""Composites that go on without the parts that cannot be used where they are fitted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Self

from jaxtyping import Float
from torch import Tensor, nn

from offmap.activations import Activations, Sample
from offmap.detectors._composite import Composite
from offmap.detectors._detector import Detector
from offmap.detectors._keys import packed_keys, unpacked_keys
from offmap.detectors._needs import Needs
from offmap.errors import NeedsError


class Absent(Detector):
    """Stands in the place of a part that cannot be used, and says why.

    Attributes:
        reason_: the words, as bytes.
    """

    needs = Needs(0)
    absent = True
    reason_: Tensor

    @classmethod
    def because(cls, reason: str) -> Self:
        """What stands for a part that is left out for this reason."""
        made = cls()
        made.set_buffers(reason_=packed_keys((reason,)))
        return made

    @property
    def reason(self) -> str:
        """Why the part is left out."""
        (text,) = unpacked_keys(self.reason_) or ("",)
        return text


class Tolerant(Composite):
    """A composite whose score is of those parts alone that can be fitted and scored.

    A part is left out if what it needs is not there, if it cannot be solved, or if a subclass says
    so; :attr:`left_out` says why. With none left, fitting is refused.

    Args:
        parts: the detectors that it is made of; they are copied.
    """

    def __init__(self, parts: Sequence[Detector]) -> None:
        super().__init__(parts)
        # As they were given; not as modules, as those that are left out hold nothing.
        self.__dict__["whole"] = [deepcopy(part) for part in self.all_parts()]
        for part in self.whole:
            part.reset()

    whole: list[Detector]

    goes_on = True

    def leave_out(self, i: int, error: Exception | str) -> None:
        """Go on without part ``i``, for a reason.

        Raises:
            NeedsError: it was the last.
        """
        reason = str(error)
        for who in (repr(self.whole[i]), repr(self)):  # of which it says something
            reason = reason.removeprefix(who).lstrip(": ")
        self.parts[i] = Absent.because(reason)
        self.renew_needs()
        if not self.used:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.left_out.items())
            raise NeedsError(f"{self!r}: none of its parts can be used here: {reasons}")

    @property
    def used(self) -> list[int]:
        """The numbers of the parts that are not left out."""
        return [i for i, part in enumerate(self.all_parts()) if not part.absent]

    @property
    def left_out(self) -> dict[str, str]:
        """Why each part that is left out is so, by its name."""
        pairs = zip(self.whole, self.all_parts(), strict=True)
        return {repr(of): part.reason for of, part in pairs if isinstance(part, Absent)}

    def part_scores(self, acts: Activations | Sample) -> list[Float[Tensor, " n"]]:
        """The score of each part that is used."""
        return [self.part(i)(self.view(i, acts)) for i in self.used]

    def reset(self) -> None:
        self.parts = nn.ModuleList(deepcopy(part) for part in self.whole)
        super().reset()

    def make_room(self, names: Iterable[str]) -> None:
        names = list(names)
        for i in range(len(self.parts)):
            if f"parts.{i}.reason_" in names:
                self.parts[i] = Absent()
        super().make_room(names)
