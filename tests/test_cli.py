"""The command line, as a user runs it."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import offmap
from offmap import demo
from offmap.cli._bench import _files_of
from offmap.demo import letters
from offmap.detectors import ordinary
from offmap.networks import DigitsCNN, LettersCNN, resnet20
from tests.pages import ROOT


def run(
    *arguments: str, cwd: Path | None = None, columns: int = 200
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # -P: like the installed script, without the working directory on the path.
        [sys.executable, "-P", "-m", "offmap", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            **{"COLUMNS": str(columns), "OFFMAP_DATA": "", "OMP_NUM_THREADS": "1"},
        },
    )


@pytest.fixture(scope="module")
def demo_output(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("demo")
    done = run("demo", "--out", str(out), columns=100)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


@pytest.mark.slow
def test_demo_prints_its_table_and_its_decision(demo_output: tuple[Path, str]) -> None:
    out, text = demo_output
    results = offmap.Results.load(out)
    right, total = results.accuracy or (0, 1)
    assert 0.97 < right / total < 1
    assert f"accuracy {right / total:.2%}" in text.splitlines()[0]
    best = demo.best(results)
    assert f"Best mean AUROC on this data: {best}" in text
    assert results.detectors == ordinary()
    assert 0.92 < results.mean(best) < 0.99
    row = next(r for r in results.rows if r.detector == best)
    assert f"accepts {1 - row.id_alarm:.1%} of the known test letters" in text.replace("\n", " ")
    assert max(map(len, text.splitlines()[:-1])) <= 100
    said = next(line for line in text.splitlines() if line.startswith("Best mean AUROC"))
    # The other figures there may differ elsewhere by their last digit.
    assert said in (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_demo_writes_tables_and_figures(demo_output: tuple[Path, str]) -> None:
    out, _ = demo_output
    names = {"results.json", "results.csv", "scores.parquet", "report.html", "report.json"}
    assert names <= {p.name for p in out.iterdir()}
    for name in ("histograms.png", "roc.png", "most_wrong.png"):
        with Image.open(out / name) as image:
            assert np.asarray(image.convert("L")).std() > 5  # something is drawn


@pytest.mark.slow
def test_the_demo_ends_with_a_report_of_its_figures(demo_output: tuple[Path, str]) -> None:
    out, _ = demo_output
    results, page = offmap.Results.load(out), (out / "report.html").read_text(encoding="utf-8")
    assert len(page) < 3e6
    best = demo.best(results)
    assert f"Recommended: {best}, with the highest mean AUROC" in page
    for row in results.rows:
        if row.detector == best:
            assert f"<td>{row.ood_caught:.1%}</td>" in page

    assert page.count("<img") > 20


@pytest.mark.parametrize("name", ["weights", "letters"])
def test_the_shipped_weights_are_those_of_their_card(name: str) -> None:
    folder = Path(demo.__file__).parent
    card = {"weights": demo.card, "letters": letters.card}[name]()
    weights = folder / card.files["weights"].name
    assert weights.name == f"{name}.safetensors"
    assert card.files["weights"].sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert weights.stat().st_size <= {"weights": 200_000, "letters": 400_000}[name]
    assert card.command == {"weights": demo.COMMAND, "letters": "offmap demo --retrain"}[name]


def test_the_cards_command_makes_such_weights(tmp_path: Path) -> None:
    """Training is seeded: equal bits on the machine of the card, nearly equal ones elsewhere."""
    sets = demo.digits_data()
    changes = {"epochs": 3}
    network = demo.train(sets, tmp_path / "a", changes=changes)
    again = demo.train(sets, tmp_path / "b", changes=changes)
    for a, b in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    logits = network(demo.NORMALIZATION(sets.test.images))
    assert float((logits.argmax(1) == sets.test.labels).float().mean()) > 0.85


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A user's folder: a network, its weights, and images in folders."""
    (tmp_path / "mine.py").write_text(
        "from offmap.networks import DigitsCNN\ndef network():\n    return DigitsCNN(3)\n"
    )
    torch.manual_seed(0)
    save_file(DigitsCNN(3).state_dict(), tmp_path / "w.safetensors")
    generator = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 30), ("strange", 12)):
        for label in "abc":
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    (tmp_path / "strange" / "a" / "broken.png").write_bytes(b"no picture")
    return tmp_path


BENCH = ["bench", "--model", "mine.py:network", "--weights", "w.safetensors", "--id", "./test"]
OOD = ["--near", "./strange", "--far", "noise:gaussian", "noise:blobs", "--out", "out"]


def test_bench_on_a_users_own_network_and_folders(mine: Path) -> None:
    done = run(
        *BENCH,
        "--train",
        "./train",
        *OOD,
        "--normalize",
        "0.5/0.25",
        "--alarm-rate",
        "0.1",
        "--metric",
        "auroc",
        "fpr_id_kept",
        "--report",
        cwd=mine,
    )
    assert done.returncode == 0, done.stderr
    results = offmap.Results.load(mine / "out")
    assert results.groups == {
        "near": ["./strange"],
        "far": ["noise:gaussian", "noise:blobs"],
    }
    assert "skipped in ./strange: 1 unreadable" in done.stdout
    assert "\nauroc in %, higher is better" in done.stdout
    assert "\nfpr_id_kept in %, lower is better" in done.stdout
    page = (mine / "out" / "report.html").read_text(encoding="utf-8")
    assert "offmap bench --model mine.py:network" in page
    assert "<img" in page
    assert {s.role: s.n for s in results.sets if s.role != "ood"} == {
        "train": 120,
        "id": 81,
        "calibration": 9,
    }
    assert "(0.5,), std=(0.25,)" in results.settings["normalization"].replace("mean=", "")


def test_bench_without_training_data_leaves_out_what_needs_it(mine: Path) -> None:
    quick = ["--limit", "40", "--alarm-rate", "0.05", "--no-cache", "--calibration", "./train"]
    Image.new("L", (10, 9)).save(mine / "test" / "a" / "0.png")  # not as large as the others
    bench = [x.replace("mine.py", "mine") for x in BENCH]  # a module in the working directory
    done = run(*bench, "--size", "8", *OOD, *quick, "--detectors", "all", cwd=mine)
    assert done.returncode == 0, done.stderr
    assert "needs training data to learn on: give --train" in done.stdout
    assert "at most 40 seeded samples" in done.stdout
    sizes = {s.role: s.n for s in offmap.Results.load(mine / "out").sets}
    assert sizes["id"] == 40
    assert 19 <= sizes["calibration"] < 40  # a share of the 40 was learned on
    assert not (mine / "out" / "activations").exists()


def test_bench_takes_more_of_the_training_data_than_of_each_set(mine: Path) -> None:
    quick = ["--limit", "40", "--train-limit", "70", "--alarm-rate", "0.3", "--no-cache"]
    done = run(*BENCH, *OOD, *quick, "--train", "./train", "--detectors", "ssd", cwd=mine)
    assert done.returncode == 0, done.stderr
    assert "at most 40 seeded samples of each set, 70 of the training data" in done.stdout
    sizes = {s.role: s.n for s in offmap.Results.load(mine / "out").sets if s.role != "ood"}
    assert sizes == {"train": 70, "id": 36, "calibration": 4}


def test_a_metric_of_two_readings_is_refused_before_any_work(mine: Path) -> None:
    done = run(*BENCH, "--far", "noise:gaussian", "--metric", "fpr95", cwd=mine)
    assert done.returncode == 1
    assert "'fpr95' has two readings: name fpr_id_kept" in done.stderr
    assert not (mine / "out").exists()


def test_failure_is_one_line_and_status_1(mine: Path) -> None:
    wrong = (*BENCH, "--far", "cifar10", "--alarm-rate", "0.3")
    done = run(*wrong, cwd=mine)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("offmap: ")
    assert "Traceback" not in done.stderr
    assert "OFFMAP_DATA" in done.stderr
    assert "Traceback" in run(*wrong, "--debug", cwd=mine).stderr
    few = run(*BENCH, "--far", "noise:gaussian", cwd=mine)
    assert "a tenth of the 90 ID images is held out" in few.stderr


@pytest.mark.parametrize(
    "arguments", [["bench"], ["nonsense"], ["bench", "--no-such-option"], ["demo", "--alarm-rate"]]
)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    assert run(*arguments).returncode == 2


@pytest.mark.parametrize(
    "command",
    [
        *(
            "demo",
            "bench",
            "fit",
            "calibrate",
            "score",
            "watch",
            "export",
            "train",
            "publish",
            "list",
        ),
        *("compare", "report"),
    ],
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert f"offmap {command}" in done.stdout


def test_the_study_has_help_with_an_example() -> None:
    done = run("study", "pixmix", "--help")
    assert done.returncode == 0
    assert "offmap study pixmix" in done.stdout


def test_the_whole_recipe_is_printed() -> None:
    given = ("--recipe", "pixmix", "--budget", "full", "--set", "seed=3", "pixmix.k=2")
    done = run("train", *given, "--print-config")
    assert done.returncode == 0, done.stderr
    recipe = json.loads(done.stdout)
    assert (recipe["seed"], recipe["pixmix"]["k"], recipe["epochs"]) == (3, 2, 100)
    assert run("train", "--recipe", "plain").stderr.startswith("offmap: give --out")


def test_what_would_have_no_effect_on_a_training_is_refused(tmp_path: Path) -> None:
    recipe = json.loads(run("train", "--recipe", "digits", "--print-config").stdout)
    (tmp_path / "run.json").write_text(json.dumps({"recipe": recipe, "budget": "cpu"}))
    given = ("train", "--recipe", "run.json", "--print-config", "--budget")
    assert run(*given, "cpu", cwd=tmp_path).returncode == 0
    assert "of the budget cpu" in run(*given, "smoke", cwd=tmp_path).stderr
    # As --print-config prints it: all of it was trained, and the run said that it was of "smoke".
    (tmp_path / "run.json").write_text(json.dumps(recipe))
    assert "a recipe that no budget changes" in run(*given, "smoke", cwd=tmp_path).stderr
    assert run(*given[:-1], cwd=tmp_path).returncode == 0
    alone = ("train", "--recipe", "digits", "--out", "runs", "--evaluate-every", "2")
    assert "give --ood" in run(*alone, cwd=tmp_path).stderr


def test_histograms_of_all_detectors_are_kept() -> None:
    """Names may differ in signs alone, and be longer than those of files."""
    long = f"Combine([{', '.join(f'KNN(k={k})' for k in range(60))}])"
    names = ["mahalanobis", "mahalanobis++", "KNN(k=5)", long, long.replace("KNN(k=59)", "msp")]
    files = list(_files_of(names).values())
    assert files[0] == "mahalanobis"
    assert len({file.lower() for file in files}) == len(names)
    assert max(len(file.encode()) for file in files) < 240


def test_a_network_is_trained_on_the_users_folder_watched_and_published(mine: Path) -> None:
    """Folders of images to curves, OOD figures, a network of the zoo, and a run repeated."""
    (mine / "strange" / "a" / "broken.png").unlink()
    sets = ("data=./train", "validation=./test", "network=digits_cnn(classes=3)", "epochs=3",
            "batch_size=32", "precision=fp32", "normalization=0.5/0.25", "flip=false")  # fmt: skip
    watch = ("--ood", "./strange", "noise:gaussian", "--evaluate-every", "2")
    train = ("train", "--recipe", "plain", "--out", "runs/a", "--set", *sets)
    done = run(*train, *watch, cwd=mine)
    assert done.returncode == 0, done.stderr
    assert "epoch 3/3: loss" in done.stdout
    lines = (mine / "runs/a/ood.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == ["2"] * 6 + ["3"] * 6
    with Image.open(mine / "runs/a/curves.png") as image:
        assert np.asarray(image.convert("L")).std() > 5
    again = run("train", "--recipe", "runs/a/run.json", "--out", "runs/b", cwd=mine)
    assert again.returncode == 0, again.stderr
    record = json.loads((mine / "runs/a/run.json").read_text())
    assert record["watched"] == {"ood": list(watch[1:3]), "evaluate_every": 2, "keep_every": 0}
    assert record["command"].endswith(f" {shlex.join(watch)}")
    weights = [(mine / run / "weights.safetensors").read_bytes() for run in ("runs/a", "runs/b")]
    assert weights[0] == weights[1]
    done = run("publish", "runs/a", "mine", cwd=mine)
    assert done.returncode == 0, done.stderr
    done = run("bench", "--model", "zoo:mine", "--id", "./test", "--far", "noise:gaussian",
               "--detectors", "msp", "--alarm-rate", "0.3", "--out", "out", cwd=mine)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = offmap.Results.load(mine / "out")
    right, total = found.accuracy or (0, 1)
    card = json.loads((mine / "zoo/mine.json").read_text())
    assert right / total == pytest.approx(card["accuracy"])
    assert "0.5" in found.settings["normalization"]


def test_list_names_every_detector_and_set() -> None:
    text = run("list").stdout
    for name in [*offmap.catalogue(), *offmap.data.named_sets(), "resnet20", "embedded:digits"]:
        assert name in text


@pytest.mark.slow
def test_retraining_writes_weights_that_load(tmp_path: Path) -> None:
    done = run("demo", "--retrain", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "training" / "card.json").read_text())
    assert card["accuracy"] > 0.97
    network = LettersCNN(10)
    network.load_state_dict(load_file(tmp_path / "training" / "weights.safetensors"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as folders of images, and a guard made of them by the commands."""
    folder = tmp_path_factory.mktemp("guard")
    sets = demo.digits_data()
    parts = {"train": sets.train, "held": sets.calibration, "faces": sets.ood["far"]["faces"]}
    for name, part in parts.items():
        (folder / name).mkdir()
        for i, image in enumerate(part.images):
            Image.fromarray(image[0].numpy()).save(folder / name / f"{i:04}.png")
    save_file(demo.shipped().state_dict(), folder / "w.safetensors")
    (folder / "mine.py").write_text(
        "from offmap.networks import DigitsCNN\ndef network():\n    return DigitsCNN(8)\n"
    )
    model = ("--model", "mine.py:network", "--weights", "w.safetensors")
    normalize = ("--normalize", "0.305/0.376")
    done = run("fit", *model, *normalize, "--data", "./train", "--detector", "entropy",
               "--out", "guard", cwd=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run("calibrate", "guard", "--data", "./held", "--model", "mine.py:network", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "216 samples for an alarm rate of 5.00%" in done.stdout
    return folder


def test_score_writes_verdicts_and_a_sheet(saved: Path) -> None:
    score = ("score", "guard", "./faces", "./held", "--model", "mine.py:network")
    done = run(*score, "--out", "v.csv", "--sheet", "sheet.png", cwd=saved)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("316 images: ")
    lines = (saved / "v.csv").read_text().splitlines()
    assert len(lines) == 317
    assert sum(",unknown," in line for line in lines[1:101]) > 90
    with Image.open(saved / "sheet.png") as image:
        assert np.asarray(image.convert("L")).std() > 5


def test_what_cannot_be_read_is_told(saved: Path) -> None:
    (saved / "broken").mkdir()
    for i in range(40):
        (saved / "broken" / f"{i}.png").write_bytes(b"no picture")
    score = ("score", "guard", "--model", "mine.py:network", "--out", "x.jsonl")
    assert run(*score, "./broken", cwd=saved).returncode == 0
    done = run(*score, "./broken", "--fail-above", "0.9", cwd=saved)
    assert done.returncode == 1
    assert "none of the images can be read" in done.stderr
    (saved / "part").mkdir()
    for name in ("faces", "broken"):
        (saved / "part" / name).symlink_to(saved / name)
    calibrate = ("calibrate", "guard", "--data", "./part", "--model", "mine.py:network")
    shutil.copytree(saved / "guard", saved / "other")
    done = run("calibrate", "other", *calibrate[2:], cwd=saved)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("skipped in") == 1
    assert "\noffmap: warning: skipped in part: 40 unreadable, first " in f"\n{done.stderr}"


def test_files_that_are_no_images_are_told_once_by_every_command(saved: Path) -> None:
    for split in ("train", "held"):
        shutil.copytree(saved / split, saved / "phone" / split)
        for name in ("1.HEIC", "2.heic", ".DS_Store"):
            (saved / "phone" / split / name).write_bytes(b"x")
    files = "skipped in {}: 2 .heic, first {}/1.HEIC (no image by its suffix .HEIC); convert .heic "
    files += "to PNG or JPEG\n"
    model = ("--model", "mine.py:network")
    fit = ("fit", *model, "--weights", "w.safetensors", "--normalize", "0.305/0.376", "--data",
           "./phone/train", "--detector", "entropy", "--out", "told")  # fmt: skip
    done = run(*fit, cwd=saved)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "offmap: warning: " + files.format(*["phone/train"] * 2)
    done = run("calibrate", "told", "--data", "./phone/held", *model, cwd=saved)
    assert done.stderr == "offmap: warning: " + files.format(*["phone/held"] * 2)
    done = run("score", "told", "./phone/held", *model, "--out", "told.csv", cwd=saved)
    assert files.format("the inputs", "phone/held") in done.stdout
    assert done.stderr == ""
    done = run("bench", *model, "--weights", "w.safetensors", "--normalize", "0.305/0.376", "--id",
               "./phone/held", "--far", "./faces", "--detectors", "msp", "--out", "told-bench",
               cwd=saved)  # fmt: skip
    assert done.stdout.count("skipped in") == 1  # of two parts of one set
    assert files.format("id", "phone/held") in done.stdout
    assert "skipped in" not in done.stderr
    done = run("score", "told", "./faces", *model, "--out", "healthy.csv", cwd=saved)
    assert "skipped" not in done.stdout + done.stderr


def test_images_are_squashed_from_fit_to_score_and_calibration_data_joined(saved: Path) -> None:
    generator = np.random.default_rng(0)
    for part in ("wide", "wide-one", "wide-two"):
        (saved / part).mkdir()
        for i in range(30):
            pixels = generator.integers(0, 256, (8, 20), dtype=np.uint8)
            Image.fromarray(pixels).save(saved / part / f"{i}.png")
    model = ("--model", "mine.py:network")
    done = run("fit", *model, "--weights", "w.safetensors", "--normalize", "0.305/0.376", "--data",
               "wide", "--size", "8", "--resize", "squash", "--detector", "msp", "--out", "squash",
               cwd=saved)  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run("calibrate", "squash", "--data", "wide-one", "wide-two", *model, cwd=saved)
    assert done.returncode == 0, done.stderr
    assert "60 samples for an alarm rate of 5.00%" in done.stdout
    done = run("score", "squash", "wide", *model, "--out", "wide.jsonl", cwd=saved)
    assert done.returncode == 0, done.stderr
    scores = [json.loads(line)["score"] for line in (saved / "wide.jsonl").read_text().splitlines()]
    guard = offmap.load(saved / "squash", DigitsCNN(8))
    images = offmap.data.load(saved / "wide", size=8, resize="squash")
    assert isinstance(images, offmap.data.ImageSet)
    assert scores == pytest.approx(guard(images.images).scores.tolist(), rel=1e-5)


def test_a_function_of_the_users_prepares_images_from_fit_to_score(saved: Path) -> None:
    prep = "import numpy as np\ndef prep(image):\n    return np.asarray(image)[::-1]\n"
    (saved / "prep.py").write_text(prep)
    model, how = ("--model", "mine.py:network"), ("--transform", "prep.py:prep")
    done = run("fit", *model, "--weights", "w.safetensors", "--normalize", "0.305/0.376", "--data",
               "./train", *how, "--detector", "msp", "--out", "own", cwd=saved)  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run("calibrate", "own", "--data", "./held", *model, *how, cwd=saved)
    assert done.returncode == 0, done.stderr
    score = ("score", "own", "./faces", *model, "--out", "own.jsonl")
    done = run(*score, cwd=saved)
    said = "images made by the transform prep: give it by --transform, as file.py:prep"
    assert said in done.stderr
    done = run(*score, *how, "--sheet", "own.png", cwd=saved)
    assert done.returncode == 0, done.stderr
    scores = [json.loads(line)["score"] for line in (saved / "own.jsonl").read_text().splitlines()]
    faces = demo.digits_data().ood["far"]["faces"].images.flip(2)
    guard = offmap.load(saved / "own", DigitsCNN(8))
    assert scores == pytest.approx(guard(faces).scores.tolist(), rel=1e-5)
    done = run("bench", *model, "--weights", "w.safetensors", "--normalize", "0.305/0.376", "--id",
               "./held", "--far", "./faces", "--detectors", "msp", *how, "--out", "own-bench",
               cwd=saved)  # fmt: skip
    assert done.returncode == 0, done.stderr
    transforms = {info.transform for info in offmap.Results.load(saved / "own-bench").sets}
    assert len(transforms) == 1
    assert transforms.pop().startswith("prep.py:prep, sha256 ")


def test_an_untrained_network_is_refused(saved: Path) -> None:
    for command in (
        ("bench", "--id", "./held", "--far", "./faces"),
        ("fit", "--data", "./train", "--out", "no"),
    ):
        done = run(*command, "--model", "digits_cnn", "--normalize", "none", cwd=saved)
        assert done.returncode == 1
        assert "digits_cnn has no weights yet: give --weights" in done.stderr


def test_grey_images_for_a_network_of_colours(saved: Path) -> None:
    save_file(resnet20().state_dict(), saved / "r.safetensors")
    fit = ("fit", "--model", "resnet20", "--weights", "r.safetensors", "--data", "./train")
    for how in (("--normalize", "cifar10"), ("--normalize", "none", "--channels", "3")):
        done = run(*fit, *how, "--detector", "msp", "energy", "--out", "colour", cwd=saved)
        assert done.returncode == 0, done.stderr
        assert "Detector Energy" in done.stdout


def test_a_pipeline_can_be_stopped(saved: Path) -> None:
    score = ("score", "guard", "./faces", "--model", "mine.py:network", "--out", "w.jsonl")
    done = run(*score, "--fail-above", "0.2", cwd=saved)
    assert done.returncode == 1
    assert "is above 20.0%" in done.stderr
    assert (saved / "w.jsonl").is_file()
    done = run(*score, "--fail-above", "20", cwd=saved)  # no share is ever above 20
    assert done.returncode == 2
    assert "--fail-above" in done.stderr


def test_a_record_does_not_choose_what_code_is_run(saved: Path) -> None:
    done = run("score", "guard", "./faces", "--out", "x.csv", cwd=saved)
    assert done.returncode == 1
    assert "give --model: this guard was made with --model mine.py:network" in done.stderr


def test_a_guard_is_exported(saved: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    done = run("export", "guard", "guard.onnx", "--model", "mine.py:network", cwd=saved)
    assert done.returncode == 0, done.stderr
    session = onnxruntime.InferenceSession(saved / "guard.onnx")
    images = demo.digits_data().ood["far"]["faces"].images.numpy()
    *_, is_ood = session.run(None, {"images": images})
    assert is_ood.mean() > 0.9
