"""guard.lab.kv_memory: rows are found in this very process, and only those asked for are spoiled."""

import itertools
import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from guard.errors import SetupError
from guard.lab import kv_memory
from guard.lab.kv_memory import carry_out, locate, overwrite
from guard.lab.kv_state import parse_state
from tests.unit.lab.state_file import saved_slot

CAPACITY, STREAMS, LAYERS, WIDTH, USED = 64, 2, 3, 192, 8


class Cache:
    """A buffer laid out as llama.cpp does: for each layer keys then values, each with all streams."""

    def __init__(self, state: bytes, stream: int) -> None:
        self.layout = parse_state(state)
        self.stream = stream
        size = CAPACITY * STREAMS * 2 * WIDTH * 2 * LAYERS
        self.map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = np.frombuffer(self.map, np.float16).reshape(LAYERS, 2, STREAMS, CAPACITY, WIDTH)
        self.rows = self.view[:, :, stream]
        for layer in range(LAYERS):
            self.rows[layer, 0, :USED] = self.layout.rows(state, self.layout.key_offsets[layer])
            self.rows[layer, 1, :USED] = self.layout.rows(state, self.layout.value_offsets[layer])


_seeds = itertools.count(100)


@pytest.fixture
def state() -> bytes:
    # Another one for each test: what an earlier test left in memory must not be found again.
    return saved_slot(num_rows=USED, num_layers=LAYERS, width=WIDTH, seed=next(_seeds))


@pytest.fixture(params=[0, 1])
def cache(request: pytest.FixtureRequest, state: bytes) -> Cache:
    return Cache(state, request.param)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    kv_memory._located.clear()


def test_a_slot_is_found_by_its_rows(cache: Cache, state: bytes) -> None:
    # `state` itself is in memory too: its rows do not have the distance they have in a cache.
    found = locate(state, CAPACITY, STREAMS)
    first = cache.rows[0, 0].__array_interface__["data"][0]
    assert found.blocks[0] == first
    assert len(found.blocks) == 2 * LAYERS
    assert found.row_bytes == 2 * WIDTH


def test_a_slot_that_is_nowhere_is_an_error(state: bytes) -> None:
    with pytest.raises(SetupError, match="found at 0 places"):
        locate(state, CAPACITY, STREAMS)


def test_rows_differing_in_one_layer_are_not_taken_for_the_slot(cache: Cache, state: bytes) -> None:
    cache.rows[0, 0, 2, 5] += 1
    with pytest.raises(SetupError, match="found at 0 places"):
        locate(state, CAPACITY, STREAMS)


def test_only_the_rows_asked_for_are_overwritten(cache: Cache, state: bytes) -> None:
    address = locate(state, CAPACITY, STREAMS)
    before = cache.view.copy()
    overwrite(address, range(2, 5), "noise", 1, None)
    changed = (before != cache.view).any(axis=-1)  # [layer, key or value, stream, row]
    assert changed.sum() == LAYERS * 2 * 3
    assert changed[:, :, cache.stream, 2:5].all()


def test_orders_locate_and_then_corrupt(
    cache: Cache, state: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "slot.bin"
    file.write_bytes(state)
    corrupt = {"op": "corrupt", "slot": 0, "fault": "zero_half", "seed": 1, "first_row": 0, "num_rows": USED}
    with pytest.raises(SetupError, match="slot 0 was not located"):
        carry_out(corrupt)
    carry_out({"op": "locate", "slot": 0, "state": str(file), "capacity_rows": CAPACITY, "num_streams": STREAMS})
    assert carry_out(corrupt)["rows"] == [0, USED]
    assert (cache.rows[:, :, :USED] == 0).all(axis=-1).sum() == LAYERS * 2 * USED // 2
    assert "FAULT INJECTED" in capsys.readouterr().err


def test_a_splice_takes_the_donors_rows(cache: Cache, state: bytes) -> None:
    donor = saved_slot(num_rows=USED, num_layers=LAYERS, width=WIDTH, seed=12)
    overwrite(locate(state, CAPACITY, STREAMS), range(3, 6), "splice", 1, donor)
    layout = parse_state(donor)
    assert (cache.rows[1, 0, 3:6] == layout.rows(donor, layout.key_offsets[1])[3:6]).all()


def test_no_rows_is_a_mistake(cache: Cache, state: bytes) -> None:
    with pytest.raises(ValueError, match="no rows"):
        overwrite(locate(state, CAPACITY, STREAMS), range(0), "noise", 1, None)
