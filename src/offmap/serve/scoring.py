"""``POST /score``: for people, and for programs that send files or rows."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import torch
from starlette.requests import Request
from starlette.responses import Response

from offmap.data import Skipped
from offmap.serve.judging import Query, check_rows
from offmap.serve.refusals import Refusal, busy
from offmap.serve.served import Columns
from offmap.serve.service import Service
from offmap.serve.uploads import check_some, decoder, files_of, media_of

_COLUMNS = ("answer", "label", "score", "p_value", "is_ood", "accepted", "reason", "error")
Row = dict[str, Any]


class Rows(msgspec.Struct, forbid_unknown_fields=True):
    """Rows of features, or of tokens by name."""

    rows: list[Any]

    @classmethod
    def of(cls, body: bytearray, limit: int) -> Rows:
        """The rows in a body, of which there may be as many as the limit.

        Raises:
            Refusal: it holds something else, or more.
        """
        try:
            rows = msgspec.json.decode(body, type=cls)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise Refusal(400, 'the body must be JSON, {"rows": [...]} and nothing else') from None
        check_rows(len(rows.rows), limit)  # a tensor of each takes a hundred times its bytes
        return rows


async def score(request: Request, service: Service) -> Response:
    """Verdicts on the images or rows of a request.

    Raises:
        Refusal: what the client is told instead.
    """
    if unknown := set(request.query_params) - {"alarm_rate"}:
        raise Refusal(400, f"there is no parameter {sorted(unknown)[0][:40]!r}")
    request_id = request.state.request_id
    async with service.current() as served:
        rate = await service.rate_of(served, request.query_params.get("alarm_rate"))
        query = Query(served, request_id, rate, service.settings.explain)
        async with service.bodies.read(request) as body:
            content_type = request.headers.get("content-type", "")
            if media_of(content_type) == "application/json":
                answers = await _score_rows(service, query, body)
            else:
                answers = await _score_files(service, query, body, content_type)
    content = {
        "request_id": request_id,
        "guard": served.certified.guard,
        "alarm_rate": served.certified.alarm_rate if rate is None else rate,
        "promise": served.promise(rate),
        "answers": answers,
    }
    return Response(msgspec.json.encode(content), media_type="application/json")


async def _score_rows(service: Service, query: Query, body: bytearray) -> list[Row]:
    reads = query.served.reads
    limit = service.settings.queue
    groups = await service.in_thread(lambda: list(reads.rows(Rows.of(body, limit).rows)))
    indices, parts = zip(*groups, strict=True)
    columns = await service.judge.verdicts(query, parts, indices)
    answers: dict[int, Row] = {}
    for (places, _), part in zip(groups, columns, strict=True):
        answers |= zip(places, _rows(part), strict=True)
    return [answers[i] for i in range(len(answers))]


async def _score_files(
    service: Service, query: Query, body: bytearray, content_type: str
) -> list[Row]:
    served = query.served
    if served.reads.kind != "images":
        raise Refusal(415, f"this guard reads {served.reads.kind}: send JSON")
    if served.own is None and "UINT8" not in served.reads.datatypes:
        raise Refusal(
            415, "this guard reads images that are normalised already: send FP32 tensors to infer"
        )
    files = await service.in_thread(lambda: files_of(body, content_type, service.settings.queue))
    decode = [service.in_thread(decoder(file, served, service.settings)) for file in files]
    try:
        async with asyncio.timeout(service.settings.timeout):
            images = await asyncio.gather(*decode)  # those that wait are dropped with it
    except TimeoutError:
        raise busy("the images took too long to decode: send fewer, or smaller ones") from None
    check_some(images)
    tensors = {i: image for i, image in enumerate(images) if not isinstance(image, Skipped)}
    stack = torch.stack(list(tensors.values()))
    (columns,) = await service.judge.verdicts(query, [stack], [list(tensors)])
    verdicts = iter(_rows(columns))
    empty: Row = {name: None for name in _COLUMNS if name != "accepted"}
    rows = [
        empty | {"error": f"it cannot be read: {image.reason}"}
        if isinstance(image, Skipped)
        else next(verdicts)
        for image in images
    ]
    return [{"input": name, **row} for (name, _), row in zip(files, rows, strict=True)]


def _rows(columns: Columns) -> list[Row]:
    names = [name for name in _COLUMNS if name in columns]
    values = zip(*(columns[name] for name in names), strict=True)
    return [dict(zip(names, row, strict=True)) for row in values]
