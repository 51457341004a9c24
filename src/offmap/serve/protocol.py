"""The Open Inference Protocol, version 2, over HTTP: JSON, and tensors in binary form.

What of it is there stands in ``docs/how-to/serve.md``; no gRPC, no shared memory, no sequences.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from torch import Tensor

from offmap._utils.inputs import Inputs, count_of
from offmap.serve.judging import Query
from offmap.serve.refusals import Refusal
from offmap.serve.served import Columns, Served
from offmap.serve.service import Service
from offmap.serve.tensors import (
    InputTensor,
    Parameters,
    check_datatypes,
    from_binary,
    from_json,
    output,
)

LENGTH = "Inference-Header-Content-Length"
VERSION = "1"
_SMALL = 16 << 10  # bytes of a body that is parsed sooner than a thread takes it
# As an exported graph has them.
OUTPUTS = {"label": "INT64", "score": "FP32", "p_value": "FP64", "is_ood": "BOOL"}


class RequestedOutput(msgspec.Struct):
    """An output that a request asks for."""

    name: str
    parameters: Parameters = None


class Infer(msgspec.Struct):
    """A request."""

    inputs: Annotated[list[InputTensor], msgspec.Meta(min_length=1, max_length=16)]
    id: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    parameters: Parameters = None
    outputs: Annotated[list[RequestedOutput], msgspec.Meta(max_length=16)] | None = None

    def tensors(self, binary: memoryview) -> dict[str, Tensor]:
        """The values of all inputs; those in binary form follow each other behind the JSON.

        Raises:
            Refusal: there are fewer bytes behind the JSON, or more; or values that do not fit.
        """
        tensors: dict[str, Tensor] = {}
        for each in self.inputs:
            if (size := each.binary_size) is None:
                tensors[each.name] = from_json(each)
                continue
            if size > len(binary):
                raise Refusal(400, f"{each.name}: the body ends before its {size:,} bytes")
            tensors[each.name] = from_binary(each, binary[:size])
            binary = binary[size:]
        if len(binary):
            raise Refusal(400, f"{len(binary):,} bytes behind the JSON belong to no input")
        return tensors

    def response(self, name: str, columns: Columns) -> Response:
        """The answer to it, from the columns of the verdict; ``name`` is that of the model."""
        all_binary = (self.parameters or {}).get("binary_data_output") is True
        outputs = self.outputs or [RequestedOutput(each) for each in OUTPUTS]
        columns = columns | {"label": [-1 if x is None else x for x in columns["label"]]}
        entries, parts = [], []
        for each in outputs:
            binary = (each.parameters or {}).get("binary_data", all_binary) is True
            datatype, values = OUTPUTS[each.name], columns[each.name]
            entry, part = output(each.name, datatype, values, binary=binary)
            entries.append(entry)
            parts.append(part)
        content = {"model_name": name, "model_version": VERSION, "outputs": entries}
        if self.id is not None:
            content["id"] = self.id
        head = msgspec.json.encode(content)
        if not any(parts):
            return Response(head, media_type="application/json")
        body, headers = head + b"".join(parts), {LENGTH: str(len(head))}
        return Response(body, media_type="application/octet-stream", headers=headers)


def server_metadata() -> dict[str, Any]:
    """What ``GET /v2`` says."""
    return {"name": "offmap", "version": version("offmap"), "extensions": ["binary_tensor_data"]}


def model_metadata(served: Served, name: str) -> dict[str, Any]:
    """What ``GET /v2/models/NAME`` says."""
    reads = served.reads
    shape = [-1, *(reads.shape or (-1,))]
    return {
        "name": name,
        "versions": [VERSION],
        "platform": "offmap",
        "inputs": [
            {"name": each, "datatype": reads.datatypes[0], "shape": shape} for each in reads.names
        ],
        "outputs": [{"name": n, "datatype": t, "shape": [-1]} for n, t in OUTPUTS.items()],
        "parameters": {"promise": served.promise(None), "guard": served.certified.guard},
    }


async def infer(request: Request, service: Service) -> Response:
    """``POST /v2/models/NAME/infer``.

    Raises:
        Refusal: what the client is told instead.
    """
    async with service.current() as served:
        async with service.bodies.read(request) as body:
            if len(body) < _SMALL:
                message, inputs = _parsed(body, request.headers, served)
            else:
                message, inputs = await service.in_thread(
                    lambda: _parsed(body, request.headers, served)
                )
            rate = await service.rate_of(served, (message.parameters or {}).get("alarm_rate"))
            query = Query(served, request.state.request_id, rate)
            places = range(count_of(inputs))
            (columns,) = await service.judge.verdicts(query, [inputs], [places])
        return message.response(service.settings.name, columns)


def _parsed(body: bytearray, headers: Headers, served: Served) -> tuple[Infer, Inputs]:
    """A request, and its inputs as the guard takes them."""
    size = len(body)
    if (length := headers.get(LENGTH)) is not None:  # of the JSON, before binary tensors
        if not (length.isascii() and length.isdigit()) or len(length) > 12 or int(length) > size:
            raise Refusal(400, f"{LENGTH} must be the bytes of the JSON, at most those of the body")
        size = int(length)
    try:
        message = msgspec.json.decode(memoryview(body)[:size], type=Infer)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        why = f": {error}" if isinstance(error, msgspec.ValidationError) else ""
        raise Refusal(400, f"the request is not as the protocol has it{why[:200]}") from None
    check_datatypes(message.inputs, served.reads.datatypes)
    outputs = [each.name for each in message.outputs or ()]
    if not set(outputs) <= set(OUTPUTS) or len(set(outputs)) < len(outputs):
        raise Refusal(400, f"outputs are {', '.join(OUTPUTS)}, each once")
    return message, served.reads.checked(message.tensors(memoryview(body)[size:]))
