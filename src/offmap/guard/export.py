"""A guard as one file that runs without this library: an ONNX model, or a torch.export program."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from offmap._utils.files import atomic
from offmap.activations import Activations
from offmap.detectors import why_not_exported
from offmap.errors import ArgumentError, ExportError, MissingExtraError, OffmapError
from offmap.guard._graph import Graph, Outputs
from offmap.guard._record import graph_record_of
from offmap.guard.guard import Guard

_OUTPUTS = ("label", "score", "p_value", "is_ood")
_FORMATS = (".onnx", ".pt2")
# Beyond it torch writes weights into a second file, and one file could not take another's place.
_LARGEST_ONNX = 1536 << 20


def export(guard: Guard, path: str | Path, *, example: Any, tolerance: float = 1e-4) -> None:
    """Write a calibrated guard as one graph from images to answers, and check that it agrees.

    The graph takes ``images`` of the example's type and shape, in batches of any size, and gives
    ``label`` (int64), ``score`` (float32), ``p_value`` (float64) and ``is_ood`` (bool), each of
    shape ``(n,)``. The normalisation is inside if the example is uint8. An ONNX graph also takes
    ``alarm_rate``, one float64, which is the guard's if it is left out: decisions are then those of
    :meth:`Guard.at`, and rates for which there are too few calibration samples raise no alarm but
    for what is not finite. A torch program keeps the guard's rate.

    Before the file takes its place it is run on the example. A detector's score may move by
    ``tolerance`` times its own size plus the median size of its calibration scores: what rounding
    does to terms that cancel. Score, p-value and decision must lie between those that scores moved
    down and up so far would give, and the label's logit that close to the largest.

    What was exported, and its threshold, stands in the properties of the ONNX model, or in the
    extra file ``offmap.json`` of the program; with :meth:`Guard.control`, so does ``control``, up
    to whose threshold a score is accepted. The network's mode is as before; other threads must
    not run it meanwhile.

    Args:
        guard: fitted and calibrated, in precision "fp32".
        path: ends in ``.onnx``, or in ``.pt2`` for ``torch.export.load``, which unpickles: load
            only such files as you made. A program runs on the device that the guard is on.
        example: a batch of images, uint8 or normalised, as the graph will be given them.
        tolerance: of the check.

    Raises:
        NotFittedError: the guard has no threshold yet, or the network was trained on since.
        ArgumentError: another suffix; or this guard has no graph, and why.
        MissingExtraError: ONNX needs the extra ``onnx``.
        ExportError: the network cannot be traced, or the graph's answers are not the guard's;
            no file is written, and an older one stays.
    """
    path = Path(path)
    _check_possible(guard, path, example)
    record = graph_record_of(guard)
    guard.refuse_changed()
    with guard.probe as probe, torch.no_grad():
        acts = probe(example)
        acts.check_finite()
        program = _traced(guard, example, takes_rate=path.suffix == ".onnx")
    outputs: Outputs
    with atomic(path) as temporary:
        with _converting(path.name):
            if path.suffix == ".onnx":
                outputs = _through_onnx(program, temporary, record, example)
            else:
                torch.export.save(
                    program, temporary, extra_files={"offmap.json": json.dumps(record)}
                )
                with torch.no_grad():
                    outputs = torch.export.load(temporary).module()(example)
        _check_equal(guard, acts, outputs, tolerance)


def _check_possible(guard: Guard, path: Path, example: Any) -> None:
    """Refuse, before any work, what cannot be exported."""
    if path.suffix not in _FORMATS:
        raise ArgumentError(f"export writes {' and '.join(_FORMATS)} files; seen {path.name!r}")
    if precisions := {part.precision for part in guard.probe.parts} - {"fp32"}:
        raise ArgumentError(
            f"graphs are exported in precision 'fp32'; this guard has {precisions.pop()!r}, "
            "and its threshold holds for that alone: make, fit and calibrate one in 'fp32'"
        )
    if not isinstance(example, Tensor):
        raise ArgumentError(
            f"graphs take one tensor, and example is a {type(example).__name__}: guards over "
            "tensors by name are not exported"
        )
    if example.ndim < 2 or len(example) == 0:
        raise ArgumentError(f"example must be a batch of images; seen shape {tuple(example.shape)}")
    for root in guard.each():
        if (reason := why_not_exported(root)) is not None:
            raise ArgumentError(reason)
    if path.suffix != ".onnx":
        return
    for name in ("onnx", "onnxscript", "onnxruntime"):
        _extra(name)
    parts = [*guard.probe.network.state_dict().values(), *guard.detectors.state_dict().values()]
    tensors = [x for x in parts if isinstance(x, Tensor)]  # layers may keep other state
    if (size := sum(x.numel() * x.element_size() for x in tensors)) > _LARGEST_ONNX:
        raise ArgumentError(
            f"network and detectors hold {size / 2**30:.1f} GiB, more than one ONNX file can: "
            "export to .pt2"
        )


def _extra(name: str) -> Any:
    """A library of the extra; none of them ships types."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(name, "onnx") from error


def _traced(guard: Guard, example: Tensor, *, takes_rate: bool) -> ExportedProgram:
    # Not the example itself: programs keep what they were traced on, and images may be private.
    images = example.new_zeros((2, *example.shape[1:]))
    graph = Graph(guard)
    args = (images, graph.alarm_rate) if takes_rate else (images,)
    # Without a greatest one torch 2.7 proves that no batch may hold 2**63 - 1 images, and stops.
    batch = torch.export.Dim("batch", max=2**31 - 1)
    shapes = ({0: batch}, {})[: len(args)]
    with _converting(f"the network {type(guard.probe.network).__name__}"):
        # Strict, as it was by default before torch 2.9, follows no hooks and no contexts of ours.
        program = torch.export.export(graph, args, dynamic_shapes=shapes, strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names the folders of this machine
    return program


@contextmanager
def _converting(subject: str) -> Iterator[None]:
    """Silence torch's notes about itself, and say what could not be exported."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OffmapError:
        raise
    except Exception as error:
        raise ExportError(
            f"{subject} cannot be exported: {type(error).__name__}: {error}"
        ) from error
    finally:
        logger.setLevel(level)


def _through_onnx(
    program: ExportedProgram, path: Path, record: Mapping[str, Any], images: Tensor
) -> Outputs:
    """Write the program as an ONNX model, and run what was written on the images."""
    model = torch.onnx.export(
        program,
        input_names=["images", "alarm_rate"],
        output_names=list(_OUTPUTS),
        dynamic_shapes=({0: "batch"}, {}),
        dynamo=True,
        verbose=False,
    )
    assert model is not None
    # An initializer with an input's name is its default.
    rate = model.model.graph.inputs[1]
    value = np.array(record["alarm_rate"], np.float64)
    rate.const_value = _extra("onnx_ir").tensor(value, name=rate.name)
    model.model.graph.register_initializer(rate)
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in record.items()}
    model.model.metadata_props.update(texts)
    model.save(str(path))
    runtime = _extra("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors only: it warns that the alarm rate can be changed
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    arrays = session.run(list(_OUTPUTS), {"images": images.cpu().numpy()})
    label, score, p, is_ood = (torch.from_numpy(x) for x in arrays)
    return label, score, p, is_ood


def _check_equal(guard: Guard, acts: Activations, outputs: Outputs, tolerance: float) -> None:
    """Refuse answers that rounding within the tolerance does not explain; see :func:`export`."""
    label, score, p, is_ood = (x.to(acts.device) for x in outputs)
    scores = guard.score_activations(acts)
    size = scores.abs() + guard.calibration.scores_.abs().median(dim=1).values
    error = tolerance * size + torch.finfo(size.dtype).tiny
    low, high = (guard.calibration(scores + sign * error, label) for sign in (-1, 1))
    if acts.has_predictions:  # the logit of each label is the greatest, but for rounding
        z = acts.logits if acts.classifier_logits is None else acts.classifier_logits
        correct = z.gather(1, label[:, None])[:, 0] >= z.amax(1) - tolerance * z.abs().amax(1)
    else:
        correct = label == -1
    digits = 1e-6 * (low[0].abs() + high[0].abs())  # of a logarithm's float32
    correct &= (low[0] - digits <= score) & (score <= high[0] + digits)
    correct &= (high[1] - 1e-9 <= p) & (p <= low[1] + 1e-9)
    correct &= (low[2] <= is_ood) & (is_ood <= high[2])
    if not correct.all():
        expected = guard.calibration(scores, label)[0]
        raise ExportError(
            f"{int((~correct).sum())} of {len(correct)} answers of the graph are not the guard's "
            f"within {tolerance:g}; scores differ by up to "
            f"{float((score - expected).abs().max()):.3g}: nothing was written; try the other "
            "format, or a larger tolerance if that is enough"
        )
