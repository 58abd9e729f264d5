"""guard.backend.vllm.push.shelf: content is let go when all have asked and nobody reads, and not before."""

from __future__ import annotations

import random

from guard.backend.vllm.push.shelf import Content, Shelf

CONTENT = Content("room", "r", (1, 2))


def test_one_asks_reads_and_is_through() -> None:
    shelf = Shelf()
    assert shelf.put(CONTENT, 1.0)
    assert shelf.take("room", 1) == CONTENT
    assert shelf.take("room", 1) is None
    assert shelf.taken() == set()
    shelf.over("room", 2.0)
    assert shelf.taken() == {"r"}
    assert shelf.taken() == set()
    assert shelf.is_closed("room")


def test_content_waits_for_all_that_will_ask() -> None:
    shelf = Shelf()
    shelf.put(CONTENT, 1.0)
    assert shelf.take("room", 2) == CONTENT
    shelf.over("room", 2.0)
    assert shelf.taken() == set(), "the other rank has not asked"
    assert not shelf.is_closed("room")
    assert shelf.take("room", 2) == CONTENT
    shelf.over("room", 3.0)
    assert shelf.taken() == {"r"}


def test_what_is_read_is_kept_though_its_room_is_closed() -> None:
    shelf = Shelf()
    shelf.put(CONTENT, 1.0)
    shelf.take("room", 3)
    shelf.take("room", 3)
    shelf.close("room", 2.0)
    assert shelf.take("room", 3) is None
    shelf.over("room", 3.0)
    assert shelf.taken() == set()
    shelf.over("room", 4.0)
    assert shelf.taken() == {"r"}
    # A late word changes nothing.
    shelf.over("room", 5.0)
    shelf.close("room", 5.0)
    assert shelf.taken() == set()


def test_a_closed_room_takes_nothing_in_and_is_forgotten_in_time() -> None:
    shelf = Shelf()
    shelf.close("room", 1.0)
    assert not shelf.put(CONTENT, 2.0)
    assert shelf.taken() == {"r"}
    shelf.forget(0.5)
    assert shelf.is_closed("room")
    shelf.forget(1.0)
    assert not shelf.is_closed("room")


def test_a_room_has_one_content() -> None:
    shelf = Shelf()
    shelf.put(CONTENT, 1.0)
    assert not shelf.put(Content("room", "again", (3,)), 1.0)
    assert shelf.taken() == {"again"}
    assert shelf.take("room", 1) == CONTENT


def test_what_not_all_have_asked_for_is_overdue() -> None:
    shelf = Shelf()
    shelf.put(CONTENT, 1.0)
    shelf.put(Content("other", "o", (1,)), 1.0)
    shelf.put(Content("third", "t", (1,)), 5.0)
    shelf.take("room", 2)
    shelf.take("other", 1)
    assert shelf.overdue(1.0) == []
    assert shelf.overdue(2.0) == ["room"]


def test_every_content_is_let_go_once_whatever_happens() -> None:
    for seed in range(50):
        dice, shelf = random.Random(seed), Shelf()
        reading: list[str] = []
        gone: list[str] = []
        rooms = [str(number) for number in range(6)]
        for room in rooms:
            shelf.put(Content(room, room, (1,)), 0.0)
        for now in range(60):
            room = dice.choice(rooms)
            match dice.randrange(4):
                case 0 | 1:
                    reading += [room] if shelf.take(room, 2) is not None else []
                case 2 if reading:
                    shelf.over(reading.pop(dice.randrange(len(reading))), float(now))
                case 3 if dice.random() < 0.2:
                    shelf.close(room, float(now))
            sent = shelf.taken()
            assert not sent & set(reading), "a read source was let go"
            gone += sent
        for room in rooms:
            shelf.close(room, 60.0)
        for room in reading:
            shelf.over(room, 60.0)
        gone += shelf.taken()
        assert sorted(gone) == rooms
