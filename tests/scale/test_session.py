"""Whose Ray session it is, and what is said where it cannot be used: with a stand-in for Ray."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn

import offmap
from offmap import Probe
from offmap.errors import ArgumentError, MissingExtraError, OffmapWarning
from offmap.scale import _session
from offmap.scale._sending import put
from offmap.scale._session import check_versions, gpus_of, library, session, versions
from offmap.scale.passes import Passes


class Ray:
    """Notes how it is started and ended."""

    def __init__(self, *, running: bool = False, cpus: float = 8, fails: str = "") -> None:
        self.running, self.cpus, self.fails = running, cpus, fails
        self.started: dict[str, Any] = {}
        self.ended = 0

    def is_initialized(self) -> bool:
        return self.running

    def init(self, **options: Any) -> None:
        self.started = options
        if self.fails:
            raise RuntimeError(self.fails)

    def shutdown(self) -> None:
        self.ended += 1

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self.cpus}


@pytest.fixture(autouse=True)
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def use(ray: Ray, monkeypatch: pytest.MonkeyPatch) -> Ray:
    monkeypatch.setattr(_session, "import_module", lambda name: ray)
    return ray


def test_a_session_of_our_own_is_local_quiet_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    ray = use(Ray(), monkeypatch)
    with session(2):
        assert ray.started["address"] == "local"
        assert ray.started["num_cpus"] == 3
        assert ray.started["include_dashboard"] is False
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert not ray.ended
    assert ray.ended == 1


def test_a_session_that_runs_here_is_used_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = use(Ray(running=True), monkeypatch)
    with session(2):
        pass
    assert not ray.started
    assert not ray.ended


def test_a_cluster_is_joined_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    ray = use(Ray(), monkeypatch)
    with session(2):
        assert ray.started["address"] == "10.0.0.1:6379"
        assert "num_cpus" not in ray.started


def test_another_version_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    use(Ray(fails="Version mismatch: The cluster was started with:\n    Ray: 2.9.0"), monkeypatch)
    words = "the cluster at auto cannot be used: Version mismatch: .* Ray: 2.9.0; install the same"
    with pytest.raises(ArgumentError, match=words), session(2):
        pass
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.9:1")
    use(Ray(fails="no answer"), monkeypatch)
    with pytest.raises(ArgumentError, match="no answer; look at RAY_ADDRESS"), session(2):
        pass


def test_a_session_that_does_not_start_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray raises a bare Exception on a machine under load: that was a traceback."""

    class Slow(Ray):
        def init(self, **options: Any) -> None:
            raise Exception("The current node timed out\nduring startup.")

    use(Slow(), monkeypatch)
    words = "Ray does not start on this machine: The current node timed out during startup.; look"
    with pytest.raises(ArgumentError, match=words), session(2):
        pass


def test_numbers_of_numpy_are_pythons_own(monkeypatch: pytest.MonkeyPatch) -> None:
    use(Ray(running=True), monkeypatch)
    with Passes(np.int64(2), np.int64(1), None) as passes:  # type: ignore[arg-type]
        assert (type(passes.workers), type(passes.threads)) == (int, int)


def test_what_would_wait_for_ever_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use(Ray(running=True, cpus=4), monkeypatch)
    words = "6 CPU slots are needed, and the Ray session has 4:"
    with pytest.raises(ArgumentError, match=words), session(6):
        pass
    words = "2 GPU slots are needed, and the Ray session has 0:"
    with pytest.raises(ArgumentError, match=words), session(4, gpus=2):
        pass


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> SimpleNamespace:
        raise ImportError(name)

    monkeypatch.setattr(_session, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'offmap\[ray\]'"):
        library()


def test_workers_of_other_versions_are_told_or_refused() -> None:
    check_versions(versions())
    with pytest.warns(OffmapWarning, match=r"torch .* here and 2.0 there\): numbers may differ"):
        check_versions(versions() | {"torch": "2.0"})
    with pytest.raises(ArgumentError, match=r"offmap .* here and 0.0.1 there"):
        check_versions(versions() | {"offmap": "0.0.1"})


def test_workers_choose_no_gpu_by_its_number() -> None:
    """Ray shows each worker its own, as the first."""
    assert [gpus_of(name) for name in (None, "cpu", "cuda")] == [0, 0, 1]
    with pytest.raises(ArgumentError, match="seen cuda:1: give cuda"):
        gpus_of("cuda:1")


def test_a_network_on_a_gpu_is_not_sent() -> None:
    """The device "meta" stands for one: workers would fail on its tensors, each in a traceback."""
    guard = offmap.Guard(nn.Linear(3, 2).to("meta"), "msp")
    for value in (guard, guard.probe, Probe(nn.Linear(3, 2), device="meta")):
        with pytest.raises(ArgumentError, match="to run on meta here, and workers read it from"):
            put(None, value)
