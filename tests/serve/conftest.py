"""A guard over embedded digits, and a client of it without a network between."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("python_multipart")
pytest.importorskip("prometheus_client")

from starlette.testclient import TestClient

import offmap
from offmap import demo
from offmap.data import ImageSet
from offmap.serve import app

Open = Callable[..., TestClient]


@pytest.fixture(scope="session")
def guard() -> offmap.Guard:
    sets = demo.digits_data()
    made = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    return made.fit(sets.train).calibrate(sets.calibration)


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    return demo.digits_data().test


@pytest.fixture(scope="session")
def faces() -> ImageSet:
    return demo.digits_data().ood["far"]["faces"]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens services that end with the test."""
    with ExitStack() as stack:

        def open_client(guard: Any, network: Any = None, **limits: Any) -> TestClient:
            client = TestClient(app(guard, network, **limits), base_url="http://localhost")
            return stack.enter_context(client)

        yield open_client


@pytest.fixture
def client(opened: Open, guard: offmap.Guard) -> TestClient:
    return opened(guard)


def png(image: torch.Tensor | np.ndarray) -> bytes:
    """A grey image ``(1, h, w)`` as a file."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)[0]).save(buffer, "PNG")
    return buffer.getvalue()
