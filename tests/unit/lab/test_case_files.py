"""Files of cases are read again instead of being kept, with the same results."""

from __future__ import annotations

import json
import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from guard.errors import ConfigError
from guard.lab import case_files
from guard.lab import tries as module
from guard.lab.backtest import as_json, backtest_command, figures
from guard.lab.case_files import CaseFiles
from guard.lab.cases import read_cases
from guard.lab.table import table
from guard.lab.tries import backtest
from guard.shipped import find_policy
from tests.unit.lab.streams import bad, corpus, good, line, policy_file
from tests.unit.lab.test_backtest import arguments


@pytest.fixture
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case_files, "MOST_KEPT", 0)


@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize("jobs", [1, 2])
def test_the_results_are_those_of_cases_in_memory(tmp_path: Path, jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, paths = find_policy(policy_file(tmp_path)), [corpus(tmp_path)] * 3
    before = backtest(policy, [case for path in paths for case in read_cases(path)])
    monkeypatch.setattr(module, "PARALLEL_CHUNKS", 1)
    files = CaseFiles(paths)
    after = backtest(policy, files, jobs=jobs)
    assert [one.result for one in after] == [one.result for one in before]
    assert as_json(figures("p", after)) == as_json(figures("p", before))
    assert table(figures("p", after), after) == table(figures("p", before), before)
    assert not any(one.case.chunks for one in after)
    assert list(files) == [case for path in paths for case in read_cases(path)]
    assert len(files) == 24


@pytest.mark.usefixtures("nothing_kept")
def test_the_command_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for more in (
        {},
        {"json": False},
        {"against": "published"},
        {"html": tmp_path / "r.html", "baseline": "0.9", "jobs": 2},
    ):
        told = []
        for kept in (0, 1_000_000):
            monkeypatch.setattr(case_files, "MOST_KEPT", kept)
            assert backtest_command(arguments(tmp_path, **more)) == 0
            told.append((capsys.readouterr().out, (tmp_path / "r.html").read_text() if "html" in more else ""))
        assert told[0] == told[1]


@pytest.mark.usefixtures("nothing_kept")
def test_few_cases_are_in_memory_at_once(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("w") as file:
        for number in range(20):
            file.write(json.dumps(line(f"c{number}", good(10) + bad(2000), kind="garbled", first_bad_token=40)) + "\n")
    policy = find_policy(policy_file(tmp_path))
    tracemalloc.start()
    try:
        (one,) = [case for case in read_cases(path) if case.id == "c0"]
        held = tracemalloc.get_traced_memory()[0]
        assert len(one.chunks) == 2010
        tracemalloc.reset_peak()
        tried = backtest(policy, CaseFiles([path]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(tried) == 20
    assert peak < 6 * held


@pytest.mark.usefixtures("nothing_kept")
def test_what_cannot_be_read_twice_is_kept(tmp_path: Path) -> None:
    pipe, text = tmp_path / "pipe", Path(corpus(tmp_path)).read_text()
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(text))
    writer.start()
    files = CaseFiles([pipe, corpus(tmp_path)])
    writer.join()
    assert len(list(files)) == len(list(files)) == 16


@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_that_grows_meanwhile_is_left_at_what_it_was_and_one_that_changes_is_told_of(
    tmp_path: Path, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(corpus(tmp_path))
    text, files = path.read_text(), CaseFiles([path])
    path.write_text(text + text)
    assert len(list(files)) == 8
    monkeypatch.setattr(module, "PARALLEL_CHUNKS", 1)
    for other in ("", "\n".join(reversed(text.splitlines()))):
        path.write_text(other)
        with pytest.raises(ConfigError, match=f"{path.name}: changed while it was read"):
            backtest(find_policy(policy_file(tmp_path)), files, jobs=jobs)


def test_a_wrong_line_is_told_of_before_anything_runs(tmp_path: Path) -> None:
    path = Path(corpus(tmp_path))
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(ConfigError, match=r":9: "):
        CaseFiles([path])
