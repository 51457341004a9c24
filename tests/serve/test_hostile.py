"""Hostile requests: each has its status, and a good request is answered right afterwards."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

import offmap
from offmap.data import ImageSet
from offmap.serve import app
from offmap.serve.reading import Reads
from offmap.serve.refusals import Refusal
from offmap.serve.tensors import InputTensor, from_json
from tests.serve.conftest import png

INFER = "/v2/models/guard/infer"
LENGTH = "Inference-Header-Content-Length"
JSON = {"Content-Type": "application/json"}
PNG = {"Content-Type": "image/png"}
GOOD: dict[str, Any] = {
    "name": "images",
    "datatype": "UINT8",
    "shape": [1, 1, 8, 8],
    "data": [0] * 64,
}


def chunk(name: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + crc


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says it has so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 16))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def infer(**changes: Any) -> dict[str, Any]:
    """A JSON request of the protocol with another input."""
    tensor = {k: v for k, v in (GOOD | changes).items() if v is not None}
    return {"method": "POST", "url": INFER, "json": {"inputs": [tensor]}}


def raw(text: str, url: str = INFER) -> dict[str, Any]:
    return {"method": "POST", "url": url, "content": text.encode(), "headers": JSON}


def binary(length: object, size: object, content: bytes, **changes: Any) -> dict[str, Any]:
    """A binary request, with what its headers say of it."""
    tensor = GOOD | {"data": None, "parameters": {"binary_data_size": size}} | changes
    head = json.dumps({"inputs": [tensor]}).encode()
    told = len(head) if length is None else length
    headers = {LENGTH: str(told), "Content-Type": "application/octet-stream"}
    return {"method": "POST", "url": INFER, "content": head + content, "headers": headers}


def form(body: bytes, boundary: str = "b") -> dict[str, Any]:
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return {"method": "POST", "url": "/score", "content": body, "headers": headers}


def image(content: bytes, media: str = "image/png", **headers: str) -> dict[str, Any]:
    return {
        "method": "POST",
        "url": "/score",
        "content": content,
        "headers": {"Content-Type": media, **headers},
    }


def get(url: str, method: str = "GET", **headers: str) -> dict[str, Any]:
    return {"method": method, "url": url, "headers": headers}


DEEP = "[" * 50_000 + "]" * 50_000
PART = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n'

# ruff: noqa: E501 - a request a line
HOSTILE: dict[str, tuple[int, dict[str, Any]]] = {
    # paths and methods
    "no such path": (404, get("/nothing")),
    "a path upwards": (404, get("/../../etc/passwd")),
    "an encoded path upwards": (404, get("/%2e%2e/%2e%2e/etc/passwd")),
    "a path with a null": (404, get("/score%00")),
    "a path with a slash too many": (404, get("/score/", "POST")),
    "no such model": (404, get("/v2/models/..%2f..%2fetc/infer", "POST")),
    "no such version": (404, get("/v2/models/guard/versions/9/infer", "POST")),
    "the wrong method": (405, get("/score")),
    "another wrong method": (405, get("/", "DELETE")),
    "a method that is none": (405, get("/score", "BREW")),
    "to read what is to be asked": (405, get(INFER)),
    "an unknown parameter": (400, image(b"x") | {"url": "/score?debug=1"}),
    "a rate of the client's": (403, image(b"x") | {"url": "/score?alarm_rate=0.9"}),
    # hosts and origins
    "another name of the host": (400, get("/v2", Host="evil.example")),
    "a name behind a name": (400, get("/v2", Host="localhost.evil.example")),
    "a host that is no name": (400, get("/v2", Host="local host")),
    "a host with a user": (400, get("/v2", Host="localhost@evil.example")),
    "a page of another origin": (403, image(b"x", Origin="https://evil.example")),
    "a page without an origin": (403, image(b"x", Origin="null")),
    "an origin that is none": (403, image(b"x", Origin="http://[")),
    # bodies
    "an empty image": (400, image(b"")),
    "no image": (422, image(b"these are words")),
    "a torn image": (422, image(b"\x89PNG\r\n\x1a\n" + bytes(20))),
    "PostScript": (422, image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")),
    "markup for an image": (422, image(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml")),
    "a bomb of pixels": (422, image(bomb(60_000, 60_000))),
    "a smaller bomb": (422, image(bomb(6_000, 6_000))),
    "a line that would be blown up": (422, image(bomb(1, 50_000))),
    "an image without pixels": (422, image(bomb(0, 0))),
    "too many bytes": (413, image(bytes(200_001))),
    "a length that is a lie": (413, image(b"x", **{"Content-Length": "99999999999999999999999"})),
    "a packed body": (415, image(b"x", **{"Content-Encoding": "gzip"})),
    "no type": (415, {"method": "POST", "url": "/score", "content": b"x"}),
    "a type that is not read": (415, image(b"x", "text/html")),
    "a type that is no type": (415, image(b"x", "///;;;===")),
    "rows for images": (415, raw('{"rows": [[1, 2]]}', "/score")),
    # forms
    "a form without a boundary": (400, image(PART, "multipart/form-data")),
    "a form with another boundary": (400, form(PART + b"x\r\n--b--", "c")),
    "a torn form": (400, form(PART[:30])),
    "an empty form": (400, form(b"--b--\r\n")),
    "a form with an empty file": (400, form(PART + b"\r\n--b--\r\n")),
    "a form of fields": (400, form(b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n--b--\r\n')),
    "a part without a name": (400, form(b"--b\r\nX: y\r\n\r\nx\r\n--b--\r\n")),
    "a part with a broken header": (400, form(b"--b\r\n\x00\xff:\xfe\r\n\r\nx\r\n--b--\r\n")),
    "a strange charset": (400, form(PART + b"x") | {"headers": {"Content-Type": 'multipart/form-data; boundary=b; charset="\x01"'}}),
    "more files than may wait": (400, form((PART + b"x\r\n") * 100 + b"--b--\r\n")),
    # JSON
    "no JSON": (400, raw("{")),
    "JSON that is no object": (400, raw("[]")),
    "deep JSON": (400, raw(DEEP)),
    "deep data": (400, raw('{"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1], "data": ' + DEEP + "}]}")),
    "no UTF-8": (400, {**raw(""), "content": b'{"inputs": "\xff\xfe"}'}),
    "no inputs": (400, raw('{"inputs": []}')),
    "many inputs": (400, raw(json.dumps({"inputs": [GOOD] * 17}))),
    "an input twice": (400, raw(json.dumps({"inputs": [GOOD, GOOD]}))),
    "an id that is no word": (400, raw(json.dumps({"inputs": [GOOD], "id": {"a": 1}}))),
    "another name": (400, infer(name="__class__")),
    "another datatype": (400, infer(datatype="FP32")),
    "a datatype that is none": (400, infer(datatype="object")),
    "bytes": (400, infer(datatype="BYTES", data=["x"])),
    "no shape": (400, infer(shape=[])),
    "a negative shape": (400, infer(shape=[-1, 1, 8, 8])),
    "a shape beyond all bounds": (400, infer(shape=[2**63, 2**63])),
    "a shape whose product is huge": (400, infer(shape=[2**40] * 8)),
    "a shape of the wrong size": (400, infer(shape=[2, 1, 8, 8])),
    "another shape of the right size": (400, infer(shape=[1, 8, 8, 1])),
    "no rows": (400, infer(shape=[0, 1, 8, 8], data=[])),
    "a shape of words": (400, infer(shape=["1", 1, 8, 8])),
    "no data": (400, infer(data=None)),
    "NaN": (400, raw(json.dumps({"inputs": [GOOD | {"data": [float("nan")] * 64}]}))),
    "negative pixels": (400, infer(data=[-1] * 64)),
    "bright pixels": (400, infer(data=[256] * 64)),
    "huge numbers": (400, infer(data=[10**400] + [0] * 63)),
    "huge floats": (400, raw('{"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1], "data": [1e999]}]}')),
    "broken pixels": (400, infer(data=[0.5] * 64)),
    "words for pixels": (400, infer(data=["a"] * 64)),
    "truth for pixels": (400, infer(data=[True] * 64)),
    "lists of several lengths": (400, infer(data=[[0], [0, 0]])),
    "an output that is none": (400, raw(json.dumps({"inputs": [GOOD], "outputs": [{"name": "weights"}]}))),
    "an output twice": (400, raw(json.dumps({"inputs": [GOOD], "outputs": [{"name": "label"}] * 2}))),
    # binary tensors
    "a JSON longer than the body": (400, binary(10**6, 64, bytes(64))),
    "a negative length": (400, binary(-5, 64, bytes(64))),
    "a length that is no number": (400, binary("12; drop", 64, bytes(64))),
    "a length of many digits": (400, binary("9" * 400, 64, bytes(64))),
    "a JSON that is cut": (400, binary(20, 64, bytes(64))),
    "fewer bytes than said": (400, binary(None, 64, bytes(63))),
    "more bytes than said": (400, binary(None, 64, bytes(65))),
    "a size that is not the shape's": (400, binary(None, 63, bytes(63))),
    "a negative size": (400, binary(None, -64, bytes(64))),
    "a size of words": (400, binary(None, "64", bytes(64))),
    "a shape that is a bomb": (400, binary(None, 2**40, b"", shape=[2**40])),
    "no rows of bytes": (400, binary(None, 0, b"", shape=[0, 1, 8, 8])),
    "no rows of huge ones": (400, infer(shape=[0] + [2**40] * 7, data=[])),
    "huge rows without a value": (400, binary(None, 0, b"", shape=[2**40] * 7 + [0])),
}  # fmt: skip


@pytest.fixture(scope="module")
def served(guard: offmap.Guard) -> Iterator[TestClient]:
    limits = {"max_bytes": 200_000, "max_pixels": 1_000_000, "queue": 64}
    with TestClient(app(guard, **limits), base_url="http://localhost") as client:
        yield client


def test_there_are_fifty_of_them() -> None:
    assert len(HOSTILE) >= 50
    assert all(400 <= status < 500 for status, _ in HOSTILE.values())


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_request_is_refused_and_the_next_is_answered(
    name: str, served: TestClient, guard: offmap.Guard, digits: ImageSet
) -> None:
    status, request = HOSTILE[name]
    response = served.request(**request)
    assert response.status_code == status, response.text
    reason = response.json()["error"]
    assert reason
    assert not any(
        word in response.text for word in ("Traceback", "site-packages", ".py", " at 0x")
    )
    good = served.post("/score", content=png(digits.images[3]), headers=PNG)
    row = good.json()["answers"][0]
    assert row["p_value"] == float(guard(digits.images[3:4]).p_values)


ROWS: dict[str, str] = {
    "no rows": '{"rows": []}',
    "no list": '{"rows": 5}',
    "another column": '{"rows": [{"weights": [1, 2, 3]}]}',
    "another field": '{"rows": [[1, 2, 3]], "path": "x"}',
    "too short": '{"rows": [[1, 2]]}',
    "nested": '{"rows": [[[1, 2, 3]]]}',
    "words": '{"rows": [["a", "b", "c"]]}',
    "nothing": '{"rows": [[null, 1, 2]]}',
    "a number": '{"rows": [5]}',
    "deep": '{"rows": ' + DEEP + "}",
    "huge": '{"rows": [[1e300, 0, 0]]}',
    "beyond JSON": '{"rows": [[1e999, 0, 0]]}',
    "beyond any type": '{"rows": [[' + "9" * 400 + ", 0, 0]]}",
    "not a number": '{"rows": [[NaN, 0, 0]]}',
}


@pytest.fixture(scope="module")
def features() -> Iterator[TestClient]:
    torch.manual_seed(0)
    x = torch.randn(64, 3)
    guard = offmap.Guard(torch.nn.Linear(3, 2), "energy").fit([(x, torch.arange(64) % 2)])
    guard.calibrate([(torch.randn(64, 3), torch.arange(64) % 2)])
    with TestClient(app(guard), base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize("name", ROWS)
def test_hostile_rows_are_refused(name: str, features: TestClient) -> None:
    response = features.post("/score", content=ROWS[name], headers=JSON)
    assert response.status_code == 400, response.text
    good = features.post("/score", json={"rows": [[0, 0, 0]]})
    assert len(good.json()["answers"]) == 1


def test_more_rows_than_may_wait_are_refused_before_any_is_read(features: TestClient) -> None:
    response = features.post("/score", json={"rows": [[1]] * 1025})
    assert response.status_code == 413
    assert response.json()["error"] == "1,025 rows are too many: send 1,024 at most"


def test_a_long_word_among_many_takes_no_memory() -> None:
    words = ["a" * 100_000, *[""] * 1000]
    reads = Reads("features", ("FP32",), (3,), ("features",))
    tracemalloc.start()
    try:
        with pytest.raises(Refusal, match="must be numbers"):
            from_json(InputTensor("features", [1, 3], "FP32", data=words))
        with pytest.raises(Refusal, match="must be a list of numbers"):
            list(reads.rows([words]))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20  # numpy would give each 400,000 bytes
    finally:
        tracemalloc.stop()


def test_infinity_in_binary_features_is_refused(features: TestClient) -> None:
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, 3]}
    for value in (float("inf"), float("nan")):
        head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": 12}}]}).encode()
        body = head + struct.pack("<3f", value, 0, 0)
        response = features.post(INFER, content=body, headers={LENGTH: str(len(head))})
        assert response.status_code == 400
        assert response.json()["error"].startswith("inputs must be finite")


@pytest.fixture
def secured(guard: offmap.Guard) -> Iterator[TestClient]:
    with TestClient(app(guard, token="a-secret-of-the-house"), base_url="http://localhost") as made:
        yield made


def test_a_token_opens_everything_but_page_and_health(secured: TestClient) -> None:
    for path in ("/", "/v2/health/live", "/v2/health/ready"):
        assert secured.get(path).status_code == 200
    wrong = ["", "Bearer", "Bearer a-secret", "Basic a-secret-of-the-house", "bearer \xff"]
    for path in ("/v2", "/metrics", "/nothing"):
        for authorization in wrong:
            headers = {"Authorization": authorization.encode("latin-1")}
            response = secured.get(path, headers=headers)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert "a-secret" not in response.text
    good = {"Authorization": "Bearer a-secret-of-the-house"}
    assert secured.get("/v2", headers=good).status_code == 200
    assert secured.get("/nothing", headers=good).status_code == 404


def test_what_fails_inside_is_told_to_nobody_outside(
    served: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> Callable[..., Any]:
        raise ZeroDivisionError("at /srv/of/the/service")

    monkeypatch.setattr("offmap.serve.protocol.server_metadata", fail)
    monkeypatch.setattr("offmap.serve.application.server_metadata", fail)
    response = served.get("/v2")
    assert response.status_code == 500
    assert response.json() == {"error": "internal error"}
    assert "ZeroDivisionError" in caplog.text


def test_every_answer_forbids_guessing_and_keeping(served: TestClient) -> None:
    for path in ("/", "/v2", "/nothing"):
        headers = served.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
