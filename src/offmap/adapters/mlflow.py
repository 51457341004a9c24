"""Results and guards in MLflow.

::

    from offmap.adapters import mlflow

    mlflow.log_results(results)                  # settings, mean figures, the files of the results
    mlflow.log_guard("guard/")                   # the folder, and a model that scores with it

    model = mlflow.pyfunc.load_model(...)        # of the library: model.predict(table)

They go into the active run, or into one that is opened for them. The model is one "from code": a
script of this package that opens the guard's folder, an artifact; nothing is pickled.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from offmap import networks
from offmap.errors import ArgumentError, MissingExtraError
from offmap.evaluation import Results
from offmap.guard import Guard
from offmap.guard.opening import Opening, check_knows_normalization, shape_of

__all__ = ["log_guard", "log_results"]

METRICS = ("auroc", "fpr_id_kept", "fpr_ood_caught", "aupr_in", "aupr_out")
_LONGEST = 500  # characters of a parameter
_REFUSED = re.compile(r"[^\w.\-: /]")  # in its name


def log_results(results: Results, *, folder: str = "results") -> None:
    """Log an evaluation: settings as parameters, means as metrics, its files as artifacts.

    A metric is called ``DETECTOR/METRIC/GROUP``, as ``energy/auroc/near``, the mean over the OOD
    sets of the group, or of all; ``accuracy`` is that of the network.

    Args:
        results: of :func:`offmap.evaluate`.
        folder: of the artifacts.

    Raises:
        MissingExtraError: MLflow is not installed.
    """
    mlflow = library()
    settings = {  # those inside of others as "versions.torch"
        _REFUSED.sub("-", f"{name}.{key}".rstrip(".")): str(each)[:_LONGEST]
        for name, value in results.settings.items()
        if name != "seconds"
        for key, each in (value if isinstance(value, Mapping) else {"": value}).items()
        if each is not None
    }
    groups = [(None, "all"), *_names(list(results.groups)).items()]
    metrics = {
        f"{plain}/{metric}/{of_group}": results.mean(detector, metric, group=group)
        for detector, plain in _names(results.detectors).items()
        for metric in METRICS
        for group, of_group in groups
    }
    if results.accuracy is not None:
        correct, n = results.accuracy
        metrics["accuracy"] = correct / n
    with _run(mlflow), tempfile.TemporaryDirectory() as name:
        mlflow.log_params({"offmap": version("offmap")} | settings)
        mlflow.log_metrics(metrics)
        results.save(name)
        mlflow.log_artifacts(name, folder)


def log_guard(folder: str | Path, *, name: str = "guard", **options: Any) -> Any:
    """Log a guard: its folder as an artifact, and a model that scores tables with it.

    The model takes what :class:`offmap.scale.Scorer` takes, a table with a column of images as
    bytes or paths, or of features, and gives ``label``, ``score``, ``p``, ``is_ood`` and
    ``reason``.

    Args:
        folder: of the guard.
        name: of the model.
        **options: as for ``mlflow.pyfunc.log_model``, such as ``registered_model_name``.

    Returns:
        What MLflow says of the model: ``model_uri`` and more.

    Raises:
        StoreError: there is no guard in the folder.
        NotFittedError: it has no threshold.
        ArgumentError: its folder is not enough to open it, or to score files with it.
        MissingExtraError: MLflow is not installed.
    """
    mlflow = library()
    with _in_words():  # a folder that cannot be opened must not be logged as a guard
        guard = Opening(device="cpu").open(folder)
    check(guard)
    _ = guard.calibration
    requirements = [f"{each}=={version(each).split('+')[0]}" for each in ("offmap", "torch")]
    defaults = {"pip_requirements": requirements}
    with _run(mlflow):
        return mlflow.pyfunc.log_model(
            name=name,
            python_model=str(Path(__file__).with_name("_mlflow_model.py")),
            artifacts={"guard": str(folder)},
            **(defaults | options),
        )


def check(guard: Guard) -> None:
    """Refuse a guard that nobody could open, or use, from its folder alone.

    Raises:
        ArgumentError: its network is none of this library, or the folder does not say how images
            are made for it.
    """
    model = str(guard.model)
    with _in_words():
        if not (model.startswith(networks.zoo.PREFIX) or networks.is_own(model)):
            origin = "from Python" if guard.model is None else f"with model={model}"
            raise ArgumentError(f"this guard was made {origin}, so nothing here builds its network")
        if guard.input_transform is not None:
            name = guard.input_transform[0]
            raise ArgumentError(f"this guard was fitted on images made by the transform {name}")
        if not (guard.input_names or len(guard.input_shape or (0, 0, 0)) == 1):
            check_knows_normalization(guard)
            shape_of(guard)


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except ArgumentError as error:
        reason = re.sub(r"^give \w+=: ", "", str(error))  # where nothing can be given
        raise ArgumentError(
            "a model of MLflow has the guard's folder and nothing else, which is not enough: "
            f"{reason}"
        ) from error


def library() -> Any:
    """MLflow.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import_module("mlflow.pyfunc")
        return import_module("mlflow")
    except ImportError as error:
        raise MissingExtraError("mlflow", "mlflow") from error


@contextmanager
def _run(mlflow: Any) -> Iterator[None]:
    """The active run, else a new one that ends with the block."""
    if mlflow.active_run() is not None:
        yield
        return
    with mlflow.start_run():
        yield


def _names(names: Sequence[str]) -> dict[str, str]:
    """Each in letters and digits of ASCII, and signs that MLflow allows; a hash tells equals apart.

    ``mahalanobis++`` is ``mahalanobispp``, in whatever company: runs are compared by these names.
    """
    plain: dict[str, str] = {}
    for name in names:
        short = re.sub(r"[^\w.\-]+", "-", name.replace("+", "p"), flags=re.ASCII).strip("-")
        if not short or short in plain.values():
            short += f"-{sha256(name.encode()).hexdigest()[:8]}"
        plain[name] = short
    return plain
