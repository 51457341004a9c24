"""Logs of verdicts: how they are written, watched, and gone on with."""

from __future__ import annotations

import copy
import csv
import json
import math
import os
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import offmap
from offmap import demo, plots
from offmap.cli import main
from offmap.errors import ArgumentError, DataNotFoundError, StoreError
from offmap.guard import Certified, Log, Monitor, Verdict
from offmap.guard.files import score_files
from offmap.guard.log import check_goes_on
from offmap.guard.watching import Watch, watched

Call = Callable[[str], tuple[int, str, str]]
TIME = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def guard() -> offmap.Guard:
    sets = demo.digits_data()
    made = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    return made.fit(sets.train).calibrate(sets.calibration)


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Call:
    """Runs a command in this process: its status, and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(line))
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


@pytest.fixture
def log(guard: offmap.Guard, tmp_path: Path) -> Path:
    """100 known digits, then 30 faces."""
    sets = demo.digits_data()
    with Log(tmp_path / "log.jsonl", guard) as file:
        file.add(guard(sets.test.images[:100]), time=TIME)
        file.add(guard(sets.ood["far"]["faces"].images[:30]), time=TIME)
    return tmp_path / "log.jsonl"


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def decided(alarms: list[bool]) -> Verdict:
    is_ood = torch.tensor(alarms)
    p = torch.where(is_ood, 0.01, 0.5).double()
    return Verdict(is_ood.long(), is_ood.float(), p, is_ood)


def run_to_the_end(watch: Watch) -> list[str]:
    told: list[str] = []
    watched(watch, told.append, lambda: False)
    return told


def test_a_log_has_a_line_a_verdict_behind_what_is_certified(
    guard: offmap.Guard, log: Path
) -> None:
    first, *others = rows(log)
    assert first["certified"] == msgspec.to_builtins(Certified.of(guard), str_keys=True) | {
        "samples": [216],
        "ranks": [10],
    }
    verdict = guard(demo.digits_data().test.images[:100])
    assert len(others) == 130
    assert list(others[0]) == [
        *("time", "guard", "input", "label", "score", "p_value", "is_ood", "error")
    ]
    assert [row["p_value"] for row in others[:100]] == verdict.p_values.tolist()
    assert others[0]["time"] == "2026-01-01T00:00:00.000+00:00"
    assert others[0]["guard"] == Certified.of(guard).guard


def test_a_watched_log_is_the_monitor_fed_by_hand(guard: offmap.Guard, log: Path) -> None:
    sets, monitor = demo.digits_data(), Monitor(guard)
    monitor.update(guard(sets.test.images[:100]), time=TIME)
    monitor.update(guard(sets.ood["far"]["faces"].images[:30]), time=TIME)
    watch = Watch(log)
    told = run_to_the_end(watch)
    assert watch.monitor is not None
    assert watch.monitor.log_wealth == monitor.log_wealth
    assert watch.monitor.tally == monitor.tally
    assert watch.monitor.alarm is not None
    assert watch.monitor.alarm.sample == monitor.alarm.sample  # type: ignore[union-attr]
    (line,) = told
    assert f"ALARM at sample {watch.monitor.alarm.sample:,} (2026-01-01T00:00:00.000" in line


def test_a_watch_that_is_killed_anywhere_goes_on_with_equal_bits(log: Path, tmp_path: Path) -> None:
    """The log as it stood at many moments, with the beginning of the next line."""
    content = log.read_bytes()
    part, state = tmp_path / "part.jsonl", tmp_path / "state.json"
    for end in [0, 100, *range(500, len(content), 2321), len(content), len(content)]:
        part.write_bytes(content[:end])
        run_to_the_end(Watch(part, state))
    whole = Watch(log, tmp_path / "whole.json")
    run_to_the_end(whole)
    assert state.read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_a_line_that_was_torn_is_ended_and_told(guard: offmap.Guard, log: Path) -> None:
    with log.open("ab") as file:
        file.write(b'{"time": "2026-01-0')
    with Log(log, guard) as again:
        again.add(decided([True, False]))
    watch = Watch(log)
    run_to_the_end(watch)
    assert watch.torn == 1
    assert watch.monitor is not None
    assert watch.monitor.samples == 132


def test_one_process_at_a_time_writes_a_log(guard: offmap.Guard, tmp_path: Path) -> None:
    with (
        Log(tmp_path / "log.jsonl", guard),
        pytest.raises(StoreError, match="another process is writing"),
    ):
        Log(tmp_path / "log.jsonl", guard)


def test_a_log_on_a_full_disk_holds_whole_additions_and_nothing_of_the_others(
    guard: offmap.Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def full(file: int, content: bytes) -> int:
        if len(content) < 100:
            raise OSError("no space left")
        return write(file, content[: len(content) // 2])

    with Log(tmp_path / "log.jsonl", guard) as file:
        file.add(decided([True]), ["before"])
        monkeypatch.setattr("os.write", full)
        for _ in range(2):
            with pytest.raises(OSError, match="no space left"):
                file.add(decided([True] * 3), ["lost"] * 3)
        monkeypatch.undo()
        file.add(decided([True]), ["after"])
    inputs = [row["input"] for row in rows(tmp_path / "log.jsonl") if "certified" not in row]
    assert inputs == ["before", "after"]


def test_a_log_that_was_moved_away_or_deleted_is_begun_anew(
    guard: offmap.Guard, tmp_path: Path
) -> None:
    path = tmp_path / "log.jsonl"
    with Log(path, guard) as file:
        file.add(decided([True]), ["1"])
        path.rename(tmp_path / "log.1")
        file.add(decided([True]), ["2"])
        path.unlink()
        file.add(decided([True]), ["3"])
        file.add(decided([True]), ["4"])
    assert [row.get("input") for row in rows(tmp_path / "log.1")] == [None, "1"]
    assert [row.get("input") for row in rows(path)] == [None, "3", "4"]
    assert "certified" in rows(path)[0]


def test_a_log_stays_where_it_was_begun(
    guard: offmap.Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that goes to another folder began a second one there, without a word."""
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with Log("log.jsonl", guard) as file:
        file.add(decided([True]), ["1"])
        monkeypatch.chdir(tmp_path / "other")
        file.add(decided([True]), ["2"])
    assert [row.get("input") for row in rows(tmp_path / "log.jsonl")] == [None, "1", "2"]
    assert not list((tmp_path / "other").iterdir())


def test_a_log_that_was_emptied_says_again_what_is_certified(
    guard: offmap.Guard, tmp_path: Path
) -> None:
    path = tmp_path / "log.jsonl"
    with Log(path, guard) as file:
        file.add(decided([True]))
        path.write_bytes(b"")  # its bytes were copied, as by copytruncate
        file.add(decided([False] * 2))
    watch = Watch(path)
    assert run_to_the_end(watch) == []
    assert watch.monitor is not None
    assert watch.monitor.samples == 2


def test_logs_that_begin_in_one_millisecond_are_two(guard: offmap.Guard, tmp_path: Path) -> None:
    first = []
    for name in ("a.jsonl", "b.jsonl"):
        with Log(tmp_path / name, guard):
            pass
        first.append(rows(tmp_path / name)[0] | {"time": ""})
    assert first[0] != first[1]


def test_a_log_goes_on_at_another_threshold_and_not_with_another_guard(
    guard: offmap.Guard, log: Path
) -> None:
    sets = demo.digits_data()
    again = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    again.fit(sets.train).calibrate(sets.calibration, 0.1)
    with Log(log, again) as file:
        file.add(decided([False] * 5))
    watch = Watch(log)
    told = run_to_the_end(watch)
    assert told[1] == (
        "threshold changed behind sample 130, to an alarm rate of 10.00%: 2 thresholds have each "
        "spent delta"
    )
    assert watch.monitor is not None
    assert watch.monitor.false_alarm_bound == pytest.approx(0.15)
    again.calibrate(sets.calibration.subset(range(100)))
    with Log(log, again) as file:
        file.add(decided([False]))
    with pytest.raises(ArgumentError, match="another network, detector or calibration set: begin"):
        run_to_the_end(Watch(log))


def test_a_log_of_another_guard_is_not_added_to(
    guard: offmap.Guard, log: Path, tmp_path: Path
) -> None:
    """Nobody could watch it then, however the watch was begun."""
    check_goes_on(log, guard)
    check_goes_on(log, guard.at(0.1))
    check_goes_on(tmp_path / "new.jsonl", guard)
    sets, again = demo.digits_data(), copy.deepcopy(guard)
    again.calibrate(sets.calibration.subset(range(100)))
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    before = log.read_bytes()
    with log.open("ab") as file:
        file.write(b'{"time": "torn')
    with pytest.raises(StoreError, match=r"a log of the guard \w{16}, and this is \w{16}, which"):
        score_files(again, [str(tmp_path / "a.png")], tmp_path / "v.csv", log=log)
    assert log.read_bytes().startswith(before)
    assert not (tmp_path / "v.csv").exists()


def test_a_log_with_a_long_first_line_is_known_by_it(guard: offmap.Guard, tmp_path: Path) -> None:
    """That of a guard over thousands of classes, without a verdict behind it yet."""
    certified = Certified.of(guard)
    ranks = tuple(range(10**6, 10**6 + 20_000))
    other = msgspec.structs.replace(certified, guard="0" * 16, ranks=ranks, samples=ranks)
    log = tmp_path / "log.jsonl"
    with Log(log, other):
        pass
    assert log.stat().st_size > 1 << 17
    with pytest.raises(StoreError, match="is a log of the guard 0000000000000000, and this is"):
        check_goes_on(log, guard)
    with Log(log, msgspec.structs.replace(other, guard=certified.guard)):
        pass
    with log.open("ab") as file:
        file.write(b'{"time": "torn')
    check_goes_on(log, guard)


def test_several_logs_are_each_read_once(guard: offmap.Guard, log: Path, tmp_path: Path) -> None:
    with Log(tmp_path / "next.jsonl", guard) as file:
        file.add(decided([False] * 7))
    for path in (log, tmp_path / "next.jsonl", log):
        watch = Watch(path, tmp_path / "state.json")
        run_to_the_end(watch)
    assert watch.monitor is not None
    assert watch.monitor.samples == 137
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:50]))
    with pytest.raises(StoreError, match=r"is shorter than the [\d,]+ bytes that were read of it"):
        run_to_the_end(Watch(log, tmp_path / "state.json"))


def test_a_log_is_followed_as_it_grows(guard: offmap.Guard, tmp_path: Path) -> None:
    path, looks = tmp_path / "log.jsonl", 0
    with Log(path, guard) as file:

        def wait() -> bool:
            nonlocal looks
            looks += 1
            file.add(decided([True] * 3))
            return looks < 4

        told: list[str] = []
        monitor = watched(Watch(path), told.append, wait)
    assert monitor is not None
    assert monitor.samples == 9
    assert len(told) == 1


def test_a_followed_log_may_be_turned_over_and_none_of_its_rows_is_lost(
    guard: offmap.Guard, tmp_path: Path
) -> None:
    path, looks = tmp_path / "log.jsonl", 0
    with Log(path, guard) as file:

        def wait() -> bool:
            nonlocal looks
            looks += 1
            file.add(decided([False] * 3))
            if looks == 2:  # behind rows that nobody has looked at; and none is begun yet
                path.rename(tmp_path / "log.jsonl.1")
            if looks == 4:  # as by copytruncate, which loses what nobody has looked at
                path.write_bytes(b"")
                file.add(decided([False] * 2))
            return looks < 5

        file.add(decided([False] * 3))
        monitor = watched(Watch(path, tmp_path / "s.json"), str, wait)
    assert monitor is not None
    assert monitor.samples == 3 + 3 + 3 + 3 + 2
    assert Monitor.load(tmp_path / "s.json").samples == monitor.samples


def test_the_command_follows_until_it_is_interrupted(
    guard: offmap.Guard, log: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt
        with Log(log, guard) as file:
            file.add(decided([False] * 4))

    monkeypatch.setattr("offmap.cli.watch.sleep", sleep)
    status, said, _ = call("watch log.jsonl --state s.json --follow --every 0.5")
    assert (status, waits) == (1, [0.5, 0.5])
    assert "134 samples" in said
    assert Monitor.load(tmp_path / "s.json").samples == 134


HEAD = "path,label,answer,score,p_value,is_ood,error\n"


@pytest.mark.parametrize("written", ["True", "true", "TRUE"])
def test_a_table_that_went_through_another_tool_keeps_its_alarms(
    written: str, guard: offmap.Guard, tmp_path: Path
) -> None:
    """Arrow writes true, spreadsheets TRUE; what is neither must not pass for no alarm."""
    log, certified = tmp_path / "v.csv", Certified.of(guard)
    other = {"True": "False", "true": "false", "TRUE": "FALSE"}[written]
    log.write_text(HEAD + f"a,1,unknown,3.0,0.01,{written},\n" + f"b,1,1,0.1,0.9,{other},\n" * 2)
    watch = Watch(log, certified=certified)
    run_to_the_end(watch)
    assert watch.monitor is not None
    assert (watch.monitor.tally.samples, watch.monitor.tally.alarms) == (3, 1)
    log.write_text(HEAD + "a,1,unknown,3.0,0.01,yes,\n")
    with pytest.raises(StoreError, match="is_ood is True or False, and not 'yes'"):
        run_to_the_end(Watch(log, certified=certified))


def test_a_log_is_watched_at_the_rate_that_it_says(
    guard: offmap.Guard, tmp_path: Path, call: Call
) -> None:
    """Whatever rate the guard in the folder has: at that one, ID would raise an alarm."""
    guard.at(0.01).save(tmp_path / "guard")
    loose = guard.at(0.3)
    known = demo.digits_data().test.images
    with Log(tmp_path / "log.jsonl", loose) as log:
        for part in known.split(120):
            log.add(loose(part))
            status, said, _ = call("watch log.jsonl --guard guard --state s.json")
            assert (status, "threshold changed" in said) == (0, False)
    monitor = Monitor.load(tmp_path / "s.json")
    assert (monitor.samples, monitor.certified) == (361, Certified.of(loose))
    assert monitor.thresholds == (Certified.of(loose).threshold,)  # one delta is spent
    plain = Watch(tmp_path / "log.jsonl")
    run_to_the_end(plain)
    assert plain.monitor is not None
    assert plain.monitor.log_wealth == monitor.log_wealth
    other = offmap.Guard(demo.shipped(), "energy", normalization=demo.NORMALIZATION)
    other.fit(demo.digits_data().train).calibrate(demo.digits_data().calibration)
    other.save(tmp_path / "other")
    for state in ("", "--state s.json"):
        status, _, said = call(f"watch log.jsonl --guard other {state}")
        assert (status, "and the one given is" in said) == (2, True)
    assert "and the one given is" in call("report log.jsonl --guard other")[2]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_made_at_another_rate_is_watched_at_that(
    suffix: str, guard: offmap.Guard, tmp_path: Path, call: Call
) -> None:
    (tmp_path / "digits").mkdir()
    for i, image in enumerate(demo.digits_data().test.images[:60]):
        Image.fromarray(image[0].numpy()).save(tmp_path / "digits" / f"{i:02}.png")
    guard.save(tmp_path / "guard")
    score_files(guard.at(0.3), ["digits"], tmp_path / f"v{suffix}")
    for command in (
        f"watch v{suffix} --guard guard --state s.json",
        f"report v{suffix} --guard guard",
    ):
        status, _, said = call(command)
        assert status != 0
        assert "at another alarm rate than 0.05" in said
        assert "give --alarm-rate" in said
        assert call(f"{command} --alarm-rate 0.3")[0] == 0
    assert Monitor.load(tmp_path / "s.json").certified == Certified.of(guard.at(0.3))
    assert "give --guard" in call(f"watch v{suffix} --alarm-rate 0.3")[2]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_of_an_engine_is_watched_by_the_columns_that_it_has(
    suffix: str, guard: offmap.Guard, tmp_path: Path
) -> None:
    """Those of ``Scorer`` call the p-value ``p``, which is NaN for what could not be read."""
    log, certified = tmp_path / f"v{suffix}", Certified.of(guard)

    def counted(columns: dict[str, list[Any]]) -> tuple[int, int, int]:
        table = pa.table(columns)
        if suffix == ".csv":
            pa_csv.write_csv(table, log)
        else:
            pq.write_table(table, log)
        watch = Watch(log, certified=certified)
        run_to_the_end(watch)
        assert watch.monitor is not None
        return watch.monitor.samples, sum(watch.monitor.tally.p_values), watch.unread

    verdicts = {"label": [1, 2, -1], "p": [0.5, 0.6, math.nan], "is_ood": [False, False, True]}
    assert counted(verdicts) == (2, 2, 1)
    assert counted({"is_ood": [False, False, True]}) == (3, 0, 0)
    with pytest.raises(StoreError, match="has no column is_ood"):
        counted({"ood": [False]})


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_could_not_be_read_is_no_alarm_where_pandas_wrote_the_table(
    suffix: str, tmp_path: Path
) -> None:
    """It writes nothing in the place of NaN."""
    log = tmp_path / f"v{suffix}"
    table = pa.table({"label": [1, -1], "p": [0.5, None], "is_ood": [False, True]})
    (pa_csv.write_csv if suffix == ".csv" else pq.write_table)(table, log)
    watch = Watch(log, certified=Certified("g", "plain", 0.05, (99,), (5,), 1, True))
    run_to_the_end(watch)
    assert watch.monitor is not None
    assert (watch.monitor.samples, watch.monitor.tally.alarms, watch.unread) == (1, 0, 1)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_labels_may_be_floats_as_pandas_makes_them_of_integers_where_one_is_missing(
    suffix: str, tmp_path: Path
) -> None:
    log = tmp_path / f"v{suffix}"
    columns = {
        "label": [2.0, 0.0, None],
        "p_value": [0.5, 0.2, None],
        "is_ood": [False] * 2 + [None],
    }
    if suffix == ".csv":
        log.write_text("label,p_value,is_ood\n2.0,0.5,False\n0.0,0.2,False\n,,\n")
    else:
        pq.write_table(pa.table(columns), log)
    watch = Watch(log, certified=Certified("g", "per_class", 0.05, (99,) * 3, (5,) * 3, 1, True))
    run_to_the_end(watch)
    assert watch.monitor is not None
    assert watch.monitor.tally.by_class == {2: (1, 0), 0: (1, 0)}
    assert watch.unread == 1


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"p_value": "0.5"}, "a p-value is a number, and not '0.5'"),
        ({"label": "cat"}, "a label is a whole number, and not 'cat'"),
        ({"label": 1.5}, "a label is a whole number, and not 1.5"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_file(
    wrong: dict[str, Any], words: str, suffix: str, tmp_path: Path
) -> None:
    log = tmp_path / f"v{suffix}"
    row = {"label": 1, "p_value": 0.5, "is_ood": False} | wrong
    if suffix == ".jsonl":
        log.write_text(json.dumps(row) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist([row]), log)
    watch = Watch(log, certified=Certified("g", "per_class", 0.05, (99,) * 3, (5,) * 3, 1, True))
    with pytest.raises(StoreError, match=f"{log.name} cannot be read: {words}"):
        run_to_the_end(watch)


def test_a_table_is_one_whatever_else_its_first_line_holds(tmp_path: Path) -> None:
    """A mark of a spreadsheet before the first column; a column that a log has, too."""
    certified = Certified("g", "plain", 0.05, (99,), (5,), 1, True)
    table = tmp_path / "v.csv"
    for head, start in (("\ufeffis_ood", "False"), ("certified,is_ood", "yes,False")):
        table.write_text(f"{head},label,p_value\n{start},1,0.5\n", encoding="utf-8")
        watch = Watch(table, certified=certified)
        run_to_the_end(watch)
        assert watch.monitor is not None
        assert watch.monitor.samples == 1


def test_a_log_without_its_first_line_is_watched_with_the_guard_and_at_its_rate_alone(
    guard: offmap.Guard, log: Path
) -> None:
    """It says which guard it is of, and not what that certifies."""
    expected = Watch(log)
    run_to_the_end(expected)
    log.write_text("".join(log.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(ArgumentError, match="does not say of which guard its verdicts are: give"):
        run_to_the_end(Watch(log))
    watch = Watch(log, certified=Certified.of(guard))
    run_to_the_end(watch)
    assert watch.monitor is not None
    assert expected.monitor is not None
    assert watch.monitor.log_wealths.tolist() == expected.monitor.log_wealths.tolist()
    with pytest.raises(ArgumentError, match=r"made at another alarm rate than 0\.2"):
        run_to_the_end(Watch(log, certified=Certified.of(guard.at(0.2))))
    with pytest.raises(ArgumentError, match=r"its state is of the guard .*, and the one"):
        run_to_the_end(Watch(log, certified=Certified("g", "plain", 0.05, (99,), (5,), 1, True)))


def test_a_log_that_was_turned_over_is_watched_under_the_name_that_it_has_then(
    guard: offmap.Guard, log: Path, tmp_path: Path
) -> None:
    for name in ("log.jsonl.1", "log.jsonl-20261127"):
        log = log.rename(tmp_path / name)
        watch = Watch(log, tmp_path / "s.json")
        run_to_the_end(watch)
        assert watch.monitor is not None
        assert watch.monitor.samples == 130  # once


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_that_has_become_shorter_is_refused(
    suffix: str, guard: offmap.Guard, tmp_path: Path
) -> None:
    log, certified = tmp_path / f"v{suffix}", Certified.of(guard)

    def write(count: int) -> None:
        columns = {"path": [str(i) for i in range(count)], "label": [1] * count,
                   "p_value": [0.5] * count, "is_ood": [False] * count}  # fmt: skip
        table = pa.table(columns)
        if suffix == ".csv":
            pa_csv.write_csv(table, log)
        else:
            pq.write_table(table, log)

    for count, samples in ((5, 5), (8, 8), (8, 8)):
        write(count)
        watch = Watch(log, tmp_path / "s.json", certified)
        run_to_the_end(watch)
        assert watch.monitor is not None
        assert watch.monitor.samples == samples
    write(7)
    with pytest.raises(StoreError, match="is shorter than the 8 rows that were read of it"):
        run_to_the_end(Watch(log, tmp_path / "s.json", certified))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_another_table_that_begins_with_the_same_row_is_refused(
    suffix: str, guard: offmap.Guard, tmp_path: Path
) -> None:
    """Else its first rows would pass for those that were counted, in silence."""
    log, state, certified = tmp_path / f"v{suffix}", tmp_path / "s.json", Certified.of(guard)

    def write(p_values: list[float]) -> None:
        rows = [{"label": 1, "p_value": p, "is_ood": False} for p in p_values]
        if suffix == ".jsonl":
            log.write_text("".join(json.dumps(row) + "\n" for row in rows))
        elif suffix == ".csv":
            pa_csv.write_csv(pa.Table.from_pylist(rows), log)
        else:
            pq.write_table(pa.Table.from_pylist(rows), log)

    for p_values in ([0.5, 0.25], [0.5, 0.25, 0.75], [0.5, 0.25, 0.75]):
        write(p_values)
        watch = Watch(log, state, certified)
        run_to_the_end(watch)
        assert watch.monitor is not None
        assert watch.monitor.samples == len(p_values)
    before = state.read_bytes()
    write([0.5, 0.75, 0.25, 0.75])
    with pytest.raises(StoreError, match=r"does not begin with the [\d,]+ (rows|bytes) that were"):
        run_to_the_end(Watch(log, state, certified))
    assert state.read_bytes() == before
    # One of before there were digests is refused.
    earlier = json.loads(before)
    earlier["read"] = {first: place["position"] for first, place in earlier["read"].items()}
    state.write_text(json.dumps(earlier))
    with pytest.raises(
        StoreError, match=r"s\.json does not hold what it must \(Expected `object`, got `int`"
    ):
        Watch(log, state, certified)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_verdicts_of_score_are_watched_with_the_guard(
    suffix: str, guard: offmap.Guard, tmp_path: Path, call: Call
) -> None:
    """One is no image: a row without a verdict."""
    (tmp_path / "faces").mkdir()
    for i, image in enumerate(demo.digits_data().ood["far"]["faces"].images[:20]):
        Image.fromarray(image[0].numpy()).save(tmp_path / "faces" / f"{i:02}.png")
    (tmp_path / "faces" / "broken.png").write_bytes(b"none")
    score_files(guard, ["faces"], tmp_path / f"v{suffix}", log=tmp_path / "log.jsonl")
    guard.save(tmp_path / "guard")
    status, said, _ = call(f"watch v{suffix}")
    status, said, errors = call(f"watch v{suffix} --guard guard --state s.json")
    assert status == 1
    assert "ALARM at sample" in said
    assert errors == "offmap: 1 rows have no verdict, as they could not be read\n"
    known = Monitor.load(tmp_path / "s.json").tally
    assert (known.samples, sum(known.p_values)) == (20, 20)
    assert call(f"watch v{suffix} --guard guard --state s.json")[0] == 1
    assert Monitor.load(tmp_path / "s.json").tally == known  # nothing is counted twice
    for late in sorted((tmp_path / "faces").iterdir())[5:]:
        late.unlink()
    score_files(guard, ["faces"], tmp_path / f"shorter{suffix}")
    status, _, said = call(f"watch shorter{suffix} --guard guard --state s.json")
    assert status == 2  # and not silence
    assert "begin with another --state" in said
    logged = Watch(tmp_path / "log.jsonl")
    run_to_the_end(logged)
    assert logged.monitor is not None
    assert logged.monitor.tally == known
    assert logged.unread == 1


def test_what_is_scored_again_is_logged_again_and_a_resumed_run_once(
    guard: offmap.Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    for i, image in enumerate(demo.digits_data().test.images[:10]):
        Image.fromarray(image[0].numpy()).save(tmp_path / "images" / f"{i}.png")
    calls, forward = 0, type(guard).forward

    def broken(self: offmap.Guard, inputs: object) -> Verdict:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("killed")
        return forward(self, inputs)

    monkeypatch.setattr(type(guard), "forward", broken)
    arguments = (guard, [str(tmp_path / "images")], tmp_path / "v.csv")
    with pytest.raises(RuntimeError, match="killed"):
        score_files(*arguments, batch_size=4, log=tmp_path / "log.jsonl")
    score_files(*arguments, batch_size=4, log=tmp_path / "log.jsonl")
    inputs = [row["input"] for row in rows(tmp_path / "log.jsonl") if "input" in row]
    lines = (tmp_path / "v.csv").read_text().splitlines()
    assert inputs == [row["path"] for row in csv.DictReader(lines)]
    assert len(inputs) == 10


def test_the_command_tells_its_finding_by_its_status(
    guard: offmap.Guard, log: Path, tmp_path: Path, call: Call
) -> None:
    status, said, errors = call("watch log.jsonl --state s.json --out watch.png")
    assert (status, errors) == (1, "")
    alarm, rate, *_ = said.splitlines()
    assert "ALARM at sample" in alarm
    assert rate.startswith(f"The guard {Certified.of(guard).guard} calls at most ")
    assert "(threshold at rank 10 of 216 scores)" in rate
    Image.open(tmp_path / "watch.png").verify()
    assert call("watch log.jsonl --state s.json")[0] == 1  # ever
    status, said, _ = call("watch log.jsonl --state s.json --reset --alpha 0.01")
    assert status == 0
    assert "alpha 0.05 + 0.01 + delta 0.05 = 11.0%" in said
    with Log(tmp_path / "calm.jsonl", guard) as file:
        file.add(decided([False] * 30))
    assert call("watch calm.jsonl")[0] == 0
    (tmp_path / "empty.jsonl").touch()
    assert call("watch empty.jsonl") == (0, "There are no verdicts yet.\n", "")


def test_states_of_several_streams_are_merged(
    guard: offmap.Guard, log: Path, tmp_path: Path, call: Call
) -> None:
    with Log(tmp_path / "calm.jsonl", guard) as file:
        file.add(decided([False] * 30))
    call("watch log.jsonl --state north.json")
    call("watch calm.jsonl --state south.json")
    status, said, _ = call("watch north.json south.json")
    assert status == 1
    assert said.startswith("2 streams (north.json 130, south.json 30 samples)")
    assert call("watch south.json south.json")[0] == 0
    options = (
        "--out w.png",
        "--report w.html",
        "--reset",
        "--state s.json",
        "--alpha 0.1",
        "--delta 0",
    )
    for option in options:
        status, _, errors = call(f"watch south.json {option}")
        assert status == 2
        assert f"{option.split()[0]} has no effect on states: give the log" in errors


def test_a_monitor_that_goes_on_keeps_what_it_was_begun_with(tmp_path: Path, call: Call) -> None:
    row = {"path": "a", "label": 0, "score": 1.0, "p_value": 0.5, "is_ood": False, "error": None}
    with Log(tmp_path / "calm.jsonl", Certified("g", "plain", 0.05, (99,), (5,), 1, True)) as file:
        file.add_rows([row] * 20)
    line = "watch calm.jsonl --state s.json"
    begun = call(f"{line} --alpha 0.02 --delta 0.03")
    assert "alpha 0.02 + delta 0.03 = 5.0%" in begun[1]
    assert call(f"{line} --alpha 0.02 --delta 0.03") == call(line) == begun
    for option, known in (("--alpha 0.01", 0.02), ("--delta 0.01", 0.03)):
        status, _, errors = call(f"{line} {option}")
        assert status == 2
        assert f"{option} has no effect on a monitor that was begun with {known}: le" in errors
    assert "alpha 0.02 + 0.02 + delta 0.03 = 7.0%" in call(f"{line} --reset")[1]  # as before
    assert "alpha 0.02 + 0.02 + 0.01 + delta 0.03" in call(f"{line} --reset --alpha 0.01")[1]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "watch none.jsonl",
            "offmap: none.jsonl is not there: give what `offmap score --log` wrote",
        ),
        ("watch log.txt", "offmap: log.txt: a log of verdicts is one of .jsonl, .csv, .parquet"),
        ("watch bare.csv", "offmap: bare.csv does not say of which guard its verdicts are: give"),
        ("watch broken.parquet", "offmap: broken.parquet cannot be read: "),
        ("watch log.jsonl --reset", "offmap: there is nothing to reset: give the --state"),
        ("watch log.jsonl --alpha 3", "offmap: alpha must lie in (0, 1); seen 3.0"),
        ("watch log.jsonl log.jsonl", "offmap: give one log, each with a --state; then their"),
        ("watch v.parquet --follow", "only .jsonl logs grow"),
    ],
)
def test_failures_end_with_status_two(
    line: str, words: str, log: Path, tmp_path: Path, call: Call
) -> None:
    (tmp_path / "bare.csv").write_text(
        "path,answer,label,score,p_value,is_ood,error\na.png,0,0,1.5,0.5,False,\n"
    )
    (tmp_path / "broken.parquet").write_bytes(b"none")
    status, _, errors = call(line)
    assert status == 2
    assert words in errors


def test_a_log_of_several_guards_mixed_is_refused(log: Path) -> None:
    row = rows(log)[-1] | {"guard": "another"}
    with log.open("a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(StoreError, match="verdicts of several guards, mixed"):
        run_to_the_end(Watch(log))
    with pytest.raises(DataNotFoundError):
        run_to_the_end(Watch(log.with_name("none.jsonl")))


def test_the_picture_shows_wealth_p_values_and_classes() -> None:
    monitor = Monitor(Certified("g", "plain", 0.05, (1000,), (50,), 1, True))
    alarms = np.random.default_rng(0).random(500) < 0.3
    for i, alarm in enumerate(alarms.tolist()):
        monitor.see(alarm, i % 3, 0.01 if alarm else 0.6)
    figure = plots.watch(monitor, ["a", "b", "c"])
    wealth, p_values, by_class = figure.axes
    assert wealth.lines[0].get_ydata()[-1] == monitor.log_wealth
    assert [bar.get_height() for bar in p_values.patches] == monitor.tally.p_values
    assert [text.get_text() for text in by_class.get_xticklabels()] == ["a", "b", "c"]
    heights = [bar.get_height() for bar in by_class.patches]
    assert heights == pytest.approx([alarms[i::3].mean() for i in range(3)])
    per_class = Monitor(Certified("g", "per_class", 0.05, (100, 400), (5, 20), 1, True))
    per_class.update([True, False], [0, 1])
    marks = plots.watch(per_class).axes[2].lines[0].get_ydata()
    assert list(marks) == per_class.rates.tolist()
