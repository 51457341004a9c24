"""Detectors of users: registered in a module, or announced by an installed package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = '''
"""Cosine similarity to the nearest class mean."""
import torch
from torch import Tensor
from torch.nn import functional as F
from offmap.detectors import Detector, Needs, Stage, register
from offmap.stats import ClassMeans


@register("cosinencm", aliases=("cosine-ncm",))
class CosineNCM(Detector):
    """Minus the cosine similarity to the nearest class mean."""

    needs = Needs.LOGITS | Needs.FEATURES
    stages = (Stage(labels=True),)
    means_: Tensor

    def collect(self, stage, acts, labels):
        return ClassMeans.of(acts.features, labels, classes=acts.logits.shape[1])

    def solve(self, stage, stats):
        self.set_buffers(means_=F.normalize(stats.mean[stats.count > 0]))

    def forward(self, acts):
        return -(F.normalize(acts.features.double()) @ self.means_.T).amax(1)
'''

SAVE = """
import offmap
from offmap import demo
sets = demo.digits_data()
guard = offmap.Guard(demo.shipped(), "ReAct(CosineNCM())", normalization=demo.NORMALIZATION)
guard.fit(sets.train).calibrate(sets.calibration).save("guard")
print(guard(sets.test.images[:5]).scores.tolist())
"""

LOAD = """
import offmap
from offmap import demo
guard = offmap.load("guard", demo.shipped())
print(guard(demo.digits_data().test.images[:5]).scores.tolist())
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package as pip lays it out, which announces its detector."""
    site = tmp_path / "site"
    info = site / "offmap_cosine-0.1.dist-info"
    info.mkdir(parents=True)
    (site / "offmap_cosine.py").write_text(SOURCE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offmap-cosine\nVersion: 0.1\n")
    (info / "top_level.txt").write_text("offmap_cosine\n")
    (info / "RECORD").write_text("offmap_cosine.py,,\n")
    (info / "entry_points.txt").write_text("[offmap.detectors]\ncosinencm = offmap_cosine\n")
    return tmp_path


def run(code: str, folder: Path, *, installed: bool = True) -> subprocess.CompletedProcess[str]:
    paths = [str(folder / "site")] if installed else []
    paths += [p for p in (os.environ.get("PYTHONPATH"),) if p]
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_detector_of_another_package_is_saved_and_loaded_in_another_process(
    package: Path,
) -> None:
    saved = run(SAVE, package)
    assert saved.returncode == 0, saved.stderr
    loaded = run(LOAD, package)
    assert loaded.stdout == saved.stdout, loaded.stderr
    without = run(LOAD, package, installed=False)
    assert "'cosinencm' is not of this library but of 'offmap-cosine'" in without.stderr
    assert "install that" in without.stderr


def test_it_is_listed_and_benched(package: Path) -> None:
    code = "import sys; from offmap.cli import main; main(['list'])"
    listed = run(code, package)
    assert "cosinencm" in listed.stdout, listed.stderr
    row = listed.stdout.partition("\nown:\n")[2].splitlines()[1]
    assert row.split()[:2] == ["cosinencm,", "cosine-ncm"]
    shown = run(code.replace("['list']", "['list', 'cosinencm']"), package)
    assert "Minus the cosine similarity" in shown.stdout
    assert "cosinencm" not in run(code, package, installed=False).stdout


def test_what_is_not_registered_is_not_written(package: Path) -> None:
    plain = SOURCE.replace('@register("cosinencm", aliases=("cosine-ncm",))\n', "")
    (package / "site" / "offmap_cosine.py").write_text(plain)
    code = SAVE.replace('"ReAct(CosineNCM())"', "offmap_cosine.CosineNCM()")
    done = run(f"import offmap_cosine\n{code}", package)
    assert "CosineNCM is not registered, so what is written could not be read back" in done.stderr
    assert not (package / "guard").exists()


COMMANDS = """
import sys, numpy as np
from pathlib import Path
from PIL import Image
from offmap import demo
from offmap.cli import main
sets = demo.digits_data()
for name in ("train", "calibration"):
    images = getattr(sets, name)
    for i, (x, y) in enumerate(zip(images.images, images.labels)):
        folder = Path(name, str(int(y)))
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[0].numpy()).save(folder / f"{i}.png")
Path("net.py").write_text("from offmap import demo\\ndef network():\\n    return demo.shipped()\\n")
normal = ["--normalize", "0.305/0.376"]
own = "mydet.py:CosineNCM"
model = ["--model", "net.py:network"]
try:
    main(["fit", *model, "--data", "./train", "--detector", own, *normal, "--out", "guard"])
except SystemExit as e:
    assert not e.code, e
"""

LATER = """
from offmap.cli import main
def go(*arguments):
    try:
        main(list(arguments))
    except SystemExit as e:
        assert not e.code, arguments
own = ["--model", "net.py:network", "--detectors", "mydet.py:CosineNCM"]
go("calibrate", "guard", "--data", "./calibration", *own)
go("score", "guard", "./calibration/0", "--out", "v.csv", *own)
"""


def test_a_class_in_a_file_goes_through_the_commands_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "mydet.py").write_text(SOURCE)
    fitted = run(COMMANDS, tmp_path, installed=False)
    assert fitted.returncode == 0, fitted.stderr
    later = run(LATER, tmp_path, installed=False)
    assert later.returncode == 0, later.stderr
    assert (tmp_path / "v.csv").read_text().startswith("path,answer")
    without = run(
        LATER.replace(', "--detectors", "mydet.py:CosineNCM"', ""), tmp_path, installed=False
    )
    assert "of 'mydet', which has not registered it here" in " ".join(without.stderr.split())
    assert "--detectors FILE.py:CLASS" in " ".join(without.stderr.split())


def test_a_file_and_an_import_of_it_give_one_detector(tmp_path: Path) -> None:
    """The network's file imports the detector's, which the command line names as well."""
    (tmp_path / "mydet.py").write_text(SOURCE)
    both = "import mydet, offmap\nprint(offmap.detector('ReAct(mydet.py:CosineNCM())').inner)\n"
    turned = "import offmap\noffmap.detector('mydet.py:CosineNCM')\nimport mydet\n" + both
    for code in (both, turned):
        done = run(code, tmp_path, installed=False)
        assert done.stdout == "CosineNCM()\n", done.stderr


def test_a_file_may_lie_in_a_folder_of_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "my project (1), old"
    folder.mkdir()
    (folder / "mydet.py").write_text(SOURCE)
    code = f"import offmap\nprint(offmap.detector({str(folder / 'mydet.py:CosineNCM')!r}))"
    done = run(code, tmp_path, installed=False)
    assert done.stdout == "CosineNCM()\n", done.stderr


def test_a_record_says_which_file_of_the_user_it_was(tmp_path: Path) -> None:
    (tmp_path / "mydet.py").write_text(SOURCE)
    code = "import offmap\nprint(offmap.detector('mydet.py:CosineNCM').record()['distribution'])"
    assert run(code, tmp_path, installed=False).stdout == "mydet\n"


DASHED = """
import offmap
from offmap.errors import UnknownNameError

@offmap.detectors.register("length-of-ours")
class Length(offmap.Detector):
    def __init__(self, power=2.0, word=""):
        super().__init__()
        self.power, self.word = power, word

    def forward(self, acts):
        return acts.features.norm(self.power, dim=1)

class Forgetful(Length):
    def __init__(self, power=2.0):
        super().__init__(power)
        del self.power

print(offmap.detector("length-of-ours"))
print(offmap.detector("react(length-of-ours(power=1e-06, word='a-b'))").inner)
for unknown in ("length-of-yours", "ReAct(length-of-yours)"):
    try:
        offmap.detector(unknown)
    except UnknownNameError as error:
        print(str(error).partition(" Known")[0])
try:
    repr(Forgetful())
except offmap.errors.ArgumentError as error:
    print(error)
"""


def test_names_with_dashes_stand_inside_of_expressions(tmp_path: Path) -> None:
    done = run(DASHED, tmp_path, installed=False)
    assert done.stdout.splitlines() == [
        "Length(power=2.0, word='')",
        "Length(power=1e-06, word='a-b')",
        *["no detector is called 'length-of-yours'; did you mean 'lengthofours'?"] * 2,
        "Forgetful does not keep its argument 'power', so it could not be written: put "
        "`self.power = power` into __init__",
    ], done.stderr
