"""The soft limit on open files follows what is needed, up to the hard one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from guard.lab.open_files import SPARE

CODE = """if True:
    import resource
    from guard.lab.open_files import room_for
    resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
    said = room_for({requests})
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], said)
"""


@pytest.mark.parametrize(
    ("soft", "hard", "requests", "then", "complains"),
    [
        (100, 4000, 1000, 2 * 1000 + SPARE, False),
        (3000, 4000, 1000, 3000, False),
        (100, 1000, 1000, 1000, True),
        (100, 100, 1000, 100, True),
    ],
)
def test_the_limit_is_raised_as_far_as_needed(soft: int, hard: int, requests: int, then: int, complains: bool) -> None:
    code = CODE.format(soft=soft, hard=hard, requests=requests)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    number, _, said = told.strip().partition(" ")
    assert int(number) == then
    assert ("limits.max_in_flight, which is 1000" in said) == complains
