"""Guards that were made in Python, used from the command line."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import offmap
from offmap import demo
from offmap.cli import main
from offmap.cli.score import _title
from offmap.networks import DigitsCNN

Call = Callable[..., tuple[int, str, str]]
NETWORK = "--model mine.py:network"
NORMALIZATION = "0.305/0.376"

FACTORY = """
from pathlib import Path
from safetensors.torch import load_file
from offmap.networks import DigitsCNN

def network(weights="w"):
    made = DigitsCNN(8)
    made.load_state_dict(load_file(Path(__file__).parent / f"{weights}.safetensors"))
    return made

def untrained():
    return DigitsCNN(8)
"""


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> Call:
    """Runs a command in this process: its status, and what it printed."""
    monkeypatch.chdir(folder)

    def run(line: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(line))
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in folders, a factory that loads its own weights, and a guard fitted on a loader."""
    folder = tmp_path_factory.mktemp("python")
    sets = demo.digits_data()
    for name, part in (("held", sets.calibration), ("faces", sets.ood["far"]["faces"])):
        (folder / name).mkdir()
        for i, image in enumerate(part.images):
            Image.fromarray(image[0].numpy()).save(folder / name / f"{i:04}.png")
    (folder / "mine.py").write_text(FACTORY)
    save_file(demo.shipped().state_dict(), folder / "w.safetensors")
    torch.manual_seed(0)
    save_file(DigitsCNN(8).state_dict(), folder / "other.safetensors")
    loader = [(demo.NORMALIZATION(x), y) for x, y in sets.train.batches(256)]
    offmap.Guard(demo.shipped(), "mahalanobis").fit(loader).save(folder / "guard")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "copy")


def test_a_guard_knows_the_shape_of_what_its_loader_gave(made: Path) -> None:
    record = json.loads((made / "guard" / "guard.json").read_text())
    assert record["input_shape"] == [1, 8, 8]
    assert record["normalization"] == {"known": False}


def test_a_guard_of_a_loader_is_calibrated_and_scores_by_the_commands(
    call: Call, folder: Path
) -> None:
    """The verdicts are those of the same guard in Python."""
    calibrate = f"calibrate guard --data ./held {NETWORK}"
    status, text, said = call(f"{calibrate} --normalization {NORMALIZATION}")
    assert (status, said) == (0, "")
    assert "216 samples for an alarm rate of 5.00%" in text
    assert call(f"score guard ./faces ./held {NETWORK} --out v.csv")[0] == 0
    sets = demo.digits_data()
    guard = offmap.Guard(demo.shipped(), "mahalanobis")
    guard.fit([(demo.NORMALIZATION(x), y) for x, y in sets.train.batches(256)])
    guard.calibrate([demo.NORMALIZATION(sets.calibration.images)])
    verdict = guard(demo.NORMALIZATION(sets.ood["far"]["faces"].images))
    rows = list(csv.DictReader((folder / "v.csv").read_text().splitlines()))
    assert len(rows) == 316
    assert [row["is_ood"] == "True" for row in rows[:100]] == verdict.is_ood.tolist()
    scores = [float(row["score"]) for row in rows[:100]]
    np.testing.assert_allclose(scores, verdict.scores.double().numpy(), rtol=1e-4)


def test_what_is_missing_is_asked_for(call: Call) -> None:
    status, _, said = call(f"calibrate guard --data ./held {NETWORK}")
    assert status == 1
    assert said.startswith("offmap: give --normalization: this guard was fitted on images")
    status, _, said = call("calibrate guard --data ./held")
    assert said.startswith("offmap: give --model: this guard was made from Python")


def test_a_guard_without_a_shape_takes_it_from_options(call: Call, folder: Path) -> None:
    record = json.loads((folder / "guard" / "guard.json").read_text())
    record["input_shape"] = None
    (folder / "guard" / "guard.json").write_text(json.dumps(record))
    guard = f"guard {NETWORK} --normalization {NORMALIZATION}"
    status, _, said = call(f"score {guard} ./faces --out v.csv")
    assert (status, said) == (
        1,
        "offmap: this guard does not know the size of its images: give --size\n",
    )
    assert "give --channels beside --size" in call(f"score {guard} ./faces --out v.csv --size 8")[2]
    assert call(f"calibrate {guard} --data ./held --size 8 --channels 1")[0] == 0
    record = json.loads((folder / "guard" / "guard.json").read_text())
    assert record["input_shape"] == [1, 8, 8]
    assert call(f"score guard {NETWORK} ./faces --out v.csv")[0] == 0


def test_what_a_guard_knows_is_not_changed_by_options(call: Call) -> None:
    known = f"calibrate guard {NETWORK} --data ./held --normalization {NORMALIZATION}"
    status, _, said = call(f"{known} --size 16")
    assert status == 1
    assert "fitted on images of 1 channels, 8 by 8: leave --size and --channels out" in said
    assert call(known)[0] == 0
    status, _, said = call(f"score guard {NETWORK} ./faces --out v.csv --normalization 0.5/0.5")
    assert status == 1
    assert "this guard normalises images by" in said


def test_weights_that_are_others_are_refused(call: Call) -> None:
    more = f"--data ./held --normalization {NORMALIZATION}"
    for network in ("mine.py:untrained", "mine.py:network(weights='other')"):
        status, _, said = call(f'calibrate guard --model "{network}" {more}')
        assert status == 1
        assert "give --weights: this guard was saved without its network's weights" in said
    status, _, said = call(
        f"calibrate guard --model mine.py:untrained --weights w.safetensors {more}"
    )
    assert (status, said) == (0, "")


@pytest.mark.parametrize(
    "command",
    [
        f"fit {NETWORK} --data ./held --normalization none --out new",
        f"calibrate guard --data ./held {NETWORK}",
        f"score guard ./faces --out v.csv {NETWORK}",
        f"export guard guard.onnx {NETWORK}",
        f"bench {NETWORK} --id ./held --far ./faces",
        "study pixmix --budget smoke",
        "train --recipe digits --budget smoke --out run",
    ],
)
def test_commands_run_where_they_are_told_to(command: str, call: Call) -> None:
    status, _, said = call(f"{command} --device nosuch")
    assert status == 1
    assert "device 'nosuch'" in said


def test_detectors_and_sets_by_short_names(call: Call, folder: Path) -> None:
    status, text, said = call(
        f"bench {NETWORK} --id ./held --near people=./faces --far noise:gaussian static=noise:blobs"
        f" --normalization {NORMALIZATION} --alarm-rate 0.1"
        " --detectors 'msp,Combine([energy, maxlogit])' --out out"
    )
    assert (status, said) == (
        0,
        "no training data: give --train; detectors that need it are left out\n",
    )
    results = offmap.Results.load(folder / "out")
    assert results.groups == {"near": ["people"], "far": ["noise:gaussian", "static"]}
    assert results.detectors == ["msp", "Combine([energy, maxlogit])"]
    assert max(map(len, text.splitlines())) <= 100
    assert next(s.source for s in results.sets if s.name == "people") == "faces"


def test_several_detectors_of_a_guard(call: Call) -> None:
    fit = f"fit {NETWORK} --data ./held --normalization {NORMALIZATION} --out new"
    status, text, _ = call(f"{fit} --detectors msp,entropy")
    assert status == 0
    assert "Detector MSP" in text
    assert "Detector Entropy" in text
    assert "It has no threshold yet: run `offmap calibrate`." in text
    assert call(f"{fit} --detector msp entropy")[1] == text
    status, _, said = call(f"{fit} --detectors msp --combine fisher")
    assert status == 1
    assert "--combine fisher is of several detectors" in said


def test_one_set_as_training_and_id_data_is_refused(call: Call, made: Path) -> None:
    line = f"bench {NETWORK} --normalization {NORMALIZATION} --id held --train held --far faces"
    status, _, said = call(line)
    assert status == 1
    assert "give --id that the network was not trained on" in said


def test_probabilities_are_refused_and_have_an_option(call: Call, folder: Path) -> None:
    (folder / "soft.py").write_text(
        "from torch import nn\nfrom mine import network as logits\n\n"
        "def network():\n    return nn.Sequential(logits(), nn.Softmax(1))\n"
    )
    line = f"fit --model soft.py:network --normalization {NORMALIZATION} --data held --out soft"
    status, _, said = call(f"{line} --detectors msp")
    assert status == 1
    assert "or --outputs probabilities" in said
    status, said, _ = call(f"{line} --detectors msp --outputs probabilities")
    assert status == 0
    assert "Read 216 samples to fit on 20" in said


def test_a_certificate_from_calibrating_to_checking_and_scoring(call: Call, folder: Path) -> None:
    guard = f"guard {NETWORK}"
    calibrate = f"calibrate {guard} --data ./held --normalization {NORMALIZATION}"
    status, text, said = call(f"{calibrate} --alarm-rate 0.1 0.05 --confidence 0.95")
    assert (status, said) == (0, "")
    assert "With confidence 95%, at most 10.00% of ID samples are called OOD" in text
    assert "so is it for 5.00%, named beforehand, at once" in text
    status, text, said = call(f"check {guard} --data ./faces --sensitivity")
    assert (status, said) == (1, "")
    assert "The certificate of at most 10.00% is broken" in text
    assert "0 (0.0%)" in text
    assert call(f"check {guard} --data ./faces --ood")[0] == 0
    status, _, said = call(f"check {guard} --data ./held")
    assert (status, said.startswith("offmap: this guard was calibrated on the same")) == (1, True)
    assert call(f"check {guard}")[2] == "offmap: give --data to check on, or --sensitivity\n"
    unknown = {}
    for rate in ("0.1", "0.05", "0.2"):
        status, text, said = call(f"score {guard} ./held --out v{rate}.csv --alarm-rate {rate}")
        assert (status, said) == (0, "")
        assert f"With confidence 95%, at most {float(rate):.2%} of ID" in text
        unknown[rate] = (folder / f"v{rate}.csv").read_text().count(",True,")
    assert unknown["0.05"] < unknown["0.1"] < unknown["0.2"]
    status, _, said = call(f"score {guard} ./held --out v.csv --alarm-rate 0.01")
    assert status == 1
    assert "name it in `offmap calibrate --alarm-rate`" in said
    status, _, said = call(f"{calibrate} --alarm-rate 0.1 --confidence 0.95 --per-class")
    assert status == 1
    assert "or join them by --pool" in said
    assert call(f"{calibrate} --alarm-rate 0.1 --confidence 0.95 --per-class --pool")[0] == 0


def test_errors_are_controlled_by_the_command(call: Call, folder: Path) -> None:
    guard = f"guard {NETWORK}"
    normalization = f"--normalization {NORMALIZATION}"
    assert call(f"calibrate {guard} --data ./held {normalization}")[0] == 0
    sets = demo.digits_data()
    for i, (image, label) in enumerate(zip(sets.test.images, sets.test.labels, strict=True)):
        path = folder / "labelled" / str(int(label)) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path)
    status, text, said = call(f"control {guard} --data ./labelled --error-rate 0.05")
    assert (status, said) == (0, "")
    assert "with confidence 95%, at most 5.00% of ID samples are accepted and wrong" in text
    assert call(f"score {guard} ./held --out v.csv")[0] == 0
    rows = list(csv.DictReader((folder / "v.csv").read_text().splitlines()))
    assert {row["accepted"] for row in rows} == {"True", "False"}
    status, _, said = call(f"control {guard} --data ./labelled --error-rate 0.001")
    assert status == 1
    assert "an error rate of 0.001 with confidence 0.95 needs at least 2995 labelled" in said


def test_a_guard_is_shown_without_its_network(call: Call, folder: Path) -> None:
    status, said, _ = call("show guard")
    assert status == 0
    words = " ".join(said.split())
    guard = offmap.load(folder / "guard", demo.shipped())
    assert words.startswith(" ".join(guard.explain().split()).partition(" It has no")[0])
    assert "It has no threshold yet: run `offmap calibrate`." in words
    assert "Inputs: 1, 8, 8; 0 named classes." in words
    assert f"Its weights (sha256 {guard.weights[:16]}) are not kept" in words
    (folder / "guard" / "guard.json").write_text("{}")
    status, _, said = call("show guard")
    assert status == 1
    assert "guard.json" in said


def test_images_that_belong_together_are_told_by_their_paths(call: Call, folder: Path) -> None:
    """One of each folder counts, or of each name that an expression finds."""
    for i, path in enumerate(sorted((folder / "held").iterdir())):
        patient = folder / "scans" / f"patient-{i // 2:03}"
        patient.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, patient / path.name)
    calibrate = f"calibrate guard {NETWORK} --normalization {NORMALIZATION} --data ./scans"
    status, text, said = call(f"{calibrate} --groups parent-folder")
    assert (status, said) == (0, "")
    assert "one of each of 108 groups" in text
    by_name = f"{calibrate} --alarm-rate 0.2 --groups 'patient-([0-9]{{2}})'"
    assert "one of each of 11 groups" in call(by_name)[1]
    status, _, said = call(f"{calibrate} --groups scan-")
    assert (status, said.startswith("offmap: groups: nothing in")) == (1, True)
    assert "is none: missing )" in call(f'{calibrate} --groups "("')[2]


def halve(folder: Path, *names: str) -> None:
    """Two folders with every other image of ``held``."""
    for i, name in enumerate(names):
        (folder / name).mkdir()
        for path in sorted((folder / "held").iterdir())[i::2]:
            shutil.copy(path, folder / name / path.name)


def test_a_calibration_set_is_extended_from_the_command_line(call: Call, folder: Path) -> None:
    halve(folder, "first", "second")
    options = f"{NETWORK} --normalization {NORMALIZATION}"
    assert call(f"calibrate guard {options} --data ./first --alarm-rate 0.1")[0] == 0
    status, text, said = call(f"calibrate guard {options} --data ./second --extend")
    assert (status, said) == (0, "")
    assert "The samples came in parts, 108 + 108" in text
    assert "at most 10.00% of ID samples are called OOD" in text
    status, _, said = call(f"calibrate guard {options} --data ./faces --extend")
    assert (status, "two-sample test of Kolmogorov and Smirnov" in said) == (1, True)


def test_a_sheet_names_files_and_what_would_have_been_said() -> None:
    row = {"path": "a/b/face.png", "answer": "unknown", "label": 1, "is_ood": True, "p_value": 0.01}
    assert _title(row, ("ape", "bee")) == "face.png\nunknown, said bee\np 0.01"
    assert _title(row, ()) == "face.png\nunknown, said 1\np 0.01"
    known = row | {"answer": "bee", "is_ood": False, "path": f"{'x' * 30}.png"}
    assert _title(known, ("ape", "bee")) == f"{'x' * 21}…\nbee\np 0.01"
    assert _title(row | {"label": None}, ()) == "face.png\nunknown\np 0.01"  # of features alone


def test_a_sheet_shows_the_nearest_training_images(call: Call, folder: Path) -> None:
    halve(folder, "train", "apart")
    made = f"{NETWORK} --normalization {NORMALIZATION}"
    assert call(f"fit {made} --data ./train --detectors 'KNN(k=5)' --out near")[0] == 0
    assert call(f"calibrate near {made} --data ./apart")[0] == 0
    score = f"score near ./faces {NETWORK} --out v.csv"
    status, _, said = call(f"{score} --sheet near.png --nearest ./train")
    assert (status, said) == (0, "")
    with Image.open(folder / "near.png") as sheet:
        assert sheet.size[1] > 2000  # a row for each of 24
    assert call(f"calibrate guard {made} --data ./apart")[0] == 0
    status, _, said = call(
        f"score guard ./faces {NETWORK} --out other.csv --sheet near.png --nearest ./train"
    )
    assert (status, "make it with KNN" in said, (folder / "other.csv").exists()) == (1, True, False)
    assert "--nearest is for what --sheet shows" in call(f"{score} --nearest ./train")[2]
    assert "has no sample" in call(f"{score} --sheet near.png --nearest ./faces")[2]


def test_checks_verdicts_and_watches_have_reports(call: Call, folder: Path) -> None:
    options = f"{NETWORK} --normalization {NORMALIZATION}"
    assert call(f"calibrate guard {options} --data ./held")[0] == 0
    status, text, said = call(f"check guard {NETWORK} --data ./faces --ood --report check.html")
    assert (status, said) == (0, "")
    assert "Written to check.html and check.json" in text
    assert "100 OOD samples caught" in (folder / "check.html").read_text()
    score = f"score guard ./faces {NETWORK} --out v.csv --log log.jsonl --report v.html"
    status, text, said = call(f"{score} --explain --sheet sheet.png")
    assert (status, said) == (0, "")
    page = (folder / "v.html").read_text()
    assert "was asked for an alarm rate of 5.00%" in page
    assert page.count("data:image/png") == 24
    assert "nearest class" in page
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.size[0] > 1000
    assert call("watch log.jsonl --report watch.html")[0] == 1
    assert "ALARM at sample" in (folder / "watch.html").read_text()
    assert call("score guard ./faces --out v.csv --report page.pdf")[2].startswith(
        "offmap: a report is one HTML file"
    )


def test_several_checkpoints_are_evaluated_each_and_taken_together(
    call: Call, folder: Path
) -> None:
    weights = "--weights w.safetensors other.safetensors"
    data = f"--id ./held --far ./faces --normalization {NORMALIZATION} --no-cache"
    bench = f"bench --model mine.py:untrained {weights} {data} --detectors msp energy --out both"
    status, text, said = call(f"{bench} --report")
    assert status == 0
    assert "no training data" in said
    results = {
        name: offmap.evaluation.Results.load(folder / "both" / name) for name in ("w", "other")
    }
    together = offmap.aggregate(results)
    assert together.table() in text
    assert all(results[name].table() in text for name in results)
    page = (folder / "both" / "report.html").read_text()
    assert "over 1 OOD sets and 2 networks" in page
    assert (folder / "both" / "w" / "report.html").is_file()
    status, _, said = call(
        bench.replace("--weights w", "--network other=mine.py:network --weights w a")
    )
    assert said == "offmap: there are 2 networks and 3 --weights: give one for each, or none\n"
