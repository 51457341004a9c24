"""How the command line reads arguments, and what it says."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

import offmap
from offmap.cli import app, main
from offmap.cli._arguments import named, parted, several
from offmap.cli._bench import Plan, networks_of
from offmap.cli._messages import in_words, speak_as
from offmap.cli.compare import loaded
from offmap.detectors._registry import FAMILIES
from offmap.errors import ArgumentError, NotFittedError
from offmap.guard.opening import device_or_usual
from offmap.training import recipe, trainer
from offmap.training.task import Task

SOURCE = Path(offmap.__file__).parent
PARSER: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = PARSER.commands
STUDIES: dict[str, Any] = COMMANDS["study"].commands
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command in this process: its status, and what it printed."""

    def run(line: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(line))
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def read(line: str) -> str:
    return shlex.join(several(shlex.split(line), PARSER))


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        (
            "bench --near a b --limit 3 --far c --no-cache",
            "bench --near a --near b --limit 3 --far c --no-cache",
        ),
        ("collapse --ood a b RUN", "collapse --ood a --ood b RUN"),
        ("collapse --ood a b RUN --limit 9", "collapse --ood a --ood b RUN --limit 9"),
        ("collapse --limit 9 RUN --ood a b", "collapse --limit 9 RUN --ood a --ood b"),
        ("collapse RUN --ood a b", "collapse RUN --ood a --ood b"),
        (
            "collapse --ood a RUN --detectors msp",
            "collapse --ood a RUN --detectors msp",
        ),
        ("export --detectors m.py:A GUARD OUT", "export --detectors m.py:A GUARD OUT"),
        (
            "export --detectors m.py:A m.py:B GUARD OUT",
            "export --detectors m.py:A --detectors m.py:B GUARD OUT",
        ),
        ("calibrate --detector A GUARD --data d", "calibrate --detector A GUARD --data d"),
        ("score --detectors A GUARD a b c --out v", "score --detectors A GUARD a b c --out v"),
        (
            "score GUARD - --out v --detectors A B",
            "score GUARD - --out v --detectors A --detectors B",
        ),
        ("study pixmix --set a=1 b=2 --seed 3", "study pixmix --set a=1 --set b=2 --seed 3"),
        ("collapse --ood=a RUN", "collapse --ood=a RUN"),
        ("collapse --ood a b -- RUN", "collapse --ood a --ood b -- RUN"),
        ("nonsense --ood a b", "nonsense --ood a b"),
    ],
)
def test_options_with_several_values_leave_the_commands_own(line: str, meant: str) -> None:
    assert read(line) == meant


def test_of_two_options_that_may_hold_the_folder_the_one_that_is_there_is_meant(
    tmp_path: Path,
) -> None:
    assert read(f"collapse --ood a {tmp_path} --detectors msp energy") == (
        f"collapse --ood a {tmp_path} --detectors msp --detectors energy"
    )


def test_collapse_finds_its_run_behind_the_sets(call: Call, tmp_path: Path) -> None:
    status, _, said = call(f"collapse --ood noise:gaussian noise:blobs {tmp_path}")
    assert status == 1
    assert said.startswith(f"offmap: {tmp_path}")


def test_detectors_between_commas_stay_whole() -> None:
    given = ["msp,ReAct(Energy(), quantile=0.9)", "Combine([energy, knn], how='max'), mds++,"]
    assert parted(given) == [
        *("msp", "ReAct(Energy(), quantile=0.9)"),
        *("Combine([energy, knn], how='max')", "mds++"),
    ]


def test_checkpoints_have_names_that_tell_them_apart() -> None:
    def names(*files: str) -> list[str]:
        return list(networks_of(["resnet20"], [Path(file) for file in files]))

    assert names("a/seed_0.th", "a/seed_1.th") == ["seed_0", "seed_1"]
    assert names("runs/0/weights.safetensors", "runs/1/weights.safetensors") == ["0", "1"]
    assert names("x/0/w.pt", "y/0/w.pt") == ["x-0-w-pt", "y-0-w-pt"]
    with pytest.raises(ArgumentError, match=r"one checkpoint is named twice: a/w.pt, a/w.pt"):
        names("a/w.pt", "a/w.pt")


def test_data_sets_have_short_names() -> None:
    assert named(["cams=./a/b", "noise:gaussian", "./k=3/x"]) == {
        "cams": "./a/b",
        "noise:gaussian": "noise:gaussian",
        "./k=3/x": "./k=3/x",
    }
    with pytest.raises(
        ArgumentError, match="two of these are called 'a': give each a name, NAME=y"
    ):
        named(["a=x", "a=y"])
    # Of results, too: a slash behind the name makes no second network.
    with pytest.raises(ArgumentError, match="two of these are called 'runs/a'"):
        loaded(["runs/a", "runs/a/"])


def test_a_path_with_an_equals_sign_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k=3").mkdir()
    assert named(["k=3"]) == {"k=3": "k=3"}


def options_of(command: Any) -> dict[str, list[str]]:
    return {p.name: p.opts for p in command.params if p.param_type_name == "option"}


def test_options_are_spelt_alike_in_every_command() -> None:
    spelt: dict[str, set[tuple[str, ...]]] = {}
    for command in [*COMMANDS.values(), *STUDIES.values()]:
        for name, words in options_of(command).items():
            spelt.setdefault(name, set()).add(tuple(words))
    assert {name: words for name, words in spelt.items() if len(words) > 1} == {}
    assert {name for name in spelt if name in ("detector", "normalize", "network")} == set()


@pytest.mark.parametrize(
    "name", ["fit", "calibrate", "score", "serve", "export", "bench", "collapse", "train", *STUDIES]
)
def test_a_device_can_be_named(name: str) -> None:
    command = {**COMMANDS, **STUDIES, "collapse": COMMANDS["collapse"]}[name]
    assert options_of(command)["device"] == ["--device"]


def test_cuda_is_taken_where_it_is_and_nothing_else_unasked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_or_usual(None) == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_or_usual(None) == "cpu"


@pytest.mark.parametrize("name", ["cuda", "nonsense", "mps"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    if name == "nonsense" or not getattr(torch, name).is_available():
        with pytest.raises(ArgumentError, match=name):
            device_or_usual(name)


def test_the_version_is_told_by_the_module_too(call: Call) -> None:
    assert call("--version") == (0, f"offmap {offmap.__version__}\n", "")
    command = [sys.executable, "-m", "offmap", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"offmap {offmap.__version__}\n"


def test_list_shows_all_of_a_detector(call: Call) -> None:
    status, text, _ = call("list dknn")
    assert status == 0
    for part in ("also called dknn", "needs features", "KNN(k=50, *, bank=50000", "chunk_mb=16"):
        assert part in text
    for part in ("g_{(k)}", "which neighbour", "arXiv:2204.06507"):
        assert part in text


@pytest.mark.parametrize("name", offmap.catalogue())
def test_every_detector_can_be_shown(name: str, call: Call) -> None:
    status, text, _ = call(f"list {name}")
    assert status == 0
    assert text.startswith(f"{name}: ")
    assert "needs " in text
    assert ":math:" not in text


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("resnet18", "width=1.0"),
        ("cifar10", "CIFAR-10"),
        ("digits", '"network": "digits_cnn'),
        ("embedded:faces", "no download"),
        ("noise:blobs", "drawn"),
    ],
)
def test_other_names_can_be_shown(name: str, part: str, call: Call) -> None:
    assert part in call(f"list {name}")[1]


def test_a_misspelt_name_says_which_was_meant(call: Call) -> None:
    status, _, said = call("list mahalanobbis")
    assert status == 1
    assert said == (
        "offmap: nothing is called 'mahalanobbis': did you mean 'mahalanobis'? `offmap list` "
        "names everything\n"
    )


@pytest.mark.parametrize("columns", [30, 60, 80, 100, 200])
def test_no_line_of_the_list_is_wider_than_the_terminal(
    columns: int, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = call("list")[1].splitlines()
    assert max(map(len, lines)) <= columns
    if columns >= 80:  # names are not broken
        starts = {line.split()[0].rstrip(",") for line in lines if line.startswith("  ")}
        assert set(offmap.catalogue()) <= starts


def test_detectors_are_listed_by_family_with_what_a_choice_rests_on(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = call("list")[1]
    places = [text.index(f"\n{family}:\n  name ") for family in FAMILIES]
    assert places == sorted(places)
    rows = {line.split()[0].rstrip(","): line.split() for line in text.splitlines() if line.strip()}
    assert rows["knn"] == ["knn,", "dknn", "features", "bank", "yes", "2022", "any", "classifier"]
    assert rows["gram"] == ["gram", "logits", "layers", "yes", "2020", "convolutional", "networks"]
    assert rows["entropy"] == ["entropy", "logits", "sums", "yes", "-", "any", "classifier"]
    assert rows["odin"][1:5] == ["logits,", "inputs", "passes", "no"]
    assert rows["totalentropy"][-3:] == ["ensembles", "of", "classifiers"]


def test_a_detector_is_shown_with_the_facts_of_the_list(call: Call) -> None:
    assert (
        "\ncost layers; exports yes; year 2020; suits convolutional networks\n"
        in (call("list gram")[1])
    )


# Words of Python, where a command has options and other commands.
PYTHON = re.compile(
    r"(?<![\w.(-])[a-z_]{2,}=(?=[\s,;:.)]|$|'|offmap|\{|True|False)"
    r"|\bcall (?:fit|calibrate|at|save)\b|(?<![`'])\boffmap\.\w+|\b(?:Guard|Probe|evaluate)\b"
    r"|\bloader\b|in Python"
)
# Messages that no command leads to, and those to whoever writes a detector.
ELSEWHERE = (
    "it was run without taps=",  # commands ask for the layers
    "register others by offmap.activations.reduction",
    "needs like=",  # commands give it
    "use Guard or evaluate on the inputs themselves",
    "put @offmap.detectors.register() above the class",
    "return an offmap.stats.Statistic",
    "give a loader or a set",  # commands read sets
    "tied=True",  # an argument in an expression, as dim= is
    "see offmap.networks.zero_shot",  # which no command makes
    "give offmap.networks.zero_shot(",
    "Guard(train, train; train)",  # how one is shown in Python
    "or choose dim= below",
    "OOD sets are given by name",
    "use offmap.Normalization, or give normalised images",
    "put a guard around the whole",  # no command makes a cascade
    "the network has no linear layer to take its classes from",
    "or use offmap.Guard or offmap.evaluate",  # of offmap.sklearn
    "give column=, the one that holds the inputs",  # of a scorer, which no command makes
    "prefix='guard_', or keep= without them",
    "A data loader is such an iterable",  # a docstring of a type
    "which a state_dict does not hold",  # which no command reads
    "give offmap.guard.groups.by_path(",  # of what --groups takes
)


def messages() -> Iterator[str]:
    """All texts in the sources that users may be shown; values stand as "train"."""
    for path in SOURCE.rglob("*.py"):
        if path.parent.name != "cli":  # the commands know their own words
            yield from _texts(ast.parse(path.read_text()))


def _texts(tree: ast.AST) -> Iterator[str]:
    hidden = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body:
            first = node.body[0]
            hidden |= {id(first.value)} if isinstance(first, ast.Expr) else set()
        if id(node) in hidden:
            continue
        if isinstance(node, ast.JoinedStr):
            hidden |= {id(part) for part in ast.walk(node)}
            parts = (v.value if isinstance(v, ast.Constant) else "train" for v in node.values)
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.fixture
def spoken(request: pytest.FixtureRequest) -> Iterator[None]:
    """The words of a command, and of none afterwards."""
    speak_as(COMMANDS[request.param])
    yield
    speak_as(PARSER)


@pytest.mark.usefixtures("spoken")
@pytest.mark.parametrize("spoken", ["bench"], indirect=True)
def test_messages_that_reach_the_command_line_are_in_its_words() -> None:
    texts = [text for text in messages() if " " in text]
    assert sum(PYTHON.search(text) is not None for text in texts) > 20  # they are found
    flat = [" ".join(in_words(text).split()) for text in texts]
    wrong = [t for t in flat if PYTHON.search(t) and not any(e in t for e in ELSEWHERE)]
    assert wrong == []


@pytest.mark.usefixtures("spoken")
@pytest.mark.parametrize(
    ("spoken", "text", "said"),
    [
        ("fit", "give normalization=, what it was", "give --normalization, what it was"),
        ("bench", "name one that is, by head=", "name one that is, by --head"),
        ("bench", "or outputs='probabilities'", "or --outputs probabilities"),
        ("bench", "give train=", "give --train"),
        ("fit", "give train=", "give --data"),
        ("bench", "alarm_rate must lie in (0, 1)", "--alarm-rate must lie in (0, 1)"),
        ("calibrate", "per_class calibrates one", "--per-class calibrates one"),
        ("bench", "KNN(seed=3): no digits_cnn", "KNN(seed=3): no digits_cnn"),
        ("train", "normalization=0.5/0.25 batch_size", "normalization=0.5/0.25 batch_size"),
    ],
    indirect=["spoken"],
)
def test_words_of_a_command(text: str, said: str) -> None:
    assert in_words(text) == said


def test_errors_and_warnings_are_told_in_the_words_of_the_command(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        warnings.warn("give normalization=", UserWarning, stacklevel=1)
        raise NotFittedError("this guard has no threshold yet: call fit, then calibrate")

    monkeypatch.setattr("offmap.guard.opening.device_or_usual", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        status, _, said = call("bench --model resnet20 --id a --far b")
    assert status == 1
    assert said == (
        "offmap: warning: give --normalization\n"
        "offmap: this guard has no threshold yet: run `offmap calibrate`\n"
    )


@pytest.mark.parametrize(
    ("name", "accelerator", "devices"),
    [("cuda:1", "cuda", [1]), ("cuda", "cuda", 2), ("cpu", "cpu", 2), (None, "auto", 2)],
)
def test_a_network_is_trained_on_the_device_that_was_named(
    name: str | None,
    accelerator: str,
    devices: object,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    class MadeError(Exception):
        pass

    def record(**options: object) -> None:
        assert (options["accelerator"], options["devices"]) == (accelerator, devices)
        raise MadeError

    task = Task.__new__(Task)
    task.__dict__["recipe"] = recipe("digits", budget="smoke")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("lightning.Trainer", record)
    with pytest.raises(MadeError):
        trainer.fit(
            task, tmp_path, device=name and torch.device(name), devices=2, after_epoch=[],
            keep_every=0,
            show_progress=False,
        )  # fmt: skip


def test_a_network_that_fails_on_its_images_is_told_in_a_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of another size or number of channels are the first mistake that is made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from offmap import demo\nnetwork = demo.shipped\n")
    fit = "fit --model mine.py:network --data embedded:digits --size 8 --out guard"
    status, _, said = call(f"{fit} --channels 3")
    assert status == 1
    line = said.splitlines()[-1]
    assert line.startswith("offmap: the network fails on inputs of shape (256, 3, 8, 8): ")
    assert "--size, --channels, --normalization decide on it" in line
    assert "RuntimeError: Given groups=1" in line
    with pytest.raises(RuntimeError, match="Given groups=1"):
        main(shlex.split(f"{fit} --channels 3 --debug"))
    (tmp_path / "wrong.py").write_text("def network():\n    raise RuntimeError('no such')\n")
    with pytest.raises(RuntimeError, match="no such"):  # where a user's own code fails, it stays
        main(shlex.split("fit --model wrong.py:network --data embedded:digits --out guard"))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("fit --model m.py:f --data d --out file", "file is a file, and a folder is to be"),
        ("bench --model m.py:f --id d --far d --out file", "file is a file, and a folder is to be"),
        ("study pixmix --out file", "file is a file, and a folder is to be written"),
        ("train --recipe plain --out file", "file is a file, and a folder is to be written"),
        ("score g d --out v.csv", "v.csv is a folder, and a file is to be written"),
        ("score g d --out w.csv --log v.csv", "v.csv is a folder, and a file is to be written"),
        ("score g d --out w.csv --report v.csv", "v.csv is a folder, and a file is to be written"),
        ("report g --out v.csv", "v.csv is a folder, and a file is to be written"),
        ("report nowhere", "nowhere does not exist: "),
        ("show file", "file holds no guard, there is no guard.json: `offmap fit` makes one"),
    ],
)
def test_what_cannot_be_written_or_read_is_told_before_any_work(
    line: str, told: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "v.csv").mkdir()
    status, _, said = call(line)
    assert status == 1
    assert said.startswith(f"offmap: {told}")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("compare a b --seed 3", "--seed is of the fifth on which --systems chooses"),
        ("watch log.jsonl --every 5", "--every is of --follow"),
        ("check g --sensitivity --ood --limit 9", "--ood, --limit has no effect without --data"),
        ("check g --sensitivity --groups ''", "--groups has no effect without --data"),
        ("study collapse --weights a=zoo:b --every 2", "every is how often a training is recorded"),
    ],
)
def test_an_option_without_effect_is_refused(
    line: str, told: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, said = call(line)
    assert status == (2 if line.startswith("watch") else 1)
    assert said.startswith(f"offmap: {told}")


@pytest.mark.parametrize(
    "line",
    [
        "fit --model m.py:f --data d --out shut/guard",
        "bench --model m.py:f --id d --far d --out shut/new/bench",
        "calibrate shut --data d",
        "control shut --data d",
    ],
)
def test_a_folder_for_reading_alone_is_told_before_any_work(
    line: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guard was calibrated, for hours perhaps, and then could not be saved."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shut").mkdir()
    may = os.access

    def access(path: str | Path, mode: int, **how: Any) -> bool:
        return (mode != os.W_OK or Path(path).name != "shut") and may(path, mode, **how)

    monkeypatch.setattr("os.access", access)
    status, _, said = call(line)
    assert status == 1
    assert said.startswith(f"offmap: nothing can be written in {tmp_path / 'shut'}, which is for")


def test_a_rate_that_is_none_asks_for_no_more_images() -> None:
    plan = Plan(**dict.fromkeys((f.name for f in fields(Plan)), None) | {"seed": 0})
    images = offmap.data.noise("gaussian", 40, (1, 8, 8))
    with pytest.raises(ArgumentError, match=r"^alarm_rate must lie in \(0, 1\); seen 5.0$"):
        plan.split_calibration(images, 5.0)


@pytest.mark.parametrize("name", ["mnist", "resnet20", "ensemble"])
def test_list_shows_each_thing_of_a_name(name: str, call: Call) -> None:
    """A recipe was hidden by the network or the data set that is called like it."""
    status, said, _ = call(f"list {name}")
    assert status == 0
    assert f"{name}: budgets" in said
    assert len(said.split(f"\n\n{name}")) == 2


def test_weights_of_a_study_are_paths_though_they_look_like_numbers(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder called by its learning rate, 1e-3, was looked for as 0.001."""
    weights = {}

    def run(out: Path, **options: Any) -> None:
        weights.update(options["weights"])
        raise ArgumentError("enough")

    monkeypatch.setattr("offmap.studies.pixmix.run", run)
    status, _, said = call(f"study pixmix --out {tmp_path} --weights plain=1e-3 pixmix=2.50")
    assert (status, said) == (1, "offmap: enough\n")
    assert weights == {"plain": "1e-3", "pixmix": "2.50"}
    said = call(f"study pixmix --out {tmp_path} --weights plain")[2]
    assert said == "offmap: --weights takes key=value; seen 'plain'\n"


def test_a_recipe_in_a_file_is_read_as_utf_8_wherever_that_is_not_the_usual_encoding(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = recipe("plain", budget="smoke").record() | {"data": "./Füße"}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    read = Path.read_text

    def as_on_windows(self: Path, encoding: str | None = None, errors: str | None = None) -> str:
        return read(self, encoding or "cp1252", errors)

    monkeypatch.setattr(Path, "read_text", as_on_windows)
    status, said, _ = call(f"train --recipe {path} --print-config")
    assert status == 0
    assert json.loads(said)["data"] == "./Füße"
