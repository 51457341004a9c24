"""Tensors of the Open Inference Protocol, in JSON and in binary form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offmap.serve.refusals import Refusal

DATATYPES: dict[str, str] = {  # little-endian, as the protocol has them
    "BOOL": "?",
    "UINT8": "|u1",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
Parameters = dict[str, Any] | None  # clients say null of what they leave out
Extent = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


class InputTensor(msgspec.Struct):
    """An input of a request.

    Args:
        name: of it.
        shape: the rows first.
        datatype: as the protocol calls it.
        parameters: ``binary_data_size`` where the values stand behind the JSON.
        data: the values, flat or nested, where they do not.
    """

    name: str
    shape: Annotated[list[Extent], msgspec.Meta(min_length=1, max_length=8)]
    datatype: str
    parameters: Parameters = None
    data: Any = None

    @property
    def count(self) -> int:
        """How many values the shape has."""
        return math.prod(self.shape)

    @property
    def binary_size(self) -> int | None:
        """Bytes behind the JSON, if the values stand there.

        Raises:
            Refusal: it is no size, or not that of the shape.
        """
        size = (self.parameters or {}).get("binary_data_size")
        if size is None:
            return None
        nbytes = self.count * np.dtype(DATATYPES[self.datatype]).itemsize
        if isinstance(size, bool) or not isinstance(size, int) or size != nbytes:
            raise Refusal(400, f"{self.name}: binary_data_size must be that of its shape, {nbytes}")
        return size


def check_datatypes(inputs: Sequence[InputTensor], datatypes: Sequence[str]) -> None:
    """Refuse what the guard does not read, before any value is looked at.

    Raises:
        Refusal: a datatype is none of these, an input is given twice, or has no values.
    """
    if len({tensor.name for tensor in inputs}) < len(inputs):
        raise Refusal(400, "an input is given twice")
    for tensor in inputs:
        if tensor.datatype not in datatypes:
            raise Refusal(400, f"the datatype must be {' or '.join(datatypes)}")
        if not tensor.count:  # numpy reads no empty buffer, nor a shape of 0 and huge numbers
            raise Refusal(400, f"{tensor.name} needs one row or more, with values")


def from_json(tensor: InputTensor) -> Tensor:
    """The values that stand in the JSON.

    Raises:
        Refusal: they are not of the datatype, or not as many as the shape says.
    """
    kind = np.dtype(DATATYPES[tensor.datatype])
    try:
        check_numbers(tensor.data)
        values = np.asarray(tensor.data)
    except (ValueError, OverflowError, RecursionError):  # lists of several lengths, or too deep
        raise Refusal(400, f"{tensor.name}: data must be numbers, in equal lists") from None
    if values.dtype.kind not in "iuf" or values.size != tensor.count:
        raise Refusal(400, f"{tensor.name}: data must be {tensor.count:,} numbers, by its shape")
    with np.errstate(over="ignore", invalid="ignore"):
        exact = values.astype(kind)
    if kind.kind != "f" and (values.dtype.kind == "f" or not np.array_equal(exact, values)):
        raise Refusal(400, f"{tensor.name}: data must be whole numbers of {tensor.datatype}")
    return torch.from_numpy(exact.reshape(tensor.shape))


def check_numbers(values: Any) -> None:
    """Refuse what is no number before numpy sees it: among texts each takes the longest's memory.

    Raises:
        ValueError: something of it is no number.
    """
    if not set(map(type, np.asarray(values, object).flat)) <= {int, float}:
        raise ValueError("no numbers")


def from_binary(tensor: InputTensor, buffer: memoryview) -> Tensor:
    """The values that stand behind the JSON, in as many bytes as their shape needs."""
    values = np.frombuffer(buffer, DATATYPES[tensor.datatype], tensor.count)
    return torch.from_numpy(np.require(values, requirements=["A", "W"]).reshape(tensor.shape))


def output(name: str, datatype: str, values: Sequence[Any], *, binary: bool) -> Any:
    """An output, and its bytes where they are asked for."""
    entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": [len(values)]}
    if not binary:
        return entry | {"data": values}, b""
    content = as_array(datatype, values).tobytes()
    return entry | {"parameters": {"binary_data_size": len(content)}}, content


def as_array(datatype: str, values: Sequence[Any]) -> NDArray[Any]:
    """Values as an array; a score that is not finite, which JSON lacks, is infinity."""
    return np.array([math.inf if x is None else x for x in values], DATATYPES[datatype])
