"""``POST /score``: every answer is what the bare guard says of that very sample."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient
from torch import nn

import offmap
from offmap import demo
from offmap.data import ImageSet
from offmap.errors import ArgumentError, MissingExtraError, NotFittedError
from offmap.serve import Settings, app, factory
from offmap.serve.reading import Reads
from offmap.serve.refusals import Refusal
from offmap.serve.served import Served
from tests.serve.conftest import Open, png


def test_a_body_is_an_image(client: TestClient, guard: offmap.Guard, faces: ImageSet) -> None:
    image = faces.images[0]
    response = client.post("/score", content=png(image), headers={"Content-Type": "image/png"})
    said = response.json()
    assert response.status_code == 200
    verdict = guard(image[None])
    (row,) = said["answers"]
    assert row == {
        "input": "",
        "answer": "unknown",
        "label": int(verdict.labels),
        "score": pytest.approx(float(verdict.scores), rel=1e-5),
        "p_value": float(verdict.p_values),
        "is_ood": True,
        "reason": f"about {float(verdict.p_values):.2%} of known samples score as high",
        "error": None,
    }
    assert said["promise"] == guard.calibration.promise
    assert said["alarm_rate"] == 0.05
    assert said["guard"] == offmap.guard.Certified.of(guard).guard
    assert said["request_id"] == response.headers["x-request-id"]


def test_files_of_a_form_are_answered_in_order_and_a_bad_one_costs_no_other(
    client: TestClient, guard: offmap.Guard, digits: ImageSet
) -> None:
    files = [("f", (f"{i}.png", png(digits.images[i]))) for i in range(3)]
    files.insert(1, ("f", ("torn.png", png(digits.images[0])[:40])))
    answers = client.post("/score", files=files).json()["answers"]
    verdict = guard(digits.images[:3]).to_dict()
    assert [row["input"] for row in answers] == ["0.png", "torn.png", "1.png", "2.png"]
    good = [answers[i] for i in (0, 2, 3)]
    for name in ("answer", "label", "p_value", "is_ood"):
        assert [row[name] for row in good] == verdict[name]
    assert answers[1]["answer"] is None
    assert answers[1]["error"].startswith("it cannot be read: ")


def test_a_request_id_is_taken_over_where_it_is_a_plain_word(client: TestClient) -> None:
    assert client.get("/v2", headers={"X-Request-Id": "a-1.b"}).headers["x-request-id"] == "a-1.b"
    given = client.get("/v2", headers={"X-Request-Id": "a b"}).headers["x-request-id"]
    assert len(given) == 32


def test_a_name_of_a_container_may_have_an_underscore(opened: Open, guard: offmap.Guard) -> None:
    client = opened(guard, allow_hosts=("a_guard",))
    assert client.get("/v2", headers={"Host": "a_guard:8000"}).status_code == 200


def test_the_alarm_rate_is_the_guards_unless_the_service_allows_another(
    opened: Open, guard: offmap.Guard, digits: ImageSet
) -> None:
    body = {"content": png(digits.images[0]), "headers": {"Content-Type": "image/png"}}
    refused = opened(guard).post("/score?alarm_rate=0.5", **body)
    assert refused.status_code == 403
    assert "alarm rate" in refused.json()["error"]
    allowed = opened(guard, allow_alarm_rate=True)
    said = allowed.post("/score?alarm_rate=0.5", **body).json()
    other = guard.at(0.5)(digits.images[:1])
    assert said["answers"][0]["is_ood"] == bool(other.is_ood)
    assert said["alarm_rate"] == 0.5
    assert "50.00%" in said["promise"]
    assert allowed.post("/score?alarm_rate=2", **body).status_code == 400
    # The monitor is told what the guard's own rate says.
    p = float(guard(digits.images[:1]).p_values)
    decision = "unknown" if p <= 0.05 else "known"
    assert eventually(allowed, f'offmap_samples_total{{decision="{decision}"}} 1.0')


class Counted(nn.Module):
    """A classifier of three features that counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.passes = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        output: torch.Tensor = self.head(x)
        return output


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("detectors", ["energy", ["energy", "msp"]])
def test_the_network_runs_once_for_another_rate_as_well(detectors: Any, explain: bool) -> None:
    torch.manual_seed(0)
    network = Counted()
    guard = offmap.Guard(network, detectors).fit([(torch.randn(64, 3), torch.arange(64) % 2)])
    guard.calibrate([(torch.randn(64, 3), torch.arange(64) % 2)], 0.1)
    x = 3 * torch.randn(50, 3)
    x[0] = torch.nan
    own, other = guard(x), guard.at(0.5)(x)
    assert own.is_ood.sum() < other.is_ood.sum()
    served, network.passes = Served(guard), 0
    verdict, columns = served.judge(x, 0.5, explain=explain)
    assert network.passes == 1
    assert {name: columns[name] for name in other.to_dict()} == other.to_dict()
    assert verdict.to_dict() == own.to_dict()
    if explain:
        assert columns["reason"] == list(offmap.guard.explained(guard, x)[1])


def eventually(client: TestClient, line: str, tries: int = 200) -> bool:
    """Whether a line comes into the metrics; verdicts are recorded behind the answer."""
    return any(line in client.get("/metrics").text for _ in range(tries))


def test_reasons_are_in_words_where_the_service_gives_them(
    opened: Open, guard: offmap.Guard, digits: ImageSet
) -> None:
    client = opened(guard, explain=True)
    files = [("f", ("a.png", png(digits.images[0])))]
    reason = client.post("/score", files=files).json()["answers"][0]["reason"]
    assert reason == offmap.guard.explained(guard, digits.images[:1])[1][0]
    assert "nearest class" in reason


@pytest.fixture(scope="module")
def features() -> offmap.Guard:
    torch.manual_seed(0)
    made = offmap.Guard(nn.Linear(3, 2), "energy")
    made.fit([(torch.randn(64, 3), torch.arange(64) % 2)])
    return made.calibrate([(torch.randn(64, 3), torch.arange(64) % 2)])


def test_a_guard_over_features_reads_rows(opened: Open, features: offmap.Guard) -> None:
    client = opened(features)
    rows = [[0.5, 1, -2], {"features": [9.0, 0, 1e-3]}]
    answers = client.post("/score", json={"rows": rows}).json()["answers"]
    verdict = features(torch.tensor([[0.5, 1, -2], [9, 0, 1e-3]]))
    assert [row["p_value"] for row in answers] == verdict.p_values.tolist()
    assert [row["score"] for row in answers] == pytest.approx(verdict.scores.tolist(), rel=1e-5)
    assert client.post("/score", files=[("f", ("a.png", b"x"))]).status_code == 415


class Text(nn.Module):
    """A classifier of token sequences that reads its mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 4), nn.Linear(4, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        mask = attention_mask[:, :, None].float()
        return self.head((self.embedding(input_ids) * mask).sum(1) / mask.sum(1))


def test_a_guard_over_text_reads_tokens_and_fills_up_none(opened: Open) -> None:
    torch.manual_seed(0)
    tokens = torch.randint(0, 20, (80, 5))
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    network = Text()
    guard = offmap.Guard(network, "energy").fit([(batch, tokens[:, 0] % 2)])
    guard.calibrate([(batch, tokens[:, 0] % 2)])
    client = opened(guard)
    rows = [{"input_ids": [1, 2, 3]}, {"input_ids": [4, 5]}, {"input_ids": [7, 8, 9]}]
    answers = client.post("/score", json={"rows": rows}).json()["answers"]
    for row, said in zip(rows, answers, strict=True):
        x = torch.tensor([row["input_ids"]])
        verdict = guard({"input_ids": x, "attention_mask": torch.ones_like(x)})
        assert said["p_value"] == float(verdict.p_values)
        assert said["score"] == pytest.approx(float(verdict.scores), rel=1e-5)
    # A token that the network does not have is refused, and costs nobody else anything.
    assert client.post("/score", json={"rows": [{"input_ids": [99]}]}).status_code == 400
    assert client.post("/score", json={"rows": rows}).json()["answers"] == answers


def test_what_a_network_looks_up_must_stand_in_its_tables() -> None:
    class Configured(Text):
        config = SimpleNamespace(vocab_size=20, type_vocab_size=2)

    tokens = torch.arange(80).reshape(16, 5) % 20
    names = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    reads = Reads.of(offmap.Guard(Configured(), "energy").fit([(names, tokens[:, 0] % 2)]))
    reads = replace(reads, names=("input_ids", "token_type_ids"))
    good = {"input_ids": tokens, "token_type_ids": tokens % 2}
    assert set(reads.checked(good)) == set(good)
    for name, bad in (("input_ids", tokens + 1), ("token_type_ids", tokens % 3)):
        with pytest.raises(Refusal, match=f"{name} has values that are no tokens"):
            reads.checked(good | {name: bad})


@pytest.mark.parametrize(("padding", "stated", "most"), [(None, None, 8), (1, 8, 6), (None, 6, 6)])
def test_a_row_has_no_more_tokens_than_a_network_has_places(
    padding: int | None, stated: int | None, most: int
) -> None:
    class Placed(Text):
        config = SimpleNamespace(max_position_embeddings=stated)

        def __init__(self) -> None:
            super().__init__()
            self.position_embeddings = nn.Embedding(8, 4, padding_idx=padding)

    tokens = torch.arange(80).reshape(16, 5) % 20
    names = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    reads = Reads.of(offmap.Guard(Placed(), "energy").fit([(names, tokens[:, 0] % 2)]))
    row = torch.zeros(1, most, dtype=torch.int64)
    assert reads.checked({"input_ids": row})
    longer = torch.zeros(1, most + 1, dtype=torch.int64)
    with pytest.raises(Refusal, match=f"a row of input_ids has {most + 1} tokens: {most} fit"):
        reads.checked({"input_ids": longer})
    plain = offmap.Guard(Text(), "energy").fit([(names, tokens[:, 0] % 2)])
    assert Reads.of(plain).longest is None  # places that are computed have no end


def test_a_guard_without_threshold_is_not_served(features: offmap.Guard) -> None:
    torch.manual_seed(0)
    fitted = offmap.Guard(nn.Linear(3, 2), "energy")
    fitted.fit([(torch.randn(64, 3), torch.arange(64) % 2)])
    with pytest.raises(NotFittedError, match="no threshold"):
        app(fitted)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"max_batch": 8, "queue": 4}, "queue must hold a batch"),
        ({"max_bytes": 0}, "max_bytes must be a whole number of at least 1"),
        ({"timeout": 0}, "timeout must lie in"),
        ({"max_wait_ms": -1}, "max_wait_ms must lie in 0"),
        ({"name": "a/b"}, "name must be letters"),
        ({"token": "short"}, "a token must have at least 16"),
        ({"token": "two words of a secret"}, "and without spaces"),
        ({"allow_hosts": ("a.example:8000",)}, "without a scheme and a port"),
        ({"allow_hosts": ("https://a.example",)}, "without a scheme"),
        ({"allow_hosts": ("::1",)}, "without a scheme"),
        ({"allow_hosts": "*.example"}, "allow_hosts must be a list of names"),
    ],
)
def test_a_limit_out_of_range_is_refused(limit: dict[str, object], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Settings(**limit)  # type: ignore[arg-type]


def test_a_token_does_not_show_in_the_settings() -> None:
    assert "secret" not in repr(Settings(token="secret-secret-secret"))


def test_a_missing_library_names_the_extra(
    guard: offmap.Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factory, "_LIBRARIES", ("there_is_none",))
    with pytest.raises(MissingExtraError, match=r"offmap\[serve\]"):
        app(guard)


def test_a_folder_is_served_with_its_network(
    opened: Open, guard: offmap.Guard, digits: ImageSet, tmp_path: Path
) -> None:
    guard.save(tmp_path / "guard")
    with pytest.raises(ArgumentError, match="network beside its folder"):
        app(tmp_path / "guard")
    client = opened(tmp_path / "guard", guard.network)
    files = [("f", ("a.png", png(digits.images[0])))]
    said = client.post("/score", files=files).json()
    assert said["answers"][0]["p_value"] == float(guard(digits.images[:1]).p_values)
    assert str(tmp_path) not in json.dumps(said)


def together(client: TestClient, requests: list[dict[str, Any]]) -> list[Any]:
    """The answers to requests that are sent at once."""
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(lambda request: client.post("/score", **request), requests))


def test_answers_do_not_depend_on_their_company_and_are_never_mixed(
    opened: Open, guard: offmap.Guard, digits: ImageSet, faces: ImageSet
) -> None:
    # Eight requests fill one batch; no other row would end their waiting.
    client = opened(guard, max_batch=8, max_wait_ms=60_000)
    images = torch.cat([digits.images[:4], faces.images[:4]])
    headers = {"Content-Type": "image/png"}
    said = together(client, [{"content": png(image), "headers": headers} for image in images])
    for image, response in zip(images, said, strict=True):
        (row,) = response.json()["answers"]
        alone = guard(image[None])
        assert row["label"] == int(alone.labels)
        assert row["score"] == pytest.approx(float(alone.scores), rel=1e-5)
        assert row["p_value"] == float(alone.p_values)
        assert response.json()["request_id"] == response.headers["x-request-id"]
    assert len({response.headers["x-request-id"] for response in said}) == 8


def test_files_are_no_input_of_a_guard_over_normalised_images(
    opened: Open, digits: ImageSet
) -> None:
    def normalised(images: torch.Tensor) -> torch.Tensor:
        return (images / 255 - 0.305) / 0.376

    sets = demo.digits_data()
    guard = offmap.Guard(demo.shipped(), "energy")
    guard.fit([(normalised(sets.train.images[:99]), sets.train.labels[:99])])
    guard.calibrate([(normalised(sets.calibration.images), None)])
    client = opened(guard)
    said = client.post("/score", files=[("f", ("a.png", png(digits.images[0])))])
    assert said.status_code == 415
    assert "normalised already: send FP32 tensors" in said.json()["error"]
    (wanted,) = client.get("/v2/models/guard").json()["inputs"]
    data = normalised(digits.images[0]).flatten().tolist()
    tensor = wanted | {"shape": [1, *wanted["shape"][1:]], "data": data}
    answer = client.post("/v2/models/guard/infer", json={"inputs": [tensor]})
    assert answer.status_code == 200


class Touchy(nn.Module):
    """Fails on a batch that holds a 9, for want of memory on a 10, by a broken device on an 11."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x == 9).any()):
            raise ValueError("a nine")
        if bool((x == 10).any()):
            torch.empty(1 << 50)
        if bool((x == 11).any()):
            raise RuntimeError("CUDA error: device-side assert triggered")
        return self.head(x)


def test_a_row_that_breaks_the_network_costs_none_of_its_batch(opened: Open) -> None:
    torch.manual_seed(0)
    x, labels = torch.randn(64, 3), torch.arange(64) % 2
    guard = offmap.Guard(Touchy(), "energy").fit([(x, labels)]).calibrate([(x, labels)])
    client = opened(guard, max_batch=3, max_wait_ms=60_000)
    rows = [[0.5, 1, 2], [9, 1, 2], [1, 1, 1.5]]
    first, bad, last = together(client, [{"json": {"rows": [row]}} for row in rows])
    assert (bad.status_code, bad.json()) == (400, {"error": "the network refuses these inputs"})
    health, ended = ("/v2/health/live", "/v2/health/ready"), []
    client.app.state.service.judge.when_broken = lambda: ended.append("worker")
    for number, status in ((10, 503), (11, 500)):  # of the machine, and no fault of the client's
        assert [client.get(path).status_code for path in health] == [200, 200]
        assert client.post("/score", json={"rows": [[number] * 3] * 3}).status_code == status
    # A broken device answers nothing any more: whoever watches the service must begin it anew.
    assert [client.get(path).status_code for path in health] == [503, 503]
    assert ended == ["worker"]
    for row, response in ((rows[0], first), (rows[2], last)):
        p = float(guard(torch.tensor([row]).float()).p_values)
        assert response.json()["answers"][0]["p_value"] == p
