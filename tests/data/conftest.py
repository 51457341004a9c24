from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]


@pytest.fixture
def as_users_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the type checks of the tests, which speak before our own errors do."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def pixels() -> Callable[..., Array]:
    """Random pixels of a shape, the same at every call."""

    def make(*shape: int, seed: int = 0) -> Array:
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

    return make


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """An image file in memory."""

    def make(image: Array | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
        buffer = BytesIO()
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        picture.save(buffer, kind, **options)
        return buffer.getvalue()

    return make


@pytest.fixture
def write_folder(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    """A folder of files by relative path."""

    def write(files: dict[str, bytes]) -> Path:
        root = tmp_path / "images"
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return root

    return write


@pytest.fixture
def write_parquet(tmp_path: Path) -> Callable[..., Path]:
    """A Parquet file of encoded images, as the hub has them or with plain bytes."""

    def write(
        images: Sequence[bytes | None],
        labels: Sequence[Any] | None = None,
        *,
        classes: Sequence[str] = (),
        plain: bool = False,
        group: int = 4,
        path: str = "set.parquet",
        column: str = "image",
    ) -> Path:
        cells = images if plain else [{"bytes": x, "path": None} for x in images]
        kind = pa.binary() if plain else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns = {column: pa.array(cells, kind)}
        features: dict[str, Any] = {column: {"_type": "Image"}}
        if labels is not None:
            columns["label"] = pa.array(labels)
        if classes:
            features["label"] = {"names": list(classes), "_type": "ClassLabel"}
        described = {"huggingface": json.dumps({"info": {"features": features}})}
        table = pa.table(columns).replace_schema_metadata(described if classes else None)
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, tmp_path / path, row_group_size=group)
        return tmp_path / path

    return write
