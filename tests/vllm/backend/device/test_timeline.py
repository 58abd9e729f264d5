"""guard.backend.device.timeline on the CPU: compute is done when it returns, transfers when they are waited for."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from guard.backend.device.timeline import HostTimeline, ThreadTimeline, side_of, timeline_of


class Work:
    def __init__(self) -> None:
        self.waits = 0

    def wait(self) -> None:
        self.waits += 1

    def is_completed(self) -> bool:
        return self.waits > 0


def test_compute_marks_are_passed_and_need_no_wait() -> None:
    timeline = HostTimeline()
    mark = timeline.mark()
    timeline.wait([mark])
    assert mark.passed()


def test_a_transfer_is_passed_once_waited_for_and_waited_for_once() -> None:
    timeline = HostTimeline()
    work = Work()
    mark = timeline.transfer([], lambda: [work])
    assert not mark.passed()
    timeline.wait([mark])
    timeline.wait([mark])
    assert mark.passed()
    assert work.waits == 1


def test_a_transfer_starts_after_those_it_depends_on() -> None:
    timeline = HostTimeline()
    first = Work()
    order: list[Any] = []
    mark = timeline.transfer([timeline.mark()], lambda: [first])
    timeline.transfer([mark], lambda: order.append(first.waits) or [])
    assert order == [1]


def test_the_device_decides_and_an_unknown_one_is_refused() -> None:
    assert isinstance(timeline_of(torch.device("cpu")), HostTimeline)
    with pytest.raises(ValueError, match="no timeline for meta"):
        timeline_of(torch.device("meta"))


def test_transfers_in_a_thread_run_one_after_the_other_beside_the_caller() -> None:
    timeline = ThreadTimeline()
    gate, order = threading.Event(), list[str]()

    def first() -> list[Any]:
        assert gate.wait(20)
        order.append("first")
        return []

    marks = [timeline.transfer([timeline.mark()], first)]
    marks.append(timeline.transfer([], lambda: order.append("second") or []))
    assert not any(mark.passed() for mark in marks)
    order.append("caller")
    gate.set()
    timeline.wait([timeline.mark(), *marks])
    assert all(mark.passed() for mark in marks)
    timeline.close()
    assert order == ["caller", "first", "second"]


def test_an_error_in_the_thread_is_not_lost() -> None:
    timeline = ThreadTimeline()

    def broken() -> list[Any]:
        raise OSError("broken")

    mark = timeline.transfer([], broken)
    with pytest.raises(OSError, match="broken"):
        timeline.wait([mark])
    with pytest.raises(OSError, match="broken"):
        mark.passed()
    timeline.close()


def test_beside_means_a_thread_on_the_cpu() -> None:
    made = side_of(torch.device("cpu"))
    assert isinstance(made, ThreadTimeline)
    made.close()
    with pytest.raises(ValueError, match="no timeline for meta"):
        side_of(torch.device("meta"))
