"""Rule 7: what waits for what."""

from __future__ import annotations

from itertools import product

import pytest

from guard.backend.kv.ordering import Cell, Op, Ordering

X, Y = Cell("block", 0, 0), Cell("block", 0, 1)


@pytest.mark.parametrize(("first", "second"), list(product(Op, Op)))
def test_a_reader_waits_for_the_writer_before_it(first: Op, second: Op) -> None:
    ordering = Ordering()
    written = ordering.begin(first, writes=(X,))
    assert ordering.begin(second, reads=(X,)).waits == {written.event}


@pytest.mark.parametrize(("first", "second"), list(product(Op, Op)))
def test_a_writer_waits_for_every_access_before_it(first: Op, second: Op) -> None:
    ordering = Ordering()
    written = ordering.begin(first, writes=(X,))
    read = ordering.begin(first, reads=(Y,))
    assert ordering.begin(second, writes=(X, Y)).waits == {written.event, read.event}


def test_readers_do_not_wait_for_each_other_nor_for_other_layers() -> None:
    ordering = Ordering()
    ordering.begin(Op.STORE, reads=(X,))
    assert ordering.begin(Op.STEP, reads=(X,), writes=(Y,)).waits == frozenset()


def test_what_is_over_is_waited_for_no_more() -> None:
    ordering = Ordering()
    load = ordering.begin(Op.LOAD, writes=(X,))
    assert ordering.done(load.event)
    assert not ordering.done(load.event)
    assert ordering.is_over(load.event)
    assert ordering.begin(Op.STEP, reads=(X,)).waits == frozenset()


def test_an_operation_is_over_when_it_is_on_every_rank() -> None:
    ordering = Ordering(ranks=2)
    load = ordering.begin(Op.LOAD, writes=(X,))
    assert not ordering.done(load.event, 1)
    assert not ordering.done(load.event, 1)
    assert not ordering.is_over(load.event)
    assert ordering.done(load.event, 0)


def test_a_batch_with_a_pending_load_replays_no_graph() -> None:
    ordering = Ordering()
    load = ordering.begin(Op.LOAD, writes=(Y,))
    assert ordering.may_replay((X,))
    assert not ordering.may_replay((X, Y))
    ordering.done(load.event)
    assert ordering.may_replay((X, Y))


def test_steps_before_it_do_not_keep_a_batch_from_replaying() -> None:
    ordering = Ordering()
    ordering.begin(Op.STEP, writes=(X,))
    assert ordering.may_replay((X,))
