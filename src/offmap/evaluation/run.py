"""Detectors on OOD sets, from one pass of the network over each sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from torch import nn

from offmap._utils.arguments import number, one_of
from offmap.detectors import LEARN_SHARE, Detector, taps_of
from offmap.errors import ArgumentError
from offmap.evaluation._inputs import check_settings, data_sets, scorers
from offmap.evaluation._overlaps import check_other_sets
from offmap.evaluation._running import Running, detectors_of
from offmap.evaluation.results import Results
from offmap.forward import ProbeOptions, check_options, class_names, forward, probe_of
from offmap.guard.decide import alarm_rank, exact_rate

if TYPE_CHECKING:
    from offmap.scale import Passes


def evaluate(
    network: nn.Module,
    *,
    id_test: Any,
    ood: Mapping[str, Any],
    train: Any = None,
    calibration: Any = None,
    id_shift: Mapping[str, Any] | None = None,
    detectors: str | Detector | Mapping[str, Any] | Iterable[Any] = "all",
    on_error: Literal["raise", "skip"] | None = None,
    alarm_rate: float = 0.05,
    learn_share: float = LEARN_SHARE,
    batch_size: int = 256,
    cache: str | Path | None = None,
    show_progress: bool | None = None,
    settings: Mapping[str, Any] | None = None,
    engine: str | None = None,
    workers: int = 2,
    **probe: Unpack[ProbeOptions],
) -> Results:
    """Evaluate detectors on OOD sets; the network, or each part of it, sees each sample once.

    Data are names or paths as for :func:`offmap.data.load` (brought to the shape of the ID set),
    sets of ``offmap.data``, or any iterable of ``(images, labels)`` batches.

    Args:
        network: the classifier; an ensemble of some, see :class:`offmap.networks.Ensemble`; or a
            cascade, see :class:`offmap.Cascade`: scores are then of its filter, predictions and
            accuracy of its classifier.
        id_test: in-distribution data that the network was not trained on.
        ood: OOD sets by name, ``{"textures": data}``, or by group and name,
            ``{"near": {"cifar100": data}, "far": {...}}``.
        train: what the network was trained on, un-augmented; read if a detector needs it.
        calibration: ID data that is neither in ``train`` nor in ``id_test``; gives each detector a
            threshold.
        id_shift: shifted ID data by name: of another source, corrupted, resized. How detectors fare
            on it, and on OOD beside it, is in ``results.shifts``.
        detectors: "all"; a name, expression or detector, or several of these; or ``{name: detector
            or function}``, where a function maps :class:`Activations` to ``(n,)`` scores, float64
            or float32. Detectors are fitted here.
        on_error: "skip" leaves out, with the reason, detectors that cannot be fitted on this
            network or without training data, or cannot score what it gives; "raise" refuses them.
            ``None`` skips of "all" only.
        alarm_rate: share of ID that may be called OOD at the thresholds.
        learn_share: share of the calibration data to learn on, for detectors that do, such as
            TemperatureScaled; the rest, told by a hash of each sample's key, gives the thresholds.
        batch_size: samples a batch.
        cache: folder for activations, so that a second run needs no network: see ``forward``.
        show_progress: ``None`` shows bars on a terminal.
        settings: more to keep in the results' settings.
        engine: "ray" lets other processes run the network, see :class:`offmap.scale.Passes`; all
            else happens here, so the results are those of one process with as many threads. Without
            a cache; ``device`` is that of the workers.
        workers: of the engine, of one thread each.
        **probe: ``head``, ``device``, ``precision``, ``normalization``, ...: see :class:`Probe`.

    Warns:
        ChanceWarning: the network is hardly right on a labelled set.
        FeaturesWarning: detectors read features that may not be those of the head.
        OverlapWarning: samples are in two sets.

    Raises:
        DataError: one set in two parts, or more than 1 % of a set in another; loaders are warned
            of.
        ArgumentError: two detectors or sets of one name, no OOD set, no such option, an alarm rate
            that is none or needs more calibration samples, settings that are no JSON, or an engine
            that is not known or has a cache beside it.
        NeedsError: a detector that was named needs training data or a head, and there is none.
        NonFiniteError: activations or scores are NaN or infinite.
    """
    check_options(probe, evaluate)
    learn_share = number("learn_share", learn_share, above=0, below=1)
    exact_rate(alarm_rate, "alarm_rate")  # what cannot be right must not show at the end
    check_settings(settings)
    start = time.perf_counter()
    sets = data_sets(id_test, ood, calibration, train, id_shift, class_names(network))
    check_other_sets(sets)
    for item in sets:
        if item.role == "calibration" and hasattr(item.data, "fingerprint"):
            alarm_rank(len(item.data), alarm_rate)  # too few samples must not show at the end
    if on_error is None:
        on_error = "skip" if detectors == "all" else "raise"
    skip = one_of("on_error", on_error, ("raise", "skip")) == "skip"
    by_name = scorers(detectors)
    probe["taps"] = [
        *probe.pop("taps", ()),
        *(tap for d in detectors_of(by_name).values() for tap in taps_of(d)),
    ]
    options = {"batch_size": batch_size, "cache": cache, "show_progress": show_progress}
    with ExitStack() as stack:
        run: Callable[..., Iterator[Any]] = forward
        if engine is not None:
            device = probe.pop("device", None)
            run = stack.enter_context(_passes(engine, workers, device, cache))
        network_probe = stack.enter_context(probe_of(network, **probe))
        state = Running(
            network_probe, run, by_name, options, skip, learn_share, alarm_rate, stack, sets
        )
        state.fit({item.role: item for item in sets})
        for item in sets:
            if item.role != "train":
                state.score(item)
    rate = alarm_rate if calibration is not None else None
    return Results(
        rows=state.rows(rate),
        scores=state.scores,
        sets=state.infos,
        settings={
            **state.settings(),
            "batch_size": batch_size,
            "alarm_rate": rate,
            "seconds": {"all": time.perf_counter() - start, **state.seconds},
            **(settings or {}),
        },
        summaries={n: d.summary() for n, d in detectors_of(state.chosen).items()},
        left_out=state.left_out,
        predictions=state.predictions,
        labels=state.labels,
        keys=state.keys,
    )


def _passes(engine: str, workers: int, device: Any, cache: Any) -> Passes:
    if engine != "ray":
        raise ArgumentError(f"no engine {engine!r}: there is 'ray'; leave it out for one process")
    if cache is not None:
        raise ArgumentError("activations are kept by one process alone: leave out cache=")
    from offmap.scale import Passes

    return Passes(workers, 1, None if device is None else str(device))
