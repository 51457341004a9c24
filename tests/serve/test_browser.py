"""The page, in a browser: a picture is chosen, its verdict shows, and nothing else is loaded."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import offmap
from offmap.data import ImageSet
from offmap.serve import app
from offmap.serve.page import POLICY, page
from offmap.serve.served import Served
from tests.serve.conftest import png

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


def test_the_page_is_closed_to_everything_but_its_own_script(guard: offmap.Guard) -> None:
    text = page(Served(guard))
    assert "{{" not in text
    assert "http" not in text
    policy = POLICY["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


@pytest.fixture
def address(guard: offmap.Guard) -> Iterator[str]:
    uvicorn = pytest.importorskip("uvicorn")
    config = uvicorn.Config(app(guard), port=0, log_level="warning", lifespan="on", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 60
    while not server.started and time.monotonic() < end:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(60)


@pytest.fixture
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if BROWSER is None:
        pytest.skip("there is no browser")
    options = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=BROWSER, args=options)
        yield chromium
        chromium.close()


def test_a_dropped_picture_shows_its_verdict(
    browser: Any, address: str, guard: offmap.Guard, digits: ImageSet, faces: ImageSet
) -> None:
    tab = browser.new_page()
    asked: list[str] = []
    wrong: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(address)
    files = [
        {"name": "<b>digit</b>.png", "mimeType": "image/png", "buffer": png(digits.images[0])},
        {"name": "face.png", "mimeType": "image/png", "buffer": png(faces.images[0])},
        {"name": "torn.png", "mimeType": "image/png", "buffer": b"torn"},
    ]
    tab.set_input_files("#file", files)
    tab.wait_for_selector("#answers li:nth-child(3)")
    verdict = guard(digits.images[:1]).to_dict()
    words = tab.locator("#answers strong").all_inner_texts()
    assert words == [verdict["answer"][0], "unknown", "cannot be read"]
    assert tab.locator("#answers small").all_inner_texts()[0] == "<b>digit</b>.png"
    assert tab.locator("#promise").inner_text() == guard.calibration.promise
    assert tab.locator("#state").inner_text() == ""
    own = [url for url in asked if not url.startswith("blob:")]
    assert set(own) <= {f"{address}/", f"{address}/score", f"{address}/favicon.ico"}
    assert [line for line in wrong if "favicon" not in line and "404" not in line] == []
