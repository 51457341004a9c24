"""The Open Inference Protocol: JSON and binary tensors, each against the bare guard."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

import offmap
from offmap.data import ImageSet
from tests.serve.conftest import Open

LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/guard/infer"


def asked(images: torch.Tensor, **more: Any) -> dict[str, Any]:
    tensor = {"name": "images", "datatype": "UINT8", "shape": list(images.shape)}
    return {"inputs": [tensor | {"data": images.tolist()}], **more}


def binary(images: torch.Tensor, **more: Any) -> tuple[bytes, dict[str, str]]:
    content = images.numpy().tobytes()
    request = asked(images, **more)
    tensor = request["inputs"][0]
    del tensor["data"]
    tensor["parameters"] = {"binary_data_size": len(content)}
    head = json.dumps(request).encode()
    return head + content, {LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}


def test_the_paths_of_server_and_model(client: TestClient, guard: offmap.Guard) -> None:
    server = client.get("/v2").json()
    assert server == {
        "name": "offmap",
        "version": offmap.__version__,
        "extensions": ["binary_tensor_data"],
    }
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/guard/ready").status_code == 200
    model = client.get("/v2/models/guard").json()
    assert model["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 1, 8, 8]}]
    assert [(o["name"], o["datatype"]) for o in model["outputs"]] == [
        *(("label", "INT64"), ("score", "FP32"), ("p_value", "FP64"), ("is_ood", "BOOL"))
    ]
    assert model["parameters"]["promise"] == guard.calibration.promise
    assert client.get("/v2/models/guard/versions/1").json() == model
    for path in ("/v2/models/other", "/v2/models/guard/versions/2", "/v2/models/other/ready"):
        assert client.get(path).status_code == 404


def test_what_a_client_leaves_out_may_be_null(client: TestClient, digits: ImageSet) -> None:
    request = asked(digits.images[:2])
    expected = client.post(INFER, json=request).json()
    request["inputs"][0]["parameters"] = None
    said = client.post(INFER, json=request | {"id": None, "parameters": None, "outputs": None})
    assert said.json() == expected
    outputs = [{"name": "label", "parameters": None}]
    (label,) = client.post(INFER, json=request | {"outputs": outputs}).json()["outputs"]
    assert label["data"] == expected["outputs"][0]["data"]


@pytest.mark.parametrize("nested", [True, False])
def test_json_tensors(
    client: TestClient, guard: offmap.Guard, digits: ImageSet, nested: bool
) -> None:
    images = digits.images[:5]
    request = asked(images, id="seven")
    if not nested:
        request["inputs"][0]["data"] = images.flatten().tolist()
    said = client.post(INFER, json=request).json()
    assert (said["model_name"], said["model_version"], said["id"]) == ("guard", "1", "seven")
    by_name = {each["name"]: each for each in said["outputs"]}
    verdict = guard(images)
    assert by_name["label"]["data"] == verdict.labels.tolist()
    assert by_name["p_value"]["data"] == verdict.p_values.tolist()
    assert by_name["is_ood"]["data"] == verdict.is_ood.tolist()
    assert by_name["score"]["data"] == pytest.approx(verdict.scores.tolist(), rel=1e-5)
    assert {tuple(each["shape"]) for each in said["outputs"]} == {(5,)}


def test_binary_tensors_both_ways(
    client: TestClient, guard: offmap.Guard, digits: ImageSet
) -> None:
    images = digits.images[:7]
    outputs = [
        {"name": "p_value", "parameters": {"binary_data": True}},
        {"name": "label"},
        {"name": "is_ood", "parameters": {"binary_data": True}},
    ]
    body, headers = binary(images, outputs=outputs)
    response = client.post(INFER, content=body, headers=headers)
    size = int(response.headers[LENGTH])
    said, rest = json.loads(response.content[:size]), response.content[size:]
    verdict = guard(images)
    assert [each["name"] for each in said["outputs"]] == ["p_value", "label", "is_ood"]
    assert said["outputs"][1]["data"] == verdict.labels.tolist()
    assert said["outputs"][0]["parameters"] == {"binary_data_size": 56}
    assert np.frombuffer(rest, "<f8", 7).tolist() == verdict.p_values.tolist()
    assert np.frombuffer(rest[56:], "?").tolist() == verdict.is_ood.tolist()


def test_all_outputs_in_binary_form_where_the_request_says_so(
    client: TestClient, guard: offmap.Guard, digits: ImageSet
) -> None:
    body, headers = binary(digits.images[:2], parameters={"binary_data_output": True})
    response = client.post(INFER, content=body, headers=headers)
    rest = response.content[int(response.headers[LENGTH]) :]
    assert len(rest) == 2 * (8 + 4 + 8 + 1)
    assert np.frombuffer(rest, "<i8", 2).tolist() == guard(digits.images[:2]).labels.tolist()


def test_more_rows_than_a_batch_are_judged_in_parts(
    opened: Open, guard: offmap.Guard, digits: ImageSet
) -> None:
    client = opened(guard, max_batch=3, queue=10)
    body, headers = binary(digits.images[:10])
    said = client.post(INFER, content=body, headers=headers).json()
    assert said["outputs"][2]["data"] == guard(digits.images[:10]).p_values.tolist()
    too_many, headers = binary(digits.images[:11])
    refused = client.post(INFER, content=too_many, headers=headers)
    assert refused.status_code == 413
    assert refused.json() == {"error": "11 rows are too many: send 10 at most"}


def test_the_alarm_rate_of_a_request(opened: Open, guard: offmap.Guard, digits: ImageSet) -> None:
    request = asked(digits.images[:30], parameters={"alarm_rate": 0.5})
    assert opened(guard).post(INFER, json=request).status_code == 403
    said = opened(guard, allow_alarm_rate=True).post(INFER, json=request).json()
    assert said["outputs"][3]["data"] == guard.at(0.5)(digits.images[:30]).is_ood.tolist()


def test_a_rate_that_takes_long_keeps_no_other_request_waiting(
    opened: Open, guard: offmap.Guard, digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rate that was not named needs the band for all rates, which takes seconds."""
    client = opened(guard, allow_alarm_rate=True)
    served = client.app.state.service.served  # type: ignore[attr-defined]
    threads = []

    def at(rate: float) -> offmap.Guard:
        threads.append(threading.current_thread().name)
        return guard.at(rate)

    monkeypatch.setattr(served, "at", at)
    request = asked(digits.images[:1], parameters={"alarm_rate": 0.5})
    assert client.post(INFER, json=request).status_code == 200
    assert threads[0].startswith("offmap-decode")


def test_floats_are_read_by_a_guard_that_was_fitted_on_some(opened: Open) -> None:
    torch.manual_seed(0)
    x = torch.randn(60, 1, 8, 8)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    guard = offmap.Guard(network, "energy").fit([(x, torch.arange(60) % 3)])
    client = opened(guard.calibrate([(x, torch.arange(60) % 3)]))
    assert client.get("/v2/models/guard").json()["inputs"][0]["datatype"] == "FP32"
    tensor = {"name": "images", "datatype": "FP32", "shape": [2, 1, 8, 8]}
    request = {"inputs": [tensor | {"data": x[:2].tolist()}]}
    said = client.post(INFER, json=request).json()
    assert said["outputs"][2]["data"] == guard(x[:2]).p_values.tolist()
