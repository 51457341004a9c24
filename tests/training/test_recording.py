"""What is recorded while a network trains, and afterwards from the weights that it kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import offmap
from offmap import demo
from offmap.cli._bench import normalization_or_usual
from offmap.data import embedded
from offmap.errors import ArgumentError, DataNotFoundError, StoreError, UnknownNameError
from offmap.evaluation.collapse import collapse
from offmap.evaluation.measure import measure
from offmap.networks import DigitsCNN
from offmap.training import Epoch, Recipe, Sets, kept, train
from offmap.training.callbacks import watch_collapse, watch_ood
from offmap.training.recording import record_run
from offmap.training.records import Records
from offmap.training.trained import Checkpoint, open_trained

RECIPE = Recipe(
    network="digits_cnn(classes=10)",
    data="embedded:digits",
    normalization="0.305/0.376",
    optimizer="adam",
    lr=2e-3,
    schedule="cosine",
    epochs=5,
    batch_size=64,
    precision="fp32",
)
SCORES = ["msp", "mahalanobis"]
FAR = {"far": {"faces": embedded("faces", size=(8, 8), limit=60)}}


@pytest.fixture(scope="module")
def sets() -> Sets:
    validation, rest = embedded("digits").split(0.3)
    return Sets(rest, validation)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, sets: Sets) -> Path:
    """A training that kept some weights and watched while it went on."""
    out = tmp_path_factory.mktemp("run") / "run"
    watch = watch_collapse(
        sets.train,
        id_test=sets.validation,
        ood=FAR,
        detectors=SCORES,
        every=2,
        normalization=demo.NORMALIZATION,
        show_progress=False,
    )
    train(RECIPE, out, sets=sets, keep_every=2, after_epoch=[watch])
    return out


def recorded(run: Path, sets: Sets, out: Path, **changes: Any) -> Records:
    what = {"train": sets.train, "id_test": sets.validation, "ood": FAR, "detectors": SCORES}
    return record_run(run, out=out, **(what | changes))


def test_first_last_and_each_second_epoch_are_kept(run: Path) -> None:
    (run / "epochs" / "0004 copy.safetensors").touch()
    assert list(kept(run)) == [1, 2, 4, 5]
    assert kept(run)[5].read_bytes() == (run / "weights.safetensors").read_bytes()


def test_records_afterwards_are_those_of_the_training(
    run: Path, sets: Sets, tmp_path: Path
) -> None:
    watched, after = Records.read(run), recorded(run, sets, tmp_path)
    assert watched.epochs == after.epochs == [1, 2, 4, 5]
    for one, other in zip(watched.ood, after.ood, strict=True):
        assert one == pytest.approx(other)
    for one, other in zip(watched.collapse, after.collapse, strict=True):
        assert one == pytest.approx(other, rel=1e-6)  # convolutions of another memory layout
    assert after.detectors == SCORES


def test_a_record_says_what_collapse_and_evaluate_say(
    run: Path, sets: Sets, tmp_path: Path
) -> None:
    network = train(RECIPE, run, sets=sets, resume=True)  # finished: read back
    options = {"normalization": demo.NORMALIZATION, "show_progress": False}
    expected = collapse(network, sets.train, ood=FAR, **options)
    results = offmap.evaluate(
        network, train=sets.train, id_test=sets.validation, ood=FAR, detectors=SCORES, **options
    )
    row, records = Records.read(run).collapse[-1], Records.read(run)
    for name in ("nc1", "nc2_norms", "nc2_angles", "nc2_simplex", "nc3", "nc4", "accuracy"):
        assert row[name] == pytest.approx(getattr(expected, name)), name
    assert records.of("nc5")[-1] == pytest.approx(expected.nc5["faces"])
    assert records.auroc("mahalanobis")[-1] == pytest.approx(results.get("mahalanobis", "faces"))
    right, samples = results.accuracy or (0, 0)
    assert row["test_accuracy"] == pytest.approx(right / samples)


def test_records_of_another_training_are_not_taken_for_its_own(
    run: Path, sets: Sets, tmp_path: Path
) -> None:
    recorded(run, sets, tmp_path / "records", ood=None, detectors=())
    train(RECIPE.but({"seed": 1, "epochs": 1}), tmp_path / "other", sets=sets)
    with pytest.raises(ArgumentError, match="holds records of other weights"):
        recorded(tmp_path / "other", sets, tmp_path / "records", ood=None, detectors=())


@pytest.mark.parametrize("text", ["", "[1, 2]", "3"])
def test_records_that_say_nothing_of_their_training_are_named(
    run: Path, sets: Sets, tmp_path: Path, text: str
) -> None:
    (tmp_path / "records.json").write_text(text)
    with pytest.raises(StoreError, match=r"records.json cannot be read"):
        recorded(run, sets, tmp_path, ood=None, detectors=())


@pytest.mark.parametrize("watch", [watch_collapse, watch_ood])
def test_no_epoch_is_every_0th(watch: Any, sets: Sets) -> None:
    with pytest.raises(ArgumentError, match="every must be a whole number of at least 1"):
        watch(sets.train, ood=FAR, every=0)


def test_what_was_measured_is_not_measured_again(
    run: Path, sets: Sets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = recorded(run, sets, tmp_path)
    lines = (tmp_path / "collapse.csv").read_text().splitlines(keepends=True)
    (tmp_path / "collapse.csv").write_text("".join(lines[:-1]))  # stopped before its last line
    measured = []

    def counted(network: Any, *args: Any, **options: Any) -> Any:
        measured.append(network)
        return measure(network, *args, **options)

    monkeypatch.setattr("offmap.training.recording.measure", counted)
    again = recorded(run, sets, tmp_path)
    assert len(measured) == 1
    assert again == whole


def test_a_watcher_that_is_resumed_repeats_no_line(tmp_path: Path, sets: Sets) -> None:
    network = DigitsCNN(10)
    watch = watch_collapse(sets.train, every=2, show_progress=False)
    for number in (1, 2, 3, 2, 3, 5):  # resumed after the third
        watch(Epoch(number, 5, [], network, tmp_path))
    records = Records.read(tmp_path)
    assert records.epochs == [1, 2, 5]
    assert not records.ood
    assert "test_accuracy" not in records.collapse[0]


def test_an_epoch_that_is_measured_afterwards_leaves_those_behind_it(
    tmp_path: Path, sets: Sets
) -> None:
    """The rows of later epochs were dropped, which had taken hours."""
    network = DigitsCNN(10)
    watch = watch_collapse(sets.train, every=1, show_progress=False)
    for number in (3, 1, 2):
        watch(Epoch(number, 3, [], network, tmp_path))
    assert Records.read(tmp_path).epochs == [1, 2, 3]


def test_an_epoch_that_was_interrupted_between_its_tables_is_not_shown() -> None:
    rows = [{"epoch": e, "detector": "msp", "set": "a", "auroc": 0.7} for e in (1, 2)]
    assert Records([{"epoch": 1, "nc1": 1.0}], rows).auroc("msp").tolist() == [0.7]


def test_a_run_that_kept_nothing_has_its_last_weights(
    run: Path, sets: Sets, tmp_path: Path
) -> None:
    for name in ("run.json", "weights.safetensors"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    assert recorded(tmp_path, sets, tmp_path / "out").epochs == [5]


def test_a_folder_without_records_says_so(tmp_path: Path) -> None:
    """The table of none was an IndexError."""
    records = Records.read(tmp_path)
    assert records.table() == "neural collapse: no epoch has a record yet"
    assert records.of("nc1").tolist() == []
    records.draw(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("collapse.csv", "nc1,nc3\n1,2\n", "it has no 'epoch'"),
        ("ood.csv", "epoch,set,auroc\n1,a,0.5\n", "it has no 'detector'"),
        ("collapse.csv", f"epoch,nc1\n1,{'1' * 200_000}\n", "field larger than"),
    ],
)
def test_other_tables_are_no_records(name: str, text: str, reason: str, tmp_path: Path) -> None:
    """They were read, and ended in a KeyError later; or in an error of the csv module."""
    (tmp_path / name).write_text(text)
    with pytest.raises(StoreError, match=f"{name} is no table of records: {reason}"):
        Records.read(tmp_path)


def test_what_cannot_be_recorded_is_named(run: Path, sets: Sets, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no run\.json: `offmap train` makes one"):
        recorded(tmp_path, sets, tmp_path / "out")
    (tmp_path / "run.json").write_bytes((run / "run.json").read_bytes())
    with pytest.raises(DataNotFoundError, match="has kept no weights yet"):
        recorded(tmp_path, sets, tmp_path / "out")
    out = tmp_path / "records"
    recorded(run, sets, out, detectors=["msp"])
    with pytest.raises(ArgumentError, match="holds records of other detectors"):
        recorded(run, sets, out)
    (out / "collapse.csv").write_text("epoch,nc1\nx,1\n")
    with pytest.raises(StoreError, match="no table of records"):
        Records.read(out)


class Loader:
    """Data whose description is Python's, with an address in memory."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __iter__(self) -> Iterator[Any]:
        return iter(self.held.batches(100))


def test_a_loader_is_the_same_in_another_process(run: Path, sets: Sets, tmp_path: Path) -> None:
    """Its address told it from itself, and the records could not be gone on with."""
    rest = {"ood": None, "detectors": ()}
    first, second = Loader(sets.validation), Loader(sets.validation)
    assert str(first) != str(second)
    records = record_run(run, train=sets.train, id_test=first, out=tmp_path, **rest)  # type: ignore[arg-type]
    again = record_run(run, train=sets.train, id_test=second, out=tmp_path, **rest)  # type: ignore[arg-type]
    assert again == records


def test_a_call_that_fails_before_its_first_record_claims_no_folder(
    run: Path, sets: Sets, tmp_path: Path
) -> None:
    """Once the name was corrected, the folder held records of other detectors: it held none."""
    with pytest.raises(UnknownNameError):
        recorded(run, sets, tmp_path, detectors=["mspp"])
    assert recorded(run, sets, tmp_path, detectors=["msp"]).detectors == ["msp"]


def test_two_watchers_leave_each_others_lines(sets: Sets, tmp_path: Path) -> None:
    """Those of the first were erased by the second, in the same epoch."""
    options: dict[str, Any] = {"every": 1, "normalization": demo.NORMALIZATION}
    options["show_progress"] = False
    faces = FAR["far"]["faces"]
    watchers = [
        watch_ood(sets.validation, {name: faces}, detectors=[detector], **options)
        for name, detector in (("one", "msp"), ("one", "energy"), ("two", "msp"))
    ]

    def stop(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise KeyboardInterrupt

    short = RECIPE.but({"epochs": 3})
    with pytest.raises(KeyboardInterrupt):
        train(short, tmp_path, sets=sets, after_epoch=[*watchers, stop])
    train(short, tmp_path, sets=sets, resume=True, after_epoch=watchers)
    lines = [(row["epoch"], row["detector"], row["set"]) for row in Records.read(tmp_path).ood]
    three = [("msp", "one"), ("energy", "one"), ("msp", "two")]
    assert lines == [(epoch, *line) for epoch in (1, 2, 3) for line in three]


def test_a_watcher_of_more_sets_goes_on_with_the_table(sets: Sets, tmp_path: Path) -> None:
    options: dict[str, Any] = {"every": 1, "show_progress": False}
    options["normalization"] = demo.NORMALIZATION

    def stop(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise KeyboardInterrupt

    short = RECIPE.but({"epochs": 3})
    with pytest.raises(KeyboardInterrupt):
        train(short, tmp_path, sets=sets, after_epoch=[watch_collapse(sets.train, **options), stop])
    # Without detectors, too: test accuracy and NC5 are measured.
    more = watch_collapse(sets.train, id_test=sets.validation, ood=FAR, **options)
    train(short, tmp_path, sets=sets, resume=True, after_epoch=[more])
    records = Records.read(tmp_path)
    assert records.epochs == [1, 2, 3]
    assert np.isfinite(records.of("nc5")).tolist() == [False, True, True]
    assert np.isfinite(records.of("test_accuracy")).tolist() == [False, True, True]
    assert not records.ood


def test_a_run_in_the_working_folder_has_a_name(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its source was empty."""
    monkeypatch.chdir(run)
    checkpoint = Checkpoint(lambda _: DigitsCNN(10), "none", "")
    for spec in (".", "weights.safetensors", str(run)):
        assert open_trained(spec, checkpoint).source == run.name


_IN_ASCII = """
from pathlib import Path
from offmap.studies._study import write_report
from offmap.training.history import write_history
from offmap.training.records import Records
write_report("\\u201cunknown\\u201d", Path("."))
row = {"epoch": 1, "detector": "msp", "set": "\\u03c7", "auroc": 0.5}
write_history(Path("ood.csv"), [row])
assert Records.read(".").ood == [row]
"""


def test_tables_and_reports_are_utf8_whatever_the_locale(tmp_path: Path) -> None:
    """They were written in that of the machine, and read as UTF-8 for the page of a run."""
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run(
        [sys.executable, "-c", _IN_ASCII], cwd=tmp_path, env=os.environ | ascii_locale, check=True
    )
    assert (tmp_path / "report.txt").read_text(encoding="utf-8") == "“unknown”\n"
    assert "χ" in (tmp_path / "ood.csv").read_text(encoding="utf-8")


def test_a_run_says_itself_how_its_images_are_normalised(run: Path) -> None:
    """With another behind it, there was "neither a checkpoint nor a finished run"."""
    checkpoint = Checkpoint(lambda _: DigitsCNN(10), "none", "")
    assert open_trained(str(run), checkpoint).normalization == demo.NORMALIZATION
    with pytest.raises(ArgumentError, match=r"says itself .* leave @0.1/0.2 out"):
        open_trained(f"{run}@0.1/0.2", checkpoint)


def test_an_epoch_of_a_run_is_of_its_network_and_normalisation(
    run: Path, sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was read as a checkpoint of the study, normalised as those are."""
    checkpoint = Checkpoint(lambda _: nn.Identity(), "none", "")
    found = open_trained(str(run / "epochs" / "0004.safetensors"), checkpoint)
    assert isinstance(found.network, DigitsCNN)
    assert not found.network.training
    assert found.normalization == demo.NORMALIZATION
    assert found.source == f"{run.name}, epoch 4"
    assert found.trained_on == sets.train.fingerprint
    for name in ("epochs/0004.safetensors", "weights.safetensors"):
        known = normalization_or_usual(None, "cifar10", "digits_cnn(classes=10)", run / name)
        assert known == demo.NORMALIZATION
    monkeypatch.chdir(run / "epochs")
    assert open_trained("0004.safetensors", checkpoint).source == found.source
    for name in ("epochs/0004.safetensors", "weights.safetensors"):
        with pytest.raises(ArgumentError, match=r"says itself .* leave @0.1/0.2 out"):
            open_trained(f"{run / name}@0.1/0.2", checkpoint)
