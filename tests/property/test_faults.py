"""Whatever is done to a good file: all its faults have the first one among them, and none is found where none is."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from guard.config import load
from guard.config_faults import find_faults as config_faults
from guard.data import data_dir
from guard.detect.catalogue import CATALOGUE
from guard.errors import ConfigError
from guard.policy.load import find_faults, load_policy

POLICY: dict[str, Any] = yaml.safe_load((data_dir("policies") / "default.yaml").read_text(encoding="utf-8"))
CONFIG: dict[str, Any] = {
    "upstreams": [{"url": "http://a:1", "engine": "vllm"}, {"url": "http://a:2", "name": "b"}],
    "policy": "default",
    "listen": {"port": 9000},
    "pool": {"ejection": {"share": 0.3}, "health": {"interval": 5}, "quality": {"kinds": ["garbled"]}},
    "access": {"keys": [{"name": "a", "sha256": "0" * 64}], "other_paths": ["/v1"]},
    "store": {"url": "redis://h"},
    "audit": {"share": 0.1},
}


def places(data: object, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """All places below, from the outermost."""
    for step in data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield (*at, step)
        yield from places(data[step], (*at, step))  # type: ignore[index]


def spoilt(good: dict[str, Any], draw: random.Random) -> str:
    """The file with one to six changes."""
    data: Any = copy.deepcopy(good)
    for _ in range(draw.randint(1, 6)):
        inner: Any = data
        last: Any
        *outer, last = draw.choice(list(places(data)) or [("version",)])
        for step in outer:
            inner = inner[step]
        match draw.randint(0, 5):
            case 0:
                inner[last] = draw.choice([5, -1, "x", None, [], {}, True, "32 tokens", 1e9, 0.5, "garble", "retry"])
            case 1:
                inner.pop(last, None) if isinstance(inner, dict) else inner.pop(last)
            case 2 if isinstance(last, str) and last in inner:
                inner[last[:-1] + draw.choice("xyz")] = inner.pop(last)
            case 3 if isinstance(last, str):
                inner[f"zz{draw.randint(0, 9)}"] = 1
            case 4 if isinstance(inner, list):
                inner.append(copy.deepcopy(inner[last]))
            case _ if isinstance(inner, list) or last in inner:
                inner[last] = f"{inner[last]}q"
    return yaml.safe_dump(data, sort_keys=False)


def agree(first: ConfigError | None, found: list[ConfigError]) -> None:
    said = [str(error) for error in found]
    assert len(set(said)) == len(said)
    assert bool(said) == (first is not None)
    assert first is None or str(first) in said


@pytest.mark.parametrize("seed", range(40))
def test_of_a_policy(seed: int) -> None:
    text, first = spoilt(POLICY, random.Random(seed)), None
    try:
        load_policy(text, CATALOGUE, "p.yaml")
    except ConfigError as error:
        first = error
    agree(first, find_faults(text, CATALOGUE, "p.yaml"))


@pytest.mark.parametrize("seed", range(40))
def test_of_a_configuration(seed: int, tmp_path: Path) -> None:
    file, first = tmp_path / "guard.yaml", None
    file.write_text(spoilt(CONFIG, random.Random(seed)), encoding="utf-8")
    try:
        load(file, {})
    except ConfigError as error:
        first = error
    agree(first, config_faults(file, {})[1])
