"""guard.backend.testbed.pool: servers are shared, replaced when they died, and make room for others."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.backend.testbed.pool import ServerPool, available_bytes
from guard.backend.testbed.server import ServerOptions, group_members

STAND_IN = Path(__file__).with_name("stand_in.py")


def options(name: str) -> ServerOptions:
    return ServerOptions(model=Path(name), name=name, program=(str(STAND_IN),))


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[ServerPool]:
    pool = ServerPool(tmp_path, max_servers=2, room_bytes=0)
    yield pool
    pool.close()


def test_available_memory_is_read_from_the_kernel(tmp_path: Path) -> None:
    assert available_bytes() > 1 << 20
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:     4 kB\n")
    assert available_bytes(meminfo) == 4096
    meminfo.write_text("MemTotal: 9 kB\n")
    with pytest.raises(ValueError, match="MemAvailable"):
        available_bytes(meminfo)


def test_the_same_options_give_the_same_server(pool: ServerPool) -> None:
    one = pool.get(options("a"))
    assert pool.get(options("a")) is one
    assert pool.get(options("b")) is not one
    assert [seconds > 0 for _, seconds in pool.start_seconds] == [True, True]
    assert "stand-in is up" in one.log_text()


def test_the_longest_unused_makes_room(pool: ServerPool) -> None:
    a, b = pool.get(options("a")), pool.get(options("b"))
    pool.get(options("a"))
    c = pool.get(options("c"))
    assert pool.servers == [a, c]
    assert group_members(b.pid) == []


def test_without_memory_only_one_is_alive(tmp_path: Path) -> None:
    pool = ServerPool(tmp_path, room_bytes=1 << 60)
    try:
        pool.get(options("a"))
        b = pool.get(options("b"))
        assert pool.servers == [b]
    finally:
        pool.close()


def test_a_server_that_died_is_replaced(pool: ServerPool) -> None:
    one = pool.get(options("a"))
    os.kill(one.pid, signal.SIGKILL)
    pool.run(one.wait())
    two = pool.get(options("a"))
    assert two is not one
    assert two.alive
    assert group_members(one.pid) == []
    assert one.log_path != two.log_path


def test_one_can_be_ended_and_closing_ends_all(tmp_path: Path) -> None:
    pool = ServerPool(tmp_path, room_bytes=0)
    a, b = pool.get(options("a")), pool.get(options("b"))
    pool.end(options("a"))
    pool.end(options("never started"))
    assert pool.servers == [b]
    assert group_members(a.pid) == []
    pool.close()
    assert group_members(b.pid) == []
