"""Names are random, never the same twice, in a forked process either."""

from __future__ import annotations

import os
import re

from guard.server.names import LENGTH, POOL, Names, new_name


def test_no_name_comes_twice_however_many_are_made() -> None:
    names, many = Names(), 3 * POOL // LENGTH + 1
    made = {names.new() for _ in range(many)}
    assert len(made) == many
    assert all(re.fullmatch(r"[0-9a-f]{32}", name) for name in made)


def test_a_forked_process_has_names_of_its_own() -> None:
    new_name()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, new_name().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)
    assert len(theirs) == 2 * LENGTH
    assert theirs not in {new_name() for _ in range(POOL // LENGTH)}
