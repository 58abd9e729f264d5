"""guard.lab.ports: a port chosen now is still free when a server that starts slowly comes to it."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from guard.lab import ports
from guard.lab.ports import free_port


def test_it_can_be_listened_on() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", free_port()))
        one.listen()


def test_no_client_is_given_it_by_chance() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    assert all(10_000 <= free_port() < max(lowest, 20_000) for _ in range(50))


def test_one_that_is_taken_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = free_port()
    answers = iter([wanted, wanted, wanted + 1, wanted + 2, wanted + 3])
    monkeypatch.setattr(random, "randrange", lambda *_: next(answers))
    with socket.socket() as other:
        other.bind(("127.0.0.1", wanted))
        other.listen()
        assert free_port() in (wanted + 1, wanted + 2, wanted + 3)


@pytest.mark.parametrize("text", ["1024 65535", "", "no number"])
def test_where_the_kernel_deals_out_nearly_all_or_does_not_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "range"
    file.write_text(text, encoding="ascii")
    monkeypatch.setattr(ports, "_DEALT_OUT", file)
    assert free_port() >= 10_000


def test_where_all_are_taken_the_kernel_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        monkeypatch.setattr(random, "randrange", lambda *_: taken)
        assert free_port() not in (0, taken)
