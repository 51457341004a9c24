"""A guard as a model of the Triton server: an ONNX graph, and what the server must know of it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from offmap._utils.arguments import whole
from offmap._utils.files import atomic
from offmap.errors import MissingExtraError
from offmap.guard.export import export
from offmap.guard.guard import Guard

_TYPES = {"UINT8": "TYPE_UINT8", "FLOAT": "TYPE_FP32", "DOUBLE": "TYPE_FP64"} | {
    name: f"TYPE_{name}" for name in ("INT32", "INT64", "BOOL")
}


def export_triton(
    guard: Guard,
    folder: str | Path,
    *,
    example: Any,
    max_batch: int = 64,
    tolerance: float = 1e-4,
) -> None:
    """Write ``FOLDER/1/model.onnx`` and ``FOLDER/config.pbtxt``; the folder's name is the model's.

    Triton then gathers requests into batches. The graph's input ``alarm_rate`` keeps its default,
    the guard's rate: Triton knows no input that is not a row's.

    Args:
        guard: fitted and calibrated, in precision "fp32".
        folder: of the model, inside Triton's model repository.
        example: a batch of images, as for :func:`offmap.export`.
        max_batch: the most rows that Triton gathers.
        tolerance: of the check, as for :func:`offmap.export`.

    Raises:
        ArgumentError: this guard has no graph, and why.
        MissingExtraError: the extra ``onnx`` is not installed.
        ExportError: the graph's answers are not the guard's; nothing is written.
    """
    whole("max_batch", max_batch)
    folder = Path(folder)
    path = folder / "1" / "model.onnx"
    export(guard, path, example=example, tolerance=tolerance)
    with atomic(folder / "config.pbtxt") as temporary:
        temporary.write_text(configuration(path, max_batch), encoding="utf-8")


def configuration(path: Path, max_batch: int) -> str:
    """The configuration of Triton for a graph."""
    try:
        onnx: Any = import_module("onnx")
    except ImportError as error:
        raise MissingExtraError("onnx", "onnx") from error
    graph = onnx.load(str(path), load_external_data=False).graph
    defaults = {tensor.name for tensor in graph.initializer}
    inputs = [_tensor(onnx, each) for each in graph.input if each.name not in defaults]
    outputs = [_tensor(onnx, each) for each in graph.output]
    return "\n".join(
        [
            'backend: "onnxruntime"',
            f"max_batch_size: {max_batch}",
            "dynamic_batching { max_queue_delay_microseconds: 2000 }",
            _list("input", inputs),
            _list("output", outputs),
            "",
        ]
    )


def _tensor(onnx: Any, value: Any) -> str:
    """A tensor without its axis of rows; one number a row has the reshape that Triton wants."""
    kind = value.type.tensor_type
    name = onnx.TensorProto.DataType.Name(kind.elem_type)
    dims = [int(dim.dim_value) for dim in kind.shape.dim][1:]
    shape = f"dims: [ {', '.join(map(str, dims or [1]))} ]" + (
        "" if dims else ", reshape: { shape: [ ] }"
    )
    return f'  {{ name: "{value.name}", data_type: {_TYPES[name]}, {shape} }}'


def _list(name: str, tensors: Sequence[str]) -> str:
    return f"{name} [\n" + ",\n".join(tensors) + "\n]"
