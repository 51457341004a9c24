"""What surrounds a guard in production: threads that save, no console, layers with extra state."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import offmap
from offmap._utils.progress import progress
from offmap.forward import weights_digest


def test_threads_may_save_to_one_folder_at_once(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    guard = offmap.Guard(network, "energy").fit([(torch.rand(20, 3, 2, 2), None)])
    failures: list[BaseException] = []

    def save() -> None:
        try:
            for _ in range(5):
                guard.save(tmp_path)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=save) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert offmap.load(tmp_path, network).explain() == guard.explain()


@pytest.mark.parametrize("stderr", [None, object()])
def test_no_console_shows_no_bar(stderr: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    with progress("fit", 3) as advance:
        advance(3)


class Stateful(nn.Linear):
    """A layer whose state holds more than tensors."""

    def __init__(self, note: str) -> None:
        super().__init__(2, 2)
        self.note = note
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def get_extra_state(self) -> dict[str, object]:
        return {"note": self.note}

    def set_extra_state(self, state: dict[str, Tensor]) -> None: ...


def test_extra_state_is_part_of_what_a_network_is() -> None:
    assert weights_digest(Stateful("a")) == weights_digest(Stateful("a"))
    assert weights_digest(Stateful("a")) != weights_digest(Stateful("b"))
