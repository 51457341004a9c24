"""Options of a probe that are misspelt: told at the call, and seen by a checker of types."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import offmap
from offmap.errors import ArgumentError
from offmap.forward import CascadeProbe, EnsembleProbe, Probe, ProbeOptions, forward, probe_of
from offmap.networks import Ensemble

NETWORK = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
ENSEMBLE = Ensemble([NETWORK, nn.Sequential(nn.Flatten(), nn.Linear(4, 3))])
CASCADE = offmap.Cascade(filter=NETWORK, classifier=ENSEMBLE)
CALLS: dict[str, Callable[..., Any]] = {
    "Probe": lambda **options: Probe(NETWORK, **options),
    "EnsembleProbe": lambda **options: probe_of(ENSEMBLE, **options),
    "CascadeProbe": lambda **options: probe_of(CASCADE, **options),
    "forward": lambda **options: forward(NETWORK, [], **options),
    "Guard": lambda **options: offmap.Guard(NETWORK, "msp", **options),
    "evaluate": lambda **options: offmap.evaluate(NETWORK, id_test=[], ood={}, **options),
}
calls = pytest.mark.parametrize("call", CALLS)


@calls
@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("normalisation", "normalization"), ("chanels_last", "channels_last"), ("outptus", "outputs")],
)
def test_a_misspelt_option_is_told_at_the_call(call: str, wrong: str, meant: str) -> None:
    with pytest.raises(ArgumentError) as told:
        CALLS[call](**{wrong: None})
    start = f"{call} has no option {wrong!r}: did you mean {meant!r}? It takes network, "
    assert str(told.value).startswith(start)


@pytest.mark.parametrize(
    ("call", "wrong", "meant"),
    [
        ("evaluate", "calibratoin", "calibration"),
        ("evaluate", "learnshare", "learn_share"),
        ("forward", "batchsize", "batch_size"),
        ("Guard", "clases", "classes"),
    ],
)
def test_an_argument_of_the_call_itself_is_meant_too(call: str, wrong: str, meant: str) -> None:
    with pytest.raises(ArgumentError, match=f"no option '{wrong}': did you mean '{meant}'"):
        CALLS[call](**{wrong: None})


@pytest.mark.parametrize("kind", [Probe, EnsembleProbe, CascadeProbe])
def test_the_options_are_those_that_every_probe_takes(kind: type) -> None:
    own = [p for p in inspect.signature(kind).parameters if p not in ("network", "unknown")]
    assert sorted(own) == sorted(ProbeOptions.__annotations__)


@pytest.mark.slow
def test_a_checker_of_types_sees_it(tmp_path: Path) -> None:
    lines = [
        "import offmap",
        "from torch import nn",
        "offmap.evaluate(nn.Identity(), id_test=1, ood={}, normalisation=None)",
        "offmap.Guard(nn.Identity(), normalisation=None)",
        "offmap.Guard(nn.Identity(), precision=3)",
        "offmap.Probe(nn.Identity(), normalisation=abs)",
        "offmap.Guard(nn.Identity(), precision='bf16', normalization=None)",
    ]
    (tmp_path / "used.py").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "used.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    told = [line.split(":")[1] for line in done.stdout.splitlines() if ": error:" in line]
    assert told == ["3", "4", "5", "6"], done.stdout
