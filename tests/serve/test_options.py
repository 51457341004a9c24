"""What the words of the command become."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import offmap
from offmap.cli import main
from offmap.serve import Settings

Call = Callable[[str], tuple[Settings, str, int]]


@pytest.fixture
def call(guard: offmap.Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs the command up to the server: its settings, host and port."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OFFMAP_SERVE_TOKEN", raising=False)
    guard.save("guard")
    Path("mine.py").write_text("from offmap.demo import shipped\n")
    seen: list[Any] = []

    def run(make: Any, settings: Settings, host: str, port: int, tell: Any) -> None:
        tell("http://there")
        made = make(settings)
        seen.append((settings, host, port))
        made.state.service.recorder.stop()

    monkeypatch.setattr("offmap.serve.running.run", run)

    def call_one(words: str) -> tuple[Settings, str, int]:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(f"serve guard --model mine.py:shipped {words}"))
        assert not ended.value.code
        found: tuple[Settings, str, int] = seen.pop()
        return found

    return call_one


def test_without_options_it_is_for_this_machine_alone(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, host, port = call("")
    assert (host, port) == ("127.0.0.1", 8000)
    assert settings == Settings(allow_hosts=("127.0.0.1",))
    assert settings.hosts == {"localhost", "127.0.0.1", "[::1]"}
    printed = capsys.readouterr()
    assert printed.out == "Serving guard at http://there\n"
    assert printed.err == ""


def test_every_limit_has_its_option(call: Call) -> None:
    settings, *_ = call(
        "--name m --workers 2 --max-batch 3 --max-wait-ms 4 --max-bytes 5 --max-pixels 6 --queue 7 "
        "--timeout 8 --allow-host a.example b.example --allow-alarm-rate --explain --log l "
        "--monitor-state s"
    )
    assert settings == Settings(
        name="m", workers=2, max_batch=3, max_wait_ms=4, max_bytes=5, max_pixels=6, queue=7,
        timeout=8, allow_hosts=("a.example", "b.example", "127.0.0.1"), allow_alarm_rate=True,
        explain=True, log=Path("l"), monitor_state=Path("s"),
    )  # fmt: skip
    assert {path.suffix for path in Path("l").iterdir()} == {".jsonl"}


def test_a_token_comes_from_a_file_or_the_environment(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("token").write_text("a-secret-of-the-house\n")
    assert call("--token-file token")[0].token == "a-secret-of-the-house"
    monkeypatch.setenv("OFFMAP_SERVE_TOKEN", "another-secret-of-it\n")  # as secrets are mounted
    assert call("")[0].token == "another-secret-of-it"


def test_an_open_address_without_a_token_is_warned_of(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, host, _ = call("--host 0.0.0.0")
    assert host == "0.0.0.0"
    assert settings.allow_hosts == ()  # it is no name that anyone calls
    assert "whoever reaches 0.0.0.0 can use this service: give --token-file" in (
        capsys.readouterr().err
    )
