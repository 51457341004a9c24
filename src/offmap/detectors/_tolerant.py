"""Composites that go on without the parts that cannot be fitted."""

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
    """Stands for a part that is left out, with the reason.

    Attributes:
        reason_: the text, as bytes.
    """

    needs = Needs(0)
    absent = True
    reason_: Tensor

    @classmethod
    def because(cls, reason: str) -> Self:
        """The placeholder of a part that is left out for this reason."""
        placeholder = cls()
        placeholder.set_buffers(reason_=packed_keys((reason,)))
        return placeholder

    @property
    def reason(self) -> str:
        """Why the part is left out."""
        (text,) = unpacked_keys(self.reason_) or ("",)
        return text


class Tolerant(Composite):
    """A composite that scores with those of its parts that can be fitted.

    A part is left out if its needs are not met, if it cannot be solved, or if a subclass says so;
    :attr:`left_out` gives the reasons. With no part remaining, fitting is refused.

    Args:
        parts: the detectors that it is made of; they are copied.
    """

    def __init__(self, parts: Sequence[Detector]) -> None:
        super().__init__(parts)
        # Unfitted, for a later fit; not as modules, so that their tensors are not saved.
        self.__dict__["prototypes"] = [deepcopy(part) for part in self.all_parts()]
        for part in self.prototypes:
            part.reset()

    prototypes: list[Detector]

    goes_on = True

    def leave_out(self, i: int, error: Exception | str) -> None:
        """Go on without part ``i``, for a reason.

        Raises:
            NeedsError: it was the last.
        """
        reason = str(error)
        for prefix in (repr(self.prototypes[i]), repr(self)):  # the names in front of the message
            reason = reason.removeprefix(prefix).lstrip(": ")
        self.parts[i] = Absent.because(reason)
        self.renew_needs()
        if not self.used:
            reasons = "; ".join(f"{name}: {cause}" for name, cause in self.left_out.items())
            raise NeedsError(f"{self!r}: none of its parts can be used here: {reasons}")

    @property
    def used(self) -> list[int]:
        """The numbers of the parts that are not left out."""
        return [i for i, part in enumerate(self.all_parts()) if not part.absent]

    @property
    def left_out(self) -> dict[str, str]:
        """The reasons of the parts that are left out, by name."""
        pairs = zip(self.prototypes, self.all_parts(), strict=True)
        return {
            repr(prototype): part.reason for prototype, part in pairs if isinstance(part, Absent)
        }

    def part_scores(self, acts: Activations | Sample) -> list[Float[Tensor, " n"]]:
        """The score of each part that is used."""
        return [self.part(i)(self.view(i, acts)) for i in self.used]

    def reset(self) -> None:
        self.parts = nn.ModuleList(deepcopy(part) for part in self.prototypes)
        super().reset()

    def make_room(self, names: Iterable[str]) -> None:
        names = list(names)
        for i in range(len(self.parts)):
            if f"parts.{i}.reason_" in names:
                self.parts[i] = Absent()
        super().make_room(names)
