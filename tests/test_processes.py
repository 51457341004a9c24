"""What surrounds a guard in production: threads that save, no console, layers with extra state."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import offmap
from offmap._utils.files import atomic, reason_of
from offmap._utils.progress import progress
from offmap.forward import COMPUTING, weights_digest


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


def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_thereafter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def synced(file: int) -> None:
        status = os.fstat(file)
        what = "name" if os.path.samestat(status, tmp_path.stat()) else str(status.st_size)
        steps.append(f"{what} {(tmp_path / 'a.txt').exists()}")

    monkeypatch.setattr("offmap._utils.files.os.fsync", synced)
    with atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    with atomic(tmp_path / "b.txt", sync=False) as temporary:
        temporary.write_text("whole")
    # What is removed after it, such as the tensors of the record before, must not go first.
    assert steps == ["5 False", "name True"]


def test_threads_that_save_several_guards_leave_one_of_them(tmp_path: Path) -> None:
    """None removes the tensors that another has written, and who reads meanwhile has a guard."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    data = [(torch.rand(20, 3, 2, 2), torch.arange(20) % 3)]
    guards = [offmap.Guard(network, name).fit(data) for name in ("KNN(k=5)", "mahalanobis")]
    guards[0].save(tmp_path)
    failures: list[BaseException] = []

    def repeat(act: Callable[[], object]) -> None:
        try:
            for _ in range(40):
                act()
        except BaseException as error:
            failures.append(error)

    acts = [partial(guard.save, tmp_path) for guard in guards]
    acts += [partial(offmap.load, tmp_path, network)]
    threads = [threading.Thread(target=repeat, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    offmap.load(tmp_path, network)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="files have no such modes there")
def test_files_have_the_mode_of_new_files_and_the_umask_stays(tmp_path: Path) -> None:
    before = os.umask(0o027)

    def refuse(mask: int) -> int:
        raise AssertionError("another thread may make a file while the umask is changed")

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "umask", refuse)
            with atomic(tmp_path / "a") as temporary:
                temporary.touch(0o600)
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def closed() -> object:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stderr", [None, object(), closed()])
def test_no_console_shows_no_bar(stderr: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    with progress("fit", 3) as advance:
        advance(3)


class Stateful(nn.Linear):
    """A layer whose state holds more than tensors."""

    def __init__(self, note: object) -> None:
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


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: io.BytesIO(bytes([x])),
        lambda x: [{"scale": torch.full((2000,), x)}],
        lambda x: {"of": object(), "step": (x, len)},
    ],
)
def test_what_a_network_is_does_not_depend_on_places_in_memory(
    wrap: Callable[[int], object],
) -> None:
    """Layers of 8 bits give their state as a buffer that is made anew each time."""
    kept = [Stateful(wrap(value)) for value in (1, 1, 2)]
    assert weights_digest(kept[0]) == weights_digest(kept[1]) != weights_digest(kept[2])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_waits_for_the_thread_that_computes() -> None:
    """Torch's own locks are copied, too: a child must not be made while another thread has one."""
    inside, left = threading.Event(), threading.Event()

    def compute() -> None:
        with COMPUTING, COMPUTING:
            inside.set()
            time.sleep(0.2)
            left.set()

    thread = threading.Thread(target=compute)
    thread.start()
    inside.wait()
    with COMPUTING:  # its own does not hold it
        child = os.fork()
        if child == 0:
            with COMPUTING:
                os._exit(0 if left.is_set() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()
    with COMPUTING:  # nothing is held afterwards
        pass


def test_errors_of_the_system_are_told_without_their_number(tmp_path: Path) -> None:
    (file := tmp_path / "a").touch()
    told = []
    for path in (tmp_path / "b", file / "c"):
        try:
            path.read_text()
        except OSError as error:
            told.append(reason_of(error))
    assert told == [f"there is no {tmp_path / 'b'}", f"{file / 'c'}: Not a directory"]
    assert reason_of(KeyError("rows")) == "it has no 'rows'"
    assert reason_of(OSError("as it is")) == "as it is"
