"""Evaluation: one pass a sample, whatever the number of detectors and sets."""

from __future__ import annotations

import inspect
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import offmap
from offmap.activations import Activations
from offmap.data import ImageSet
from offmap.detectors import Needs, detector, sources, taps_of, unasked
from offmap.errors import (
    ArgumentError,
    DataError,
    LabelError,
    NeedsError,
    NonFiniteError,
    ShapeError,
    StoreError,
    UnknownNameError,
)
from offmap.evaluation import Results
from offmap.evaluation._inputs import flat
from offmap.forward import Normalization
from offmap.networks import AnchorHead, Ensemble
from tests.conftest import for_ensembles


class Net(nn.Module):
    """Counts the samples that pass it."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body, self.fc, self.seen = nn.Linear(48, 12), nn.Linear(12, 4), 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return self.fc(self.body(x.flatten(1)).relu())


def image_set(name: str, n: int, seed: int, low: int = 0, high: int = 256) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(low, high, (n, 3, 4, 4), generator=generator, dtype=torch.uint8)
    return ImageSet(name, pixels, torch.randint(0, 4, (n,), generator=generator))


@pytest.fixture(scope="module")
def sets() -> dict[str, Any]:
    return {
        "train": image_set("train", 240, 0),
        "id_test": image_set("test", 90, 1),
        "calibration": image_set("calibration", 60, 2),
        "ood": {
            "near": {"dim": image_set("dim", 50, 3, 0, 80)},
            "far": {
                "bright": image_set("bright", 40, 4, 200),
                "dark": image_set("dark", 30, 5, 0, 9),
            },
        },
    }


@pytest.fixture(scope="module")
def results(sets: dict[str, Any]) -> Results:
    return offmap.evaluate(Net(), **sets)


# What this network of vectors in [0, 1] cannot give: feature maps; some do without.
NOT_HERE = tuple(n for n in unasked() if taps_of(made := detector(n)) and not made.goes_on)


def test_each_sample_passes_the_network_once(sets: dict[str, Any]) -> None:
    network = Net()
    offmap.evaluate(network, **sets)
    assert network.seen == 240 + 90 + 60 + 50 + 40 + 30


def test_training_data_is_not_read_for_detectors_that_need_none(sets: dict[str, Any]) -> None:
    network = Net()
    offmap.evaluate(network, **sets, detectors=["msp", "energy"])
    assert network.seen == 90 + 60 + 50 + 40 + 30


def test_a_row_for_each_detector_and_set(results: Results) -> None:
    assert results.detectors == [name for name in unasked() if name not in results.left_out]
    assert results.groups == {"near": ["dim"], "far": ["bright", "dark"]}
    assert len(results.rows) == 3 * len(results.detectors)
    assert {"anchordistance", *NOT_HERE, *for_ensembles()} <= set(results.left_out)
    assert {"vim", "knn", "combine", "react"} <= set(results.detectors)
    footing = results.table().partition("left out")[2].splitlines()
    assert len(footing) == len(set(results.left_out.values()))  # one line a reason
    assert any("anchordistance (reads logits that are minus" in line for line in footing)
    assert any(f"{', '.join(for_ensembles())} (is for an ensemble, see" in line for line in footing)


def test_a_network_of_distances_has_the_detector_of_distances(sets: dict[str, Any]) -> None:
    network = AnchorHead(Net())
    results = offmap.evaluate(network, **sets)
    assert "anchordistance" in results.detectors
    assert {"mahalanobis", "knn", "msp"} <= set(results.detectors)
    assert {"vim", "residual", "react"} <= set(results.left_out)  # they need a linear head
    for name in ("neco", "openmax"):
        assert "the largest of the logits is -" in results.left_out[name]


def test_a_detector_that_was_named_and_cannot_score_is_an_error(sets: dict[str, Any]) -> None:
    with pytest.raises(NeedsError, match=r"minus distances.*AnchorHead"):
        offmap.evaluate(Net(), **sets, detectors=["msp", "anchordistance"])


def test_rows_are_the_metrics_of_the_scores(results: Results) -> None:
    for row in results.rows:
        scores = results.scores[row.detector]
        found = offmap.metrics.detection(scores["id"], scores[row.set])
        assert row.auroc == found.auroc
        assert row.fpr_id_kept == found.fpr_id_kept
        assert row.ood_caught == (scores[row.set] > row.threshold).mean()
        assert (row.n_id, row.n_ood) == (90, len(scores[row.set]))


def test_scores_are_in_data_order(results: Results, sets: dict[str, Any]) -> None:
    with offmap.Probe(Net()) as probe:
        acts = probe(sets["ood"]["far"]["bright"].images)
    assert np.allclose(results.scores["msp"]["bright"], offmap.MSP().score(acts), atol=1e-6)
    assert np.array_equal(results.predictions["bright"], acts.logits.argmax(1))


def right(data: ImageSet) -> int:
    with offmap.Probe(Net()) as probe:
        return int((probe(data.images).predictions == data.labels).sum())


def test_accuracy_is_that_of_the_evaluated_data(results: Results, sets: dict[str, Any]) -> None:
    assert results.accuracy == (right(sets["id_test"]), 90)
    assert f"{right(sets['id_test']) / 90:.2%}" in results.table().splitlines()[0]


def test_what_was_held_out_of_the_evaluated_data_counts_too(sets: dict[str, Any]) -> None:
    calibration, rest = sets["id_test"].split(0.3)
    found = offmap.evaluate(
        Net(), **sets | {"id_test": rest, "calibration": calibration}, detectors=["msp"]
    )
    assert found.accuracy == (right(sets["id_test"]), 90)


def test_names_make_no_halves(sets: dict[str, Any]) -> None:
    """Two sets were taken for halves of one by what they are called."""
    names = ("photos[30 of 90, seed 0]", "photos[other 60 of 90, seed 0]")
    held, test = (image_set(name, 90, i) for i, name in enumerate(names))
    part, rest = sets["id_test"].split(0.3)[0].take(20), sets["id_test"].split(0.3)[1]
    for calibration, of in ((held, test), (part, rest)):
        data = sets | {"id_test": of, "calibration": calibration}
        found = offmap.evaluate(Net(), **data, detectors=["msp"])
        assert found.accuracy == (right(of), len(of))


# What learns from no data at all, and reads no head.
LOGITS = ("energy", "entropy", "gen", "kluniform", "maxlogit", "msp")


def test_without_training_data_what_needs_it_is_left_out_or_refused(sets: dict[str, Any]) -> None:
    found = offmap.evaluate(Net(), id_test=sets["id_test"], ood=sets["ood"])
    assert set(LOGITS) <= set(found.detectors)
    assert not any(sources(offmap.detector(name)) for name in found.detectors)
    assert "needs training data to learn on: give train=" in found.left_out["vim"]
    data = {"id_test": sets["id_test"], "ood": sets["ood"]}
    with pytest.raises(NeedsError, match=r"ViM.*needs training data to learn on: give train="):
        offmap.evaluate(Net(), **data, detectors=["vim"])
    two = offmap.evaluate(Net(), **data, detectors=["vim", "msp"], on_error="skip")
    assert (two.detectors, list(two.left_out)) == (["msp"], ["vim"])
    with pytest.raises(NeedsError, match="needs training data"):
        offmap.evaluate(Net(), **data, on_error="raise")
    with pytest.raises(ArgumentError, match="on_error must be one of raise, skip; seen 'ignore'"):
        offmap.evaluate(Net(), **data, on_error="ignore")


def test_detectors_that_this_network_does_not_allow_are_left_out_with_the_reason(
    sets: dict[str, Any],
) -> None:
    class Squashed(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).tanh()

    few = sets | {"train": image_set("train", 40, 0)}
    found = offmap.evaluate(Squashed(), **few)
    of_head = {name for name in unasked() if Needs.HEAD in detector(name).needs} - {"auto"}
    of_data = {"knn", "temperaturescaled"}
    of_network = {"anchordistance", *NOT_HERE, *for_ensembles()}
    assert set(found.left_out) == of_head | of_data | of_network
    assert "neighbour 50 was asked for" in found.left_out["knn"]
    assert "last linear layer" in found.left_out["vim"]
    assert "without ViM(dim=None): needs the network's last linear" in found.summaries["auto"]
    with pytest.raises(NeedsError, match="last linear layer"):
        offmap.evaluate(Squashed(), **sets, detectors=["vim"])


def test_detectors_in_any_form(sets: dict[str, Any]) -> None:
    found = offmap.evaluate(
        Net(), **sets, detectors=["ebo", "ReAct(MaxLogit())", offmap.ViM(3), offmap.Energy(2.0)]
    )
    assert found.detectors == ["ebo", "ReAct(MaxLogit())", "ViM(dim=3)", "Energy(temperature=2.0)"]


def test_a_users_function_is_a_row_like_any_other(sets: dict[str, Any]) -> None:
    def margin(acts: Activations) -> Tensor:
        top = acts.logits.topk(2).values
        return top[:, 1] - top[:, 0]

    found = offmap.evaluate(Net(), **sets, detectors={"margin": margin, "ours": "msp"})
    assert found.detectors == ["margin", "ours"]
    assert 0 <= found.get("margin", "dim", "auroc_low") <= found.get("margin", "dim")
    assert "margin" in found.table()


def test_the_interval_of_a_mean_is_no_mean_of_intervals(sets: dict[str, Any]) -> None:
    results = offmap.evaluate(Net(), **sets, detectors=["msp"])
    scores = results.scores["msp"]
    names = [name for group in results.groups.values() for name in group]
    interval = offmap.metrics.delong_interval_of_mean(
        scores["id"], [scores[name] for name in names]
    )
    for end, name in zip(interval, ("auroc_low", "auroc_high"), strict=True):
        assert results.mean("msp", name) == results.grid(name).cells["msp"][-1] == end
        assert end != np.mean([results.get("msp", each, name) for each in names])
    assert results.get("msp", names[0], "auroc_low") == results.grid("auroc_low").cells["msp"][0]


def test_functions_that_give_no_scores_are_refused(sets: dict[str, Any]) -> None:
    with pytest.raises(ShapeError, match=r"whole: scores must have shape"):
        offmap.evaluate(Net(), **sets, detectors={"whole": lambda acts: acts.logits})
    with pytest.raises(NonFiniteError, match="bad: 90 of 90 scores on id"):
        offmap.evaluate(Net(), **sets, detectors={"bad": lambda a: a.logits[:, 0] * torch.nan})


def test_names_must_differ(sets: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="two detectors are called 'msp'"):
        offmap.evaluate(Net(), **sets, detectors=["msp", "msp"])
    with pytest.raises(ArgumentError, match="two data sets are called 'id'"):
        offmap.evaluate(Net(), id_test=sets["id_test"], ood={"id": sets["train"]})
    with pytest.raises(ArgumentError, match="no OOD sets"):
        offmap.evaluate(Net(), id_test=sets["id_test"], ood={})


def test_a_set_without_samples_is_named(sets: dict[str, Any]) -> None:
    empty = sets["train"].images[:0]
    with pytest.raises(DataError, match=r"^none: there are no samples"):
        offmap.evaluate(Net(), id_test=sets["id_test"], ood={"none": empty}, detectors="msp")


def test_too_few_calibration_samples_show_before_any_work(sets: dict[str, Any]) -> None:
    network = Net()
    with pytest.raises(ArgumentError, match="at least 99 calibration samples; there are 60"):
        offmap.evaluate(network, **sets, alarm_rate=0.01)
    assert network.seen == 0


def test_what_cannot_be_right_shows_before_any_work(sets: dict[str, Any]) -> None:
    network, some = Net(), {name: sets[name] for name in ("id_test", "ood")}
    for rate in (0, 5):  # per cent for a share, where nothing else would look at it
        with pytest.raises(ArgumentError, match=f"alarm_rate must lie in .* seen {rate}"):
            offmap.evaluate(network, **some, alarm_rate=rate, detectors="msp")
    for name, value in (("learn_share", 20), ("learn_share", 0.0), ("batch_size", 0)):
        with pytest.raises(ArgumentError, match=f"{name} must"):
            offmap.evaluate(network, **some, detectors="msp", **{name: value})
    for value in (Path("x"), np.float32(1), float("nan")):
        with pytest.raises(ArgumentError, match="settings are kept as JSON"):
            offmap.evaluate(network, **some, detectors="msp", settings={"weights": value})
    assert network.seen == 0


def test_too_few_calibration_samples_of_a_loader_show_before_ood_is_read(
    sets: dict[str, Any],
) -> None:
    network, loader = Net(), list(sets["calibration"].batches(30))
    options = {"id_test": sets["id_test"], "ood": sets["ood"], "detectors": "msp"}
    with pytest.raises(ArgumentError, match="at least 99 calibration samples; there are 60"):
        offmap.evaluate(network, **options, calibration=loader, alarm_rate=0.01)
    assert network.seen == 90 + 60


def test_flat_ood_sets_are_one_group(sets: dict[str, Any]) -> None:
    found = offmap.evaluate(
        Net(), id_test=sets["id_test"], ood=sets["ood"]["far"], detectors=["msp"]
    )
    assert found.groups == {"ood": ["bright", "dark"]}
    assert found.rows[0].threshold is None


def test_a_second_run_with_another_detector_needs_no_network(
    sets: dict[str, Any], tmp_path: Path
) -> None:
    network = Net()
    first = offmap.evaluate(network, **sets, detectors=["vim"], cache=tmp_path)
    seen = network.seen
    second = offmap.evaluate(network, **sets, detectors=["vim", "neco"], cache=tmp_path)
    assert network.seen == seen
    assert np.array_equal(first.scores["vim"]["dim"], second.scores["vim"]["dim"])


def test_loaders_work_as_sets_do(sets: dict[str, Any], results: Results) -> None:
    def loader(images: ImageSet) -> list[tuple[Tensor, Tensor | None]]:
        return list(images.batches(32))

    ood = {g: {n: loader(s) for n, s in of.items()} for g, of in sets["ood"].items()}
    parts = {name: loader(sets[name]) for name in ("train", "id_test", "calibration")}
    found = offmap.evaluate(Net(), **parts, ood=ood)
    for a, b in zip(found.rows, results.rows, strict=True):
        assert a.auroc == pytest.approx(b.auroc, abs=1e-4)


def test_saved_results_load_back(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path)
    loaded = Results.load(tmp_path)
    assert loaded == results
    assert loaded.table("fpr_id_kept") == results.table("fpr_id_kept")
    for name, of in results.scores.items():
        assert all(np.array_equal(loaded.scores[name][s], x) for s, x in of.items())
    assert all(np.array_equal(loaded.predictions[s], x) for s, x in results.predictions.items())
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert len(lines) == 1 + len(results.rows)
    for content, words in {
        "{": "cannot be read",
        "{}": "of no stated version",
        '{"format": "offmap guard", "version": 2}': "is no results record",
    }.items():
        (tmp_path / "results.json").write_text(content)
        with pytest.raises(StoreError, match=words):
            Results.load(tmp_path)
    results.to_json(tmp_path / "results.json")
    with pytest.raises(StoreError, match="of rows alone: give the folder that `save` wrote"):
        Results.load(tmp_path)
    with pytest.raises(StoreError, match=r"holds no results, there is no results\.json"):
        Results.load(tmp_path / "nowhere")


def test_interrupted_writing_leaves_no_mixture(results: Results, tmp_path: Path) -> None:
    """A run over older results that is killed between two files: figures beside other scores."""
    results.save(tmp_path / "old")
    moved = {d: {s: x + 1 for s, x in of.items()} for d, of in results.scores.items()}
    replace(results, scores=moved).save(tmp_path / "new")
    for name in ("results.json", "scores.parquet"):
        before = (tmp_path / "old" / name).read_bytes()
        (tmp_path / "old" / name).write_bytes((tmp_path / "new" / name).read_bytes())
        with pytest.raises(StoreError, match="is not of the results beside it"):
            Results.load(tmp_path / "old")
        (tmp_path / "old" / name).write_bytes(before)
    assert Results.load(tmp_path / "old") == results


def test_a_disk_that_fills_leaves_the_results_of_before(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new scores stood beside the old record, and neither could be read."""
    results.save(tmp_path)
    moved = {d: {s: x + 1 for s, x in of.items()} for d, of in results.scores.items()}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for writer in ("to_csv", "_record"):
        with monkeypatch.context() as patch:
            patch.setattr(Results, writer, full)
            with pytest.raises(OSError, match="No space"):
                replace(results, scores=moved).save(tmp_path)
        assert Results.load(tmp_path) == results
    assert len(list(tmp_path.iterdir())) == 3


def test_names_of_files_need_not_be_utf8(sets: dict[str, Any], tmp_path: Path) -> None:
    """A photo called by bytes that are no text cost a whole evaluation when it was to be saved."""
    strange = tuple(os.fsdecode(b"caf\xe9-%d.png" % i) for i in range(90))
    photos = replace(sets["id_test"], sample_keys=strange)
    bright = {os.fsdecode(b"/photos/\xff"): sets["ood"]["far"]["bright"]}
    found = offmap.evaluate(Net(), id_test=photos, ood=bright, detectors="msp")
    found.save(tmp_path)
    loaded = Results.load(tmp_path)
    assert loaded == found
    assert loaded.keys["id"][3] == r"caf\xe9-3.png"
    assert loaded.groups == {"ood": [r"/photos/\xff"]}
    offmap.report(found, tmp_path / "report.html", command=strange[0])
    assert r"caf\udce9-" in (tmp_path / "report.html").read_text(encoding="utf-8")
    with pytest.raises(ArgumentError, match="name of a data set is a text; seen 7"):
        offmap.evaluate(Net(), id_test=photos, ood={7: sets["train"]}, detectors="msp")


def test_the_table_marks_the_best_of_each_column(results: Results) -> None:
    for metric, best in (("auroc", max), ("fpr_ood_caught", min)):
        table = results.table(metric)
        top = best(results.get(d, "dark", metric) for d in results.detectors)
        assert f"{100 * top:.2f}*" in table
        for row in table.partition("\n\nleft out")[0].splitlines()[5:]:
            name = row.split()[0]
            starred = f"{100 * results.get(name, 'dark', metric):.2f}*" in row
            assert starred or results.get(name, "dark", metric) != top


def test_group_means_are_means(results: Results) -> None:
    far = (results.get("vim", "bright") + results.get("vim", "dark")) / 2
    assert results.mean("vim", group="far") == pytest.approx(far)
    assert f"{100 * far:.2f}" in results.table()


def test_an_unknown_number_is_refused(results: Results) -> None:
    with pytest.raises(UnknownNameError, match="metrics: n_id"):
        results.get("vim", "dark", "accuracy_of_something")


def test_unreadable_images_are_counted(sets: dict[str, Any]) -> None:
    broken = ImageSet(
        "broken", sets["train"].images, skipped=(offmap.data.Skipped("a/b.png", "truncated"),)
    )
    found = offmap.evaluate(Net(), id_test=sets["id_test"], ood={"broken": broken}, detectors="msp")
    assert "skipped in broken: 1 unreadable, first a/b.png (truncated)" in found.table()


def test_settings_say_how_the_numbers_came_about(results: Results) -> None:
    for key in ("network", "head", "precision", "normalization", "seconds", "versions", "machine"):
        assert results.settings[key]


def test_comparison_pairs_the_same_samples(sets: dict[str, Any], results: Results) -> None:
    torch.manual_seed(1)
    other = Net()
    nn.init.normal_(other.body.weight, std=0.3)
    second = offmap.evaluate(other, **sets)
    found = offmap.compare({"plain": results, "noisy": second})
    one = next(d for d in found.differences if (d.detector, d.set) == ("vim", "dim"))
    assert one.auroc == pytest.approx(second.get("vim", "dim") - results.get("vim", "dim"))
    a, b = results.scores["vim"], second.scores["vim"]
    assert one.p_value == offmap.metrics.delong_test(b["id"], b["dim"], a["id"], a["dim"]).p_value
    table = found.table()
    assert table.count("== ") == 3
    assert "noisy minus plain" in table


def test_comparison_of_other_samples_is_not_paired(sets: dict[str, Any], results: Results) -> None:
    moved = sets | {"ood": {"near": {"dim": image_set("dim", 50, 77, 0, 80)}}}
    found = offmap.compare({"a": results, "b": offmap.evaluate(Net(), **moved)})
    assert {d.p_value for d in found.differences} == {None}
    assert "(unpaired)" in found.table()
    with pytest.raises(ArgumentError, match="at least two"):
        offmap.compare({"a": results})


def test_comparison_is_of_the_detectors_that_both_show(results: Results) -> None:
    found = offmap.compare({"a": results, "b": results.only(["msp"])})
    assert {d.detector for d in found.differences} == {"msp"}


def test_a_metric_without_its_threshold_says_so(sets: dict[str, Any]) -> None:
    found = offmap.evaluate(Net(), **sets | {"calibration": None}, detectors=["msp"])
    with pytest.raises(
        UnknownNameError, match="'ood_caught' is not known here: thresholds need calibration data"
    ):
        found.table("ood_caught")


@pytest.fixture
def ensemble() -> Ensemble:
    return Ensemble([Net(seed) for seed in range(3)])


FITTED = ["MemberMean(ViM(dim=3))", "MemberMean(ReAct(Mahalanobis()))", "MemberMean(KNN(5))"]


def test_each_sample_passes_each_member_once(ensemble: Ensemble, sets: dict[str, Any]) -> None:
    found = offmap.evaluate(ensemble, **sets, detectors=[*for_ensembles(), *FITTED])
    assert found.detectors == [*for_ensembles(), *FITTED]
    assert [member.seen for member in ensemble.members] == [240 + 90 + 60 + 50 + 40 + 30] * 3
    assert found.settings["network"] == "Ensemble"
    assert found.settings["head"] == ["fc"] * 3


def test_a_mean_over_members_is_that_of_evaluations_of_each(
    ensemble: Ensemble, sets: dict[str, Any]
) -> None:
    found = offmap.evaluate(ensemble, **sets, detectors=FITTED)
    inner = ["ViM(dim=3)", "ReAct(Mahalanobis())", "KNN(5)"]
    alone = [offmap.evaluate(member, **sets, detectors=inner) for member in ensemble.members]
    for name, single in zip(FITTED, inner, strict=True):
        expected = np.mean([each.scores[single]["dim"] for each in alone], axis=0)
        assert np.allclose(found.scores[name]["dim"], expected, rtol=1e-5)


def test_an_ensemble_answers_with_the_mean_of_probabilities(
    ensemble: Ensemble, sets: dict[str, Any], tmp_path: Path
) -> None:
    found = offmap.evaluate(ensemble, **sets)
    x = sets["id_test"].images.float() / 255
    p = torch.stack([member(x).double().softmax(1) for member in ensemble.members]).mean(0)
    assert np.array_equal(found.predictions["id"], p.argmax(1))
    assert np.allclose(found.scores["maxprobability"]["id"], 1 - p.amax(1).detach(), atol=1e-6)
    found.save(tmp_path)
    assert Results.load(tmp_path) == found


def test_detectors_of_one_network_are_left_out_for_an_ensemble_with_one_reason(
    ensemble: Ensemble, sets: dict[str, Any]
) -> None:
    found = offmap.evaluate(ensemble, **sets)
    assert found.detectors == for_ensembles()
    (footing,) = found.table().partition("left out: ")[2].splitlines()
    assert set(found.left_out) == set(unasked()) - set(for_ensembles())
    assert footing.endswith(
        "(reads one network's activations; for an ensemble wrap it: MemberMean(...))"
    )
    with pytest.raises(NeedsError, match=r"^Energy\(temperature=1.0\) reads one network's"):
        offmap.evaluate(ensemble, **sets, detectors=["maxprobability", "energy"])
    with pytest.raises(NeedsError, match=r"^TotalEntropy\(\) is for an ensemble"):
        offmap.evaluate(Net(), **sets, detectors=["totalentropy"])


def test_a_second_run_of_an_ensemble_needs_no_member(
    ensemble: Ensemble, sets: dict[str, Any], tmp_path: Path
) -> None:
    options = {"detectors": ["mutualinformation", "MemberMean(ViM(dim=3))"], "cache": tmp_path}
    first = offmap.evaluate(ensemble, **sets, **options)
    second = offmap.evaluate(ensemble, **sets, **options)
    assert [member.seen for member in ensemble.members] == [510] * 3
    for name in first.detectors:
        assert np.array_equal(first.scores[name]["dim"], second.scores[name]["dim"])


def test_labels_of_another_shape_are_refused(sets: dict[str, Any]) -> None:
    columns = [(x, y[:, None]) for x, y in sets["id_test"].batches(30)]
    with pytest.raises(LabelError, match=r"labels must be 30 class indices.*\(30, 1\)"):
        offmap.evaluate(Net(), **sets | {"id_test": columns}, detectors=["msp"])


def test_labels_of_ood_data_are_not_looked_at(sets: dict[str, Any]) -> None:
    dim = sets["ood"]["near"]["dim"]
    attributes = [(x, torch.zeros(len(x), 40)) for x, _ in dim.batches(30)]
    paths = [(x, ["p.png"] * len(x)) for x, _ in dim.batches(30)]
    given = sets | {"ood": {"plain": dim, "attributes": attributes, "paths": paths}}
    found = offmap.evaluate(Net(), **given, detectors=["msp"])
    assert found.get("msp", "plain") == found.get("msp", "attributes") == found.get("msp", "paths")


@pytest.mark.parametrize("as_array", [True, False])
def test_float64_scores_of_a_function_are_not_rounded(
    sets: dict[str, Any], as_array: bool, tmp_path: Path
) -> None:
    def far(acts: Activations) -> Any:
        scores = offmap.MSP().score(acts).double() + 1e9
        return scores.numpy() if as_array else scores

    found = offmap.evaluate(Net(), **sets, detectors={"far": far, "msp": "msp"})
    assert found.get("far", "dim") == found.get("msp", "dim")
    found.save(tmp_path)
    assert np.array_equal(Results.load(tmp_path).scores["far"]["id"], found.scores["far"]["id"])


@pytest.mark.parametrize("name", ["set", "predicted"])
def test_names_that_results_use_are_refused(sets: dict[str, Any], name: str) -> None:
    with pytest.raises(ArgumentError, match=f"no detector can be called '{name}'"):
        offmap.evaluate(Net(), **sets, detectors={name: "msp"})


def test_results_without_answers_are_saved_too(results: Results, tmp_path: Path) -> None:
    replace(results, predictions={}).save(tmp_path)
    loaded = Results.load(tmp_path)
    assert loaded.predictions == {}
    assert np.array_equal(loaded.scores["msp"]["dim"], results.scores["msp"]["dim"])


def test_an_unknown_group_is_refused(results: Results) -> None:
    with pytest.raises(UnknownNameError, match="no group 'middle' among near, far"):
        results.mean("msp", group="middle")


def test_why_there_is_no_head_stands_in_the_settings(
    results: Results, sets: dict[str, Any]
) -> None:
    assert "why_no_head" not in results.settings

    class Squashed(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).tanh()

    found = offmap.evaluate(Squashed(), **sets, detectors=["knn(k=5)"])
    assert "not the output of the last linear layer" in found.settings["why_no_head"]


def test_a_set_that_lacks_a_class_is_counted_by_names(sets: dict[str, Any]) -> None:
    names = ("a", "b", "c", "d")
    train, whole = (replace(sets[part], classes=names) for part in ("train", "id_test"))
    given = sets | {"train": train, "id_test": whole}
    full = offmap.evaluate(Net(), **given, detectors=["msp"])
    part = offmap.evaluate(
        Net(), **given | {"id_test": whole.only(["b", "c", "d"])}, detectors=["msp"]
    )
    rows = whole.labels > 0
    right = (full.predictions["id"][rows.numpy()] == whole.labels[rows].numpy()).sum()
    assert next(s for s in part.sets if s.role == "id").right == right


def test_floats_normalised_elsewhere_are_not_mixed_with_uint8(sets: dict[str, Any]) -> None:
    normalised = [((x / 255 - 0.5) / 0.25, y) for x, y in sets["id_test"].batches(30)]
    given = {"id_test": normalised, "ood": {"dim": sets["ood"]["near"]["dim"]}}
    with pytest.raises(DataError, match="give normalization="):
        offmap.evaluate(Net(), **given, detectors=["msp"])
    offmap.evaluate(Net(), **given, detectors=["msp"], normalization=Normalization((0.5,), (0.25,)))
    unit = [(x / 255, y) for x, y in sets["id_test"].batches(30)]
    offmap.evaluate(Net(), **given | {"id_test": unit}, detectors=["msp"])


def test_one_detector_need_not_stand_in_a_list(sets: dict[str, Any]) -> None:
    assert offmap.evaluate(Net(), **sets, detectors=offmap.Energy()).detectors == ["energy"]
    with pytest.raises(ArgumentError, match="no detectors were given"):
        offmap.evaluate(Net(), **sets, detectors=[])
    with pytest.raises(ArgumentError, match="no detectors were given"):
        offmap.evaluate(Net(), **sets, detectors={})
    with pytest.raises(ArgumentError, match="OOD sets are given by name"):
        next(inspect.unwrap(flat)([sets["train"]]))
