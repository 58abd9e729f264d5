"""A long run tells how far it is, on a terminal only; processes of it leave Ctrl-C alone."""

from __future__ import annotations

import io
import signal
import subprocess
import sys

import pytest

from guard.lab import long_run
from guard.lab.long_run import counted, deaf


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_how_far_it_is_is_told_and_wiped_away(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    assert list(counted(iter("abc"), 3, screen)) == ["a", "b", "c"]
    assert screen.getvalue() == ""  # it took no time
    monkeypatch.setattr(long_run, "FIRST", 0.0)
    monkeypatch.setattr(long_run, "AGAIN", 0.0)
    assert list(counted(iter("abc"), 3, screen)) == ["a", "b", "c"]
    assert screen.getvalue() == "\r1 of 3 cases\r2 of 3 cases\r3 of 3 cases\r            \r"
    plain = io.StringIO()
    assert list(counted(iter("abc"), 3, plain)) == ["a", "b", "c"]
    assert plain.getvalue() == ""


def test_further_processes_leave_ctrl_c_to_this_one() -> None:
    told = "import signal; print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
    before = signal.getsignal(signal.SIGINT)
    with deaf():
        assert subprocess.check_output([sys.executable, "-c", told]) == b"True\n"
    assert signal.getsignal(signal.SIGINT) == before
    assert subprocess.check_output([sys.executable, "-c", told]) == b"False\n"
