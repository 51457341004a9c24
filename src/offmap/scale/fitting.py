"""Fitting and calibrating by Ray: statistics come back from shards, are added, and solved once."""

from __future__ import annotations

from typing import Any

from offmap.guard import Guard
from offmap.scale._workers import Workers


def fit(
    guard: Guard,
    data: Any,
    *,
    workers: int = 2,
    threads: int = 1,
    batch_size: int = 256,
    device: str | None = None,
    show_progress: bool | None = None,
) -> Guard:
    """Fit a guard as :meth:`Guard.fit` does, with several processes over shards of the data.

    In each pass every shard of sixteen or more batches gives its statistic, the statistics are
    added here in the order of the shards, and solved once; the detectors go out with the next pass.
    A shard counts once, by its number, even where the worker that had it died. So the detectors are
    those of one process: banks to the bit, sums to 1e-10 of their size; for any
    number of workers they are equal to the bit. The network runs once over each shard, as what
    later passes read is kept on the disk of the worker. For Ray sessions see :func:`score`.

    All detectors can be fitted so, as their statistics add. Samples that stand in two sets are not
    looked for, since hashes of all samples would have to be in memory here.

    Args:
        guard: is fitted in place, and sent to the workers with its network.
        data: a set of ``offmap.data``, its name or path; or an object with ``len`` and
            ``batches(batch_size, start)`` that can be pickled. Sets that are streamed are read by
            the workers, under the same paths.
        workers: processes.
        threads: of torch and of decoding, in each.
        batch_size: samples a batch.
        device: of the workers, each of which takes one GPU if it is "cuda".
        show_progress: ``None`` shows a bar on a terminal.

    Raises:
        ArgumentError: a loader, or a network that cannot be sent; or as for :func:`score`.
        MissingExtraError: Ray is not installed.
    """
    with Workers(workers, threads, device, show_progress) as spread:
        return guard.fit(data, batch_size=batch_size, spread=spread, show_progress=False)


def calibrate(
    guard: Guard,
    data: Any,
    alarm_rate: Any = None,
    *,
    workers: int = 2,
    threads: int = 1,
    batch_size: int = 256,
    device: str | None = None,
    show_progress: bool | None = None,
    **options: Any,
) -> Guard:
    """Calibrate a guard as :meth:`Guard.calibrate` does, with several processes.

    Detectors that learn on calibration data do so as in :func:`fit`; scores come back in order.

    Args:
        guard: is calibrated in place.
        data: as for :func:`fit`.
        alarm_rate: as for :meth:`Guard.calibrate`.
        workers: processes.
        threads: of torch and of decoding, in each.
        batch_size: samples a batch.
        device: of the workers.
        show_progress: ``None`` shows a bar on a terminal.
        **options: ``confidence``, ``per_class``, ``pool``, ``learn_share``; ``groups`` are for one
            process.

    Raises:
        ArgumentError: as for :func:`fit`, and for :meth:`Guard.calibrate`.
    """
    with Workers(workers, threads, device, show_progress) as spread:
        return guard.calibrate(
            data, alarm_rate, batch_size=batch_size, spread=spread, show_progress=False, **options
        )
