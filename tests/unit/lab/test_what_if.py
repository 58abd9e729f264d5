"""Two policies over the same streams: what changes is told, and a wrong one is refused in one line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest
import yaml

from guard.dashboard.edits import Edit, edited
from guard.lab.what_if import main, try_both
from guard.policy.written import written
from guard.server.what_if import Task
from guard.shipped import find_policy

TRACES = Path(__file__).parents[2] / "data" / "traces" / "tuning.jsonl.gz"
SOURCE = written(find_policy("default"))


def task(*edits: Edit, file: Path = TRACES) -> Task:
    return Task(yaml.safe_dump(SOURCE), yaml.safe_dump(edited(SOURCE, list(edits))), [str(file)], 0.6)


def test_a_threshold_nobody_reaches_lets_streams_pass() -> None:
    rules = [Edit(rule=name, leaf=0, field="to", value=1.0) for name in ("garbled", "shredded")]
    found = try_both(task(*rules, Edit(rule="born-garbled", leaf=0, field="to", value=0.0)))
    assert found.streams == 66
    assert found.no_longer > 0
    assert found.newly == 0
    assert found.stopped[0] - found.stopped[1] == found.no_longer
    assert found.after.kinds["garbled"].detected < found.before.kinds["garbled"].detected
    passed = [change for change in found.changes if change.after.action == "pass"]
    assert len(passed) == found.no_longer
    # These come first.
    assert found.changes[: len(passed)] == passed


def test_no_edit_no_difference() -> None:
    found = try_both(task())
    assert (found.changes, found.newly, found.no_longer) == ([], 0, 0)
    assert found.before == found.after


def test_the_process_reads_a_task_and_writes_its_outcome() -> None:
    out = io.StringIO()
    assert main(io.StringIO(msgspec.json.encode(task()).decode()), out) == 0
    assert json.loads(out.getvalue())["streams"] == 66


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (task(Edit(field="act_at", value=2.0)), "act_at"),
        (task(Edit(rule="garbled", leaf=0, field="to", value=7.0)), "outside the range"),
        (task(file=Path("/nowhere.jsonl")), "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(wrong: Task, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(io.StringIO(msgspec.json.encode(wrong).decode()), io.StringIO()) == 2
    assert complaint in capsys.readouterr().err
