"""For tests that import vLLM themselves: it reads some of its environment when it is imported."""

from __future__ import annotations

import os

from guard.backend.testbed.server import ENVIRONMENT

for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
