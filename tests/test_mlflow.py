"""Results and guards in MLflow, read back by MLflow."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

import offmap
from offmap import demo
from offmap.adapters import mlflow as adapter
from offmap.cli import main
from offmap.errors import ArgumentError, NotFittedError, StoreError
from offmap.evaluation import Results

mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
pytest.importorskip("mlflow.pyfunc")
pytestmark = pytest.mark.filterwarnings("ignore")  # of its own


@pytest.fixture(autouse=True)
def tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of files below the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # which its newer versions ask for
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())


@pytest.fixture(scope="module")
def sets() -> demo.Digits:
    return demo.digits_data()


@pytest.fixture(scope="module")
def results(sets: demo.Digits) -> Results:
    return offmap.evaluate(
        demo.shipped(),
        id_test=sets.test,
        train=sets.train,
        ood={
            "near": {"nines": sets.ood["near"]["nines"]},
            "far": {"faces": sets.ood["far"]["faces"]},
        },
        detectors=["energy", "ViM(dim=8)"],
        normalization=demo.NORMALIZATION,
        settings={"model": "digits"},
    )


def last_run() -> Any:
    (run,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    return run


def test_results_are_parameters_metrics_and_files(results: Results, tmp_path: Path) -> None:
    adapter.log_results(results)
    run = last_run()
    assert run.info.status == "FINISHED"
    metrics = run.data.metrics
    assert metrics["energy/auroc/all"] == results.mean("energy")
    assert metrics["ViM-dim-8/auroc/near"] == results.mean("ViM(dim=8)", group="near")
    assert metrics["energy/fpr_id_kept/far"] == results.mean("energy", "fpr_id_kept", group="far")
    right, n = results.accuracy
    assert metrics["accuracy"] == right / n
    assert run.data.params["model"] == "digits"
    assert run.data.params["versions.torch"] == results.settings["versions"]["torch"]
    folder = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="results", dst_path=str(tmp_path)
    )
    assert Results.load(folder) == results


def test_settings_may_have_names_that_mlflow_refuses(results: Results) -> None:
    """Those of a user, or of sets that overlap: nothing was logged."""
    named = {"lr (max)": 0.1, "overlaps": {"plants, wild in id": 3}}
    adapter.log_results(replace(results, settings=named))
    parameters = last_run().data.params
    assert parameters["lr -max-"] == "0.1"
    assert parameters["overlaps.plants- wild in id"] == "3"


def test_detectors_that_differ_in_signs_alone_have_figures_of_their_own(
    sets: demo.Digits,
) -> None:
    ood = {"far": {"faces": sets.ood["far"]["faces"]}}
    scores = {
        "mahalanobis++": lambda acts: acts.features.norm(dim=1),
        "mahalanobis": lambda acts: -acts.features.norm(dim=1),
        "(mahalanobis)": lambda acts: acts.features[:, 0],
    }
    found = offmap.evaluate(demo.shipped(), id_test=sets.test, ood=ood, detectors=scores)
    adapter.log_results(found)
    metrics = last_run().data.metrics
    assert metrics["mahalanobispp/auroc/all"] == found.mean("mahalanobis++")
    assert metrics["mahalanobis/auroc/far"] == found.mean("mahalanobis")
    (third,) = (n for n in metrics if n.startswith("mahalanobis-") and n.endswith("auroc/all"))
    assert metrics[third] == found.mean("(mahalanobis)")


def test_a_run_that_is_open_takes_them_and_goes_on(results: Results) -> None:
    with mlflow.start_run() as mine:
        adapter.log_results(results)
        assert mlflow.active_run().info.run_id == mine.info.run_id
    assert last_run().info.run_id == mine.info.run_id


def test_a_guard_is_a_model_that_says_what_the_guard_says(
    sets: demo.Digits, tmp_path: Path
) -> None:
    import pandas as pd

    guard = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    guard.fit(sets.train).calibrate(sets.calibration, 0.1)
    guard.model = "digits_cnn"
    guard.save("guard", weights=True)
    logged = adapter.log_guard("guard", name="digits")
    model = mlflow.pyfunc.load_model(logged.model_uri)
    images = sets.test.images[:6]
    table = pd.DataFrame({"bytes": [png(x) for x in images.numpy()]}, index=[*"abcdef"])
    found, verdict = model.predict(table), guard(images)
    assert list(found.columns) == ["label", "score", "p", "is_ood", "reason"]
    assert list(found.index) == [*"abcdef"]
    assert np.array_equal(found["label"], verdict.labels.numpy())
    assert np.allclose(found["score"], verdict.scores.numpy())
    assert np.array_equal(found["is_ood"], verdict.is_ood.numpy())
    place = Path(
        mlflow.artifacts.download_artifacts(logged.model_uri, dst_path=str(tmp_path / "m"))
    )
    assert not [path for path in place.rglob("*") if path.suffix in (".pkl", ".pickle")]


def png(image: np.ndarray) -> bytes:
    with BytesIO() as file:
        Image.fromarray(image[0]).save(file, "PNG")
        return file.getvalue()


def test_what_is_no_guard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(StoreError):
        adapter.log_guard(tmp_path / "nothing")


def test_a_guard_that_its_folder_is_not_enough_for_is_refused(sets: demo.Digits) -> None:
    guard = offmap.Guard(demo.shipped(), "energy", normalization=demo.NORMALIZATION)
    guard.fit(sets.train)
    for name, weights, words in (
        (None, True, "this guard was made from Python"),
        ("timm:resnet18", True, "this guard was made with model=timm:resnet18"),
        ("digits_cnn", False, "this guard was saved without its network's weights"),
    ):
        guard.model = name
        guard.save("guard", weights=weights)
        with pytest.raises(ArgumentError, match=f"folder and nothing else.*: {words}"):
            adapter.log_guard("guard")
    guard.save("guard", weights=True)
    with pytest.raises(NotFittedError, match="no threshold"):
        adapter.log_guard("guard")
    guard.calibrate(sets.calibration)
    guard.input_transform = "mine", "0" * 64  # images made by a function that no folder holds
    guard.save("guard", weights=True)
    with pytest.raises(ArgumentError, match="made by the transform mine"):
        adapter.log_guard("guard")
    assert mlflow.search_runs(output_format="list") == []


def test_the_commands_log_too(sets: demo.Digits, capsys: pytest.CaptureFixture[str]) -> None:
    for name, of in (("held", sets.calibration), ("faces", sets.ood["far"]["faces"])):
        np.savez(f"{name}.npz", images=of.images.numpy())
    guard = offmap.Guard(demo.shipped(), "energy", normalization=demo.NORMALIZATION)
    guard.fit(sets.train)
    guard.model = "digits_cnn"
    guard.save("guard", weights=True)
    save_file(demo.shipped().state_dict(), "w.safetensors")
    called(["calibrate", "guard", "--data", "held.npz", "--mlflow"])
    said = capsys.readouterr().out
    uri = said.split("Logged to MLflow as ")[1].split()[0]
    assert len(mlflow.pyfunc.load_model(uri).predict(_table(sets))) == 2
    arguments = ["--id", "held.npz", "--far", "faces=faces.npz", "--detectors", "energy,msp"]
    model = ["--model", "digits_cnn", "--weights", "w.safetensors"]
    called(["bench", *model, *arguments, "--normalization", "0.305/0.376", "--mlflow"])
    assert "Logged to MLflow" in capsys.readouterr().out
    assert "energy/auroc/far" in mlflow.search_runs(output_format="list")[0].data.metrics


def called(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0


def _table(sets: demo.Digits) -> Any:
    import pandas as pd

    return pd.DataFrame({"bytes": [png(x) for x in sets.test.images[:2].numpy()]})
