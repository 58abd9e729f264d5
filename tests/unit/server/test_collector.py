"""When full garbage collections are made, and that what a stream leaves needs none."""

from __future__ import annotations

import asyncio
import gc
import weakref

from guard.detect.bank import DetectorBank
from guard.policy.judge import Judge
from guard.server.collector import GROWN, LONGEST, QUIET, Collector, resident
from guard.shipped import find_policy
from guard.types import Channel, Sample, StepAcceptance


class Wall:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time


def test_a_quiet_moment_is_waited_for_but_not_for_ever() -> None:
    wall, open_now = Wall(), [0]
    collector = Collector(lambda: open_now[0], wall)
    assert not collector.due(QUIET - 1)
    assert collector.due(QUIET)
    open_now[0] = 3
    assert not collector.due(QUIET)
    assert not collector.due(LONGEST - 1)
    assert collector.due(LONGEST)


def test_memory_that_has_grown_is_not_left_to_a_quiet_moment() -> None:
    wall, used = Wall(), [100 * 2**20]
    collector = Collector(lambda: 3, wall, lambda: used[0])
    used[0] += GROWN - 1
    assert not collector.due(QUIET)
    used[0] += 1
    assert collector.look()
    assert not collector.due(QUIET)  # what stays in use is no growth


def test_the_memory_of_this_process_is_told() -> None:
    assert 2**20 < resident() < 2**40


def test_the_next_one_is_counted_from_the_last() -> None:
    wall = Wall()
    collector = Collector(lambda: 0, wall)
    wall.time = QUIET
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    collections = gc.get_stats()[2]["collections"]
    assert collector.look()
    assert gc.get_stats()[2]["collections"] == collections + 1
    wall.time = 2 * QUIET - 1
    assert not collector.look()


async def test_python_makes_none_of_its_own_meanwhile_and_does_afterwards() -> None:
    before = gc.get_threshold()
    task = asyncio.create_task(Collector(lambda: 0, Wall()).run())
    await asyncio.sleep(0)
    assert gc.get_threshold()[:2] == before[:2]
    assert gc.get_threshold()[2] > 1_000_000
    task.cancel()
    await asyncio.wait([task])
    assert gc.get_threshold() == before
    gc.unfreeze()


def test_detectors_are_freed_with_their_stream() -> None:
    """No detector holds what holds it; a bank has all of them."""
    judge = Judge(find_policy("default"))
    gc.collect()
    gc.disable()
    try:
        bank = DetectorBank(judge.refs, None, "Tell me of rivers.")
        texts = (
            (Channel.REASONING, "Let me think of rivers. " * 9),
            (Channel.CONTENT, "Rivers run to the sea, all. " * 9),
        )
        for _ in range(20):
            bank.observe(Sample(0, texts, 9, (StepAcceptance(2, 3, 3, True),)))
            for ref in judge.refs:
                bank.read(ref)
                bank.finding(ref)
        gone = weakref.ref(bank)
        del bank
        assert gone() is None
        assert gc.collect() == 0
    finally:
        gc.enable()
