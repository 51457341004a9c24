"""A guard as a function of batches that can be sent anywhere: only its path travels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from offmap._utils.files import expanded
from offmap._utils.locks import ModuleLock
from offmap.data import OwnTransform, limit_decoding
from offmap.errors import ArgumentError, StoreError
from offmap.forward import Normalization
from offmap.guard import Guard
from offmap.guard.opening import Opening, check_knows_normalization, shape_of
from offmap.scale._items import column_of, images_of, rows_of
from offmap.scale._verdicts import columns_of

_opening = ModuleLock()
# Of this process, and of those that it forks: by folder, hash and options.
_opened: dict[tuple[str, str, str], Guard] = {}


class Scorer:
    """A calibrated guard that any engine can call on its batches.

    It is pickled as the path of the guard and these arguments, and loads the guard once a process,
    when it is first called. A batch is a mapping of columns; what comes back is the same columns
    and those of the verdict. An item that cannot be read gets a row that says why, and costs no
    other its verdict. The verdicts are those of the guard on the same rows, to the bit.

    Args:
        folder: of the guard, on every machine under this path.
        column: of the images: encoded bytes, arrays, pictures, or paths; by default the first of
            ``images``, ``image``, ``pixel_values``, ``x``, ``img``, ``bytes``, ``path``, ``paths``,
            ``file`` that is there; of features, by default the first of ``features``,
            ``embeddings``, ``embedding``, ``X``, ``x``.
        keep: columns that are handed on; by default all.
        prefix: put before the names of the verdict's columns.
        threads: of torch and of decoding, set for each process that calls it. ``None`` leaves both
            at what they are, mostly one for each core; engines that run a process a core want 1.
        device: where to run.
        model: what builds the network, as on the command line: needed if it is not of this library.
        weights: checkpoint, if the guard was saved without it.
        detectors: the guard's own ones, by file or module.
        normalization: of a guard that was fitted on images that were normalised already.
        size: side of the images, if the guard does not know it.
        channels: likewise.
        alarm_rate: another than the guard was calibrated for.
        allow: what the guard's record may name as the maker of its network: see ``offmap.load``.
        transform: ``file.py:NAME``, of the function that made the images of the fit.

    Raises:
        StoreError: there is no guard in the folder.
        ArgumentError: a text in the place of a list of names.

    Example:
        ``dataset.map_batches(Scorer("guard/"))`` in Ray Data, ``dataset.map(Scorer("guard/"),
        batched=True)`` in datasets: see ``docs/how-to/scale.md``.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        column: str | None = None,
        keep: Sequence[str] | None = None,
        prefix: str = "",
        threads: int | None = None,
        device: str | None = None,
        model: str | None = None,
        weights: str | Path | None = None,
        detectors: Sequence[str] = (),
        normalization: Normalization | None = None,
        size: int | None = None,
        channels: int | None = None,
        alarm_rate: float | None = None,
        allow: Sequence[str] = (),
        transform: str | None = None,
    ) -> None:
        for name, value in (("keep", keep), ("detectors", detectors), ("allow", allow)):
            if isinstance(value, str):
                raise ArgumentError(f"{name} must be a list of names; seen the text {value!r}")
        self.folder = str(expanded(folder).absolute())
        self.column, self.prefix, self.threads = column, prefix, threads
        self.keep = None if keep is None else list(keep)
        self.transform = None if transform is None else _absolute(transform)
        self.options: dict[str, Any] = {
            "model": None if model is None else _absolute(model),
            "weights": None if weights is None else str(expanded(weights).absolute()),
            "detectors": [_absolute(spec) for spec in detectors],
            "device": device,
            "normalization": normalization,
            "size": size,
            "channels": channels,
            "alarm_rate": alarm_rate,
            "allow": list(allow),
        }
        # An engine that caches results by what is pickled must not take those of an older guard.
        self.record_sha256 = self._digest()

    def _digest(self) -> str:
        path = Path(self.folder) / "guard.json"
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise StoreError(
                f"{path} cannot be read: {error}; make it with `offmap fit`"
            ) from error

    @property
    def guard(self) -> Guard:
        """The guard, loaded once a process.

        Raises:
            StoreError: it is not there, or is another than when this scorer was made.
            NotFittedError: it has no threshold.
        """
        key = self.folder, self.record_sha256, repr((self.options, self.threads))
        with _opening():
            if key not in _opened:
                if self.threads is not None:
                    torch.set_num_threads(self.threads)
                    limit_decoding(self.threads)
                if self._digest() != self.record_sha256:
                    raise StoreError(
                        f"the guard in {self.folder} is another than when this scorer was made: "
                        "make the scorer anew"
                    )
                guard = Opening(**self.options).open(self.folder)
                check_knows_normalization(guard)
                _ = guard.calibration  # refuses one without a threshold before anything is read
                for stale in [k for k in _opened if k[0] == self.folder and k[1] != key[1]]:
                    del _opened[stale]  # the guard in the folder was replaced
                _opened[key] = guard
            return _opened[key]

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of a batch, and those of the verdict on each of its rows.

        Returns:
            ``label``, int64, -1 where there is none; ``score``, float64, infinite where the network
            gave no finite one, NaN for what could not be read; ``p``, likewise; ``is_ood``, true
            for what could not be read; ``reason``, why there is no score, else empty. With a
            guard that controls its errors, ``accepted``.

        Raises:
            ArgumentError: there is no column of inputs, or none of a name to keep; or one is called
                as one of the verdict's.
        """
        guard = self.guard
        columns = {str(name): values for name, values in batch.items()}
        samples = self._samples(guard, columns)
        verdicts = columns_of(guard, samples)
        if missing := set(self.keep or ()) - columns.keys():
            raise ArgumentError(
                f"there is no column {', '.join(sorted(missing))} to keep: the batch has "
                f"{', '.join(sorted(columns))}"
            )
        inputs = {n: x for n, x in columns.items() if self.keep is None or n in self.keep}
        outputs = {f"{self.prefix}{name}": values for name, values in verdicts.items()}
        if names := sorted(set(inputs) & set(outputs)):
            raise ArgumentError(
                f"the batch has columns {', '.join(names)}, as the verdict does: give "
                "prefix='guard_', or keep= without them"
            )
        return inputs | outputs

    def _samples(self, guard: Guard, columns: dict[str, Any]) -> list[Any]:
        """Each row as a tensor or tensors by name, or why there is none."""
        if guard.input_names or len(guard.input_shape or (0, 0, 0)) == 1:
            return rows_of(columns, guard.input_names, self.column, guard.input_shape)
        own = None if self.transform is None else OwnTransform.of(self.transform)
        guard.check_transform(own)
        name = column_of(columns, self.column)
        return images_of(columns[name], shape_of(guard), resize=guard.input_resize, own=own)

    def __repr__(self) -> str:
        return f"Scorer({self.folder!r})"


def _absolute(spec: str) -> str:
    """A name in a file or module, with the absolute path of a file."""
    path, colon, name = spec.partition(".py:")
    return f"{expanded(path).absolute()}{colon}{name}" if colon else spec
