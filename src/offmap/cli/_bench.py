"""The work of ``offmap bench``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import typer

from offmap import data, networks, plots
from offmap.adapters import mlflow as tracking
from offmap.cli._arguments import named
from offmap.cli._guards import preprocessing, trained_network
from offmap.cli._messages import say
from offmap.cli._output import command
from offmap.errors import ArgumentError, DataError, DataNotFoundError, LeftOutWarning
from offmap.evaluation import Results, aggregate, evaluate
from offmap.evaluation.metric import metric_of
from offmap.evaluation.published import benchmark_of, beside
from offmap.evaluation.shift import shift_text
from offmap.forward import Normalization
from offmap.guard.decide import alarm_rank, least_samples
from offmap.reporting import inputs_of
from offmap.reporting import report as write_report
from offmap.training import normalization
from offmap.training.trained import normalization_of

CALIBRATION_SHARE = 0.1
_LONG_NAME = 200  # bytes of a file's name, of which systems take 255
Set = data.ImageSet | data.StreamedSet


@dataclass(frozen=True)
class Plan:
    """The data of a benchmark; OOD sets by their names in its tables."""

    id: str
    train: str | None
    calibration: str | None
    near: dict[str, str]
    far: dict[str, str]
    id_shift: dict[str, str]
    normalization: str | None
    size: int | None
    resize: str | None
    transform: str | None
    channels: int | None
    limit: int | None
    train_limit: int | None
    seed: int

    def load(self, name: str, like: Set) -> Set:
        """A set of these data, as the ID set is prepared."""
        return data.load_like(name, like, limit=self.limit, seed=self.seed)

    def load_train(self, like: Set) -> Set | None:
        """Training data: as named, or the train split of the ID set if it has one."""
        limit = self.train_limit or self.limit
        if self.train is not None:
            return data.load_like(self.train, like, limit=limit, seed=self.seed)
        scheme, _, name = self.id.partition(":")
        try:
            if scheme in ("embedded", "noise"):
                raise DataNotFoundError(f"{scheme} has no train split")
            name = f"hf:{name.partition(':')[0]}" if scheme == "hf" else scheme
            return data.load_like(f"{name}:train", like, limit=limit, seed=self.seed)
        except DataNotFoundError:
            typer.echo(
                "no training data: give --train; detectors that need it are left out", err=True
            )
            return None

    def split_calibration(self, id_data: Set, alarm_rate: float) -> tuple[Set, Set]:
        """ID data for the thresholds, and to evaluate: as named, or a tenth and the others."""
        if self.calibration is not None:
            return self.load(self.calibration, id_data), id_data
        calibration, test = id_data.split(CALIBRATION_SHARE, seed=self.seed)
        least_samples(alarm_rate)  # refuses what is no rate: no number of images would be enough
        try:
            alarm_rank(len(calibration), alarm_rate)
        except ArgumentError as error:
            raise ArgumentError(
                f"a tenth of the {len(id_data)} ID images is held out for calibration, and {error}:"
                " give more images, --calibration, or a higher --alarm-rate"
            ) from error
        return calibration, test


def networks_of(
    models: Sequence[str], weights: Sequence[Path]
) -> dict[str, tuple[str, Path | None]]:
    """Networks and their weights by name: one for each, or several checkpoints of one.

    Raises:
        ArgumentError: neither as many weights as networks nor one network, or two of one name.
    """
    if len(models) == 1 and len(weights) > 1:
        ways = (  # of files, of folders, or whole paths: the shortest names that differ
            [path.stem for path in weights],
            [path.absolute().parent.name for path in weights],
            [_plain(str(path)) for path in weights],
        )
        names = next((way for way in ways if len(set(way)) == len(way) and all(way)), None)
        if names is None:
            raise ArgumentError(f"one checkpoint is named twice: {', '.join(map(str, weights))}")
        return {name: (models[0], path) for name, path in zip(names, weights, strict=True)}
    by_name = named(models)
    if len(weights) not in (0, len(by_name)):
        raise ArgumentError(
            f"there are {len(by_name)} networks and {len(weights)} --weights: give one for each, "
            "or none"
        )
    names = [_plain(name) for name in by_name]
    if len(set(names)) < len(names):
        raise ArgumentError(f"two networks would have one folder of {names}: name them, NAME=MODEL")
    files_of: Sequence[Path | None] = weights or [None] * len(names)
    return dict(zip(names, zip(by_name.values(), files_of, strict=True), strict=True))


def run_all(
    plan: Plan,
    by_name: Mapping[str, tuple[str, Path | None]],
    *,
    out: Path,
    metrics: Sequence[str],
    report: bool,
    **options: Any,
) -> None:
    """Evaluate one network into ``out``, or each of several into a folder there, and all as one."""
    if len(by_name) == 1:
        ((model, weights),) = by_name.values()
        run(plan, model=model, weights=weights, out=out, metrics=metrics, report=report, **options)
        return
    results = {}
    for name, (model, weights) in by_name.items():
        say(f"== {name} ==")
        own: dict[str, Any] = {"model": model, "weights": weights, "out": out / name}
        results[name] = run(plan, metrics=metrics, report=report, **own, **options)
    mean = aggregate(results)
    for metric in metrics:
        say(f"\n{mean.table(metric)}")
    if report:
        write_report(mean, out / "report.html", command=command())
        say(f"\nAll together: {out / 'report.html'}")


def run(
    plan: Plan,
    *,
    model: str,
    weights: Path | None,
    detectors: list[str],
    out: Path,
    cache: bool,
    device: str,
    metrics: Sequence[str] = ("auroc",),
    published: str | None = None,
    report: bool = False,
    mlflow: bool = False,
    workers: int | None = None,
    **options: Any,
) -> Results:
    """Evaluate, print a table of each metric, and write everything into ``out``."""
    for name in metrics:
        metric_of(name)  # a misspelt one must not show at the end
    if mlflow:
        tracking.library()  # likewise one that is missing
    if published is not None:
        benchmark_of(published, plan.id)
    warnings.simplefilter("ignore", LeftOutWarning)  # the table says it
    network = trained_network(model, weights)
    own = preprocessing(model, network)
    normalization = normalization_or_usual(
        plan.normalization, plan.id, model, weights, own.normalization
    )
    id_data = data.load(
        plan.id,
        size=plan.size or (None if plan.transform else _recipe(model).get("size") or own.size),
        transform=plan.transform,
        resize=data.check_resize(plan.resize or _recipe(model).get("resize", "crop")),
        channels=plan.channels
        if plan.transform
        else channels_of(plan.channels, normalization, model),
        limit=plan.limit,
        seed=plan.seed,
    )
    train = plan.load_train(id_data)
    if train is not None and train.fingerprint and train.fingerprint == id_data.fingerprint:
        raise DataError(
            "give --id that the network was not trained on: these are the samples of --train"
        )
    calibration, test = plan.split_calibration(id_data, float(options["alarm_rate"]))
    settings = {"id": id_data.name, "model": model, "weights": weights and weights.name}
    ood = {
        group: {name: plan.load(spec, id_data) for name, spec in specs.items()}
        for group, specs in (("near", plan.near), ("far", plan.far))
        if specs
    }
    results = evaluate(
        network,
        engine=None if workers is None else "ray",
        workers=workers or 1,
        train=train,
        id_test=test,
        calibration=calibration,
        id_shift={name: plan.load(spec, test) for name, spec in plan.id_shift.items()},
        ood=ood,
        detectors="all" if detectors == ["all"] else detectors,
        normalization=normalization,
        device=device,
        cache=out / "activations" if cache and workers is None else None,
        settings=settings | {"plan": asdict(plan), "command": command()},
        **options,
    )
    results.save(out)
    for name, file in _files_of(results.detectors).items():
        plots.save(plots.histograms(results, name), out / "histograms" / f"{file}.png")
    plots.save(plots.roc_curves(results), out / "roc.png")
    for name in metrics:
        say(results.table(name) + "\n" * (name != metrics[-1]))
    if results.shifts:
        say(f"\n{shift_text(results)}")
    if published is not None:
        say(f"\n{beside(results, published, benchmark=plan.id).table()}")
    if plan.limit:
        of_train = f", {plan.train_limit} of the training data" * bool(plan.train_limit)
        typer.echo(
            f"\nA quick look: at most {plan.limit} seeded samples of each set{of_train} were used."
        )
    if report:
        write_report(results, out / "report.html", inputs=inputs_of(test, ood), command=command())
    if mlflow:
        tracking.log_results(results)
        typer.echo("\nLogged to MLflow")
    written = "results.json, results.csv, scores.parquet, figures" + ", report.html" * report
    typer.echo(f"\nWritten to {out}/: {written}")
    return results


def _recipe(model: str) -> dict[str, Any]:
    """The recipe of a network of the zoo; empty for others."""
    if not model.startswith(networks.zoo.PREFIX):
        return {}
    return networks.zoo.card(model.removeprefix(networks.zoo.PREFIX)).recipe


def channels_of(channels: int | None, normalization: Normalization, model: str) -> int | None:
    """The channels given, else those of the recipe, else of a normalisation of several."""
    means = len(normalization.mean)
    return channels or _recipe(model).get("channels") or (means if means > 1 else None)


def normalization_or_usual(
    text: str | None,
    id: str,
    model: str = "",
    weights: Path | None = None,
    own: Normalization | None = None,
) -> Normalization:
    """That of ``--normalization``, else of network, card or run, else that of the ID set."""
    if text or model.startswith(networks.zoo.PREFIX):
        return normalization(text or model)
    of_run = None if weights is None else normalization_of(weights)
    if (preset := own or of_run) is not None:
        return preset
    try:
        return normalization(id.partition(":")[0])
    except ArgumentError:
        typer.echo(f"no normalisation is known for {id}: images in [0, 1]", err=True)
        return Normalization()


def _files_of(names: Sequence[str]) -> dict[str, str]:
    """A file name for each detector, with a hash where names differ in signs alone."""
    files: dict[str, str] = {}
    for name in names:
        plain = _plain(name)
        short = plain.encode()[:_LONG_NAME].decode(errors="ignore")
        if short != plain or short.lower() in map(str.lower, files.values()):
            short += f"-{sha256(name.encode()).hexdigest()[:8]}"
        files[name] = short
    return files


def _plain(name: str) -> str:
    """A file name for a detector's expression."""
    return "".join(c if c.isalnum() else "-" for c in name).strip("-")
