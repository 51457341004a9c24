"""The data that a guard has learned from, and whether other data overlaps with it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from offmap.errors import ArgumentError, DataError
from offmap.forward import Seen, check_apart


@dataclass
class History:
    """The data that a guard was fitted and calibrated on.

    Sets of ``offmap.data`` have a fingerprint, which is kept with a guard. Of anything else the
    samples themselves are known, by their hashes, as long as the process lives.

    Attributes:
        read: of the data of "fit" and "calibrate": the day, samples, and the network's accuracy.
        fitted_on: fingerprint of the data of "fit", if it had one.
    """

    read: dict[str, Any] = field(default_factory=dict)
    fitted_on: str | None = None
    _fitted: Seen | None = None
    _calibrated: tuple[Seen, ...] = ()

    def fitted(self, data: Any, seen: Seen) -> None:
        """Record the data of "fit", and forget all before."""
        self.read = {"fit": _record(seen)}
        self.fitted_on = _fingerprint(data)
        self._fitted, self._calibrated = seen, ()
        seen.warn_of_labels("the data to fit on")

    def calibrated(
        self, data: Any, seen: Seen, groups: int | None, *, extends: bool = False
    ) -> None:
        """Record the data of "calibrate", and how many groups counted.

        Where they extend a calibration, the record is of the last part, with all fingerprints.
        """
        fingerprint = _fingerprint(data)
        if extends:
            before = self.read.get("calibrate", {}).get("fingerprint")
            fingerprint = " ".join(filter(None, (before, fingerprint))) or None
        self._calibrated = (*(self._calibrated if extends else ()), seen)
        self.read["calibrate"] = _record(seen)
        if fingerprint is not None:
            self.read["calibrate"]["fingerprint"] = fingerprint
        if groups is not None:
            self.read["calibrate"]["groups"] = groups
        seen.warn_of_labels("the calibration data")

    def copied(self) -> Self:
        """A copy, for a guard that may be calibrated by itself."""
        return replace(self, read=dict(self.read))

    def refuse_fitted_on(self, data: Any) -> None:
        """Refuse to calibrate on the set that the guard was fitted on."""
        # Of a joined set, these are those of its parts.
        if _in_common(_fingerprint(data), self.fitted_on):
            raise DataError(
                "this guard was fitted on the same images: calibrate on ID data that neither the "
                "network nor the guard has seen, or the alarm rate does not hold"
            )

    def refuse_learned_from(self, data: Any) -> None:
        """Refuse to measure on a set that the guard has learned from."""
        calibrated_on = self.read.get("calibrate", {}).get("fingerprint")
        for step, fingerprint in (("fitted", self.fitted_on), ("calibrated", calibrated_on)):
            if _in_common(_fingerprint(data), fingerprint):
                raise DataError(
                    f"this guard was {step} on the same samples: give fresh ones, or what is "
                    "measured says nothing of new data"
                )

    def refuse_ungrouped(self, groups: Any) -> None:
        """Refuse samples without groups where the guard was calibrated with groups.

        Raises:
            ArgumentError: they have none.
        """
        if groups is None and "groups" in self.read.get("calibrate", {}):
            raise ArgumentError(
                "this guard was calibrated on one sample of each group, and samples that belong "
                "together would count one by one here: name the groups of these, too; a sample "
                "that stands alone is one of its own"
            )

    def check_apart(self, name: str, data: Any, seen: Seen) -> None:
        """Warn of samples that the guard was fitted on, or refuse them."""
        _compare(name, data, seen, "data to fit on", self._fitted)

    def check_fresh(self, name: str, data: Any, seen: Seen) -> None:
        """The same, also of samples that the threshold comes from."""
        self.check_apart(name, data, seen)
        for part in self._calibrated:
            _compare(name, data, seen, "calibration data", part)


def _record(seen: Seen) -> dict[str, Any]:
    """The samples read, and the day in UTC: with the hour, equal guards would differ."""
    return {"date": datetime.now(UTC).date().isoformat(), **seen.record()}


def _compare(name: str, data: Any, seen: Seen, source: str, before: Seen | None) -> None:
    if before is not None:
        check_apart(name, seen, source, before, sets=hasattr(data, "fingerprint"))


def _fingerprint(data: Any) -> str | None:
    return getattr(data, "fingerprint", None)


def _in_common(fingerprint: str | None, before: str | None) -> bool:
    """Whether two sets share a part: of a joined set, fingerprints are those of its parts."""
    return bool(set((fingerprint or "").split()) & set((before or "").split()))
