"""Files beside the service: dashboard, alerts, image, and a model of Triton."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from starlette.testclient import TestClient

import offmap
from offmap import demo
from offmap.cli import app, main
from offmap.errors import ArgumentError
from offmap.guard.triton import export_triton

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
NAME = re.compile(r"\boffmap_\w+")


def names_of(client: TestClient) -> set[str]:
    """The metrics that a service has, and what Prometheus makes of histograms."""
    text = client.get("/metrics").text
    kinds = dict(re.findall(r"# TYPE (\w+) (\w+)", text))
    ends = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
    return {name + end for name, kind in kinds.items() for end in ends[kind]}


def test_the_dashboard_asks_for_metrics_that_are_there(client: TestClient) -> None:
    board = json.loads((DEPLOY / "grafana.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    used = {name for text in asked for name in NAME.findall(text)}
    assert used <= names_of(client)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) == 8
    for name in ("samples_total", "p_value_bucket", "alarm_ratio", "monitor_log_wealth"):
        assert f"offmap_{name}" in used


def test_the_alerts_ask_for_metrics_that_are_there(client: TestClient) -> None:
    yaml = pytest.importorskip("yaml")
    (group,) = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    names = names_of(client)
    for rule in group["rules"]:
        used = set(NAME.findall(rule["expr"]))
        assert used
        assert used <= names
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]


def test_the_image_runs_as_another_user_with_options_that_are_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["10001"]
    assert lines.index("USER 10001") < next(
        i for i, line in enumerate(lines) if line.startswith("ENTRYPOINT ")
    )
    command = json.loads(next(x for x in lines if x.startswith("ENTRYPOINT ")).split(" ", 1)[1])
    assert command[:3] == ["offmap", "serve", "/guard"]
    parser: Any = typer.main.get_command(app)
    known = {name for p in parser.commands["serve"].params for name in p.opts}
    assert {word for word in command if word.startswith("--")} <= known


def test_triton_is_told_what_stands_in_the_graph(guard: offmap.Guard, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "models" / "guard"
    export_triton(guard, folder, example=demo.digits_data().test.images[:8], max_batch=32)
    text = (folder / "config.pbtxt").read_text()
    found = re.findall(r'name: "(\w+)", data_type: TYPE_(\w+), dims: \[ ([\d, ]+) \]', text)
    graph = onnx.load(str(folder / "1" / "model.onnx")).graph
    numpy = {"UINT8": "uint8", "INT64": "int64", "FP32": "float32", "FP64": "float64"}
    told = {name: (numpy.get(kind, "bool"), dims) for name, kind, dims in found}
    assert told["images"] == ("uint8", "1, 8, 8")
    for value in [graph.input[0], *graph.output]:
        kind = value.type.tensor_type
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        dims = [dim.dim_value for dim in kind.shape.dim[1:]]
        assert told.pop(value.name) == (dtype, ", ".join(map(str, dims or [1])))
    assert told == {}  # alarm_rate keeps its default
    assert text.count("reshape: { shape: [ ] }") == 4
    assert "max_batch_size: 32" in text
    assert text.count("{") == text.count("}")


def test_the_command_writes_a_model_of_triton(
    guard: offmap.Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    guard.save("guard")
    Path("mine.py").write_text("from offmap.demo import shipped\n")
    with pytest.raises(SystemExit) as ended:
        main(shlex.split("export guard models/digits --triton --model mine.py:shipped"))
    assert not ended.value.code
    names = sorted(str(p) for p in Path("models").rglob("*") if p.is_file())
    assert names == ["models/digits/1/model.onnx", "models/digits/config.pbtxt"]


def test_a_batch_of_triton_has_a_row(guard: offmap.Guard, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="max_batch must be"):
        export_triton(guard, tmp_path, example=torch.zeros(1, 1, 8, 8), max_batch=0)
