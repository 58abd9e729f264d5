"""guard.lab.kv_state: saved slots are understood or refused, and spoiled as asked."""

import struct
from itertools import pairwise

import numpy as np
import pytest

from guard.errors import SetupError
from guard.lab.kv_state import FAULTS, Rows, corrupt_rows, edit_state, parse_state
from tests.unit.lab.state_file import saved_slot


def blocks(data: bytes) -> list[Rows]:
    layout = parse_state(data)
    return [layout.rows(data, offset) for offset in (*layout.key_offsets, *layout.value_offsets)]


@pytest.mark.parametrize("slack", [0, 8, 16])
def test_every_layers_rows_are_found(slack: int) -> None:
    layout = parse_state(saved_slot(num_rows=8, num_layers=3, width=4, slack=slack))
    assert (layout.num_rows, layout.num_layers, layout.row_bytes) == (8, 3, 8)
    step = 12 + 8 * 8
    offsets = [*layout.key_offsets, *layout.value_offsets]
    assert [b - a for a, b in pairwise(offsets)] == [step] * 5


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda d: b"GGUF" + d[4:], "not a saved slot"),
        (lambda d: d[:4] + struct.pack("<I", 9) + d[8:], "version 9"),
        (lambda d: d[:20], "cut off"),
        (lambda d: d[:-60], "cut off 56 bytes before the end"),
        (lambda d: d[:-200] + d[-196:], "block"),
        (lambda d: d[:-4] + b"\1\0\0\0", "goes on for 4 bytes"),
        (lambda d: d.replace(struct.pack("<3I", 0, 3, 0), struct.pack("<3I", 1, 3, 0)), "transposed"),
        (lambda d: d.replace(struct.pack("<iQ", 1, 8), struct.pack("<iQ", 8, 8)), "no block of f16 rows"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(spoil: object, says: str) -> None:
    assert callable(spoil)
    with pytest.raises(SetupError, match=says):
        parse_state(spoil(saved_slot()))


def test_an_empty_slot_is_refused() -> None:
    data = struct.pack("<3I", 0x67677371, 4, 0) + struct.pack("<3I", 2, 0, 0)
    with pytest.raises(SetupError, match="empty in all of its 2 streams"):
        parse_state(data)


@pytest.mark.parametrize("fault", FAULTS)
def test_only_the_rows_asked_for_change_in_every_block(fault: str) -> None:
    data = saved_slot(num_rows=12)
    edited, rows = edit_state(data, fault, 1, first_row=3, num_rows=6, donor=saved_slot(seed=5))
    assert rows == range(3, 9)
    assert len(edited) == len(data)
    for before, after in zip(blocks(data), blocks(edited), strict=True):
        assert (before[:3] == after[:3]).all()
        assert (before[9:] == after[9:]).all()
        assert (before[3:9] != after[3:9]).any()


@pytest.mark.parametrize("fault", FAULTS)
def test_the_same_seed_gives_the_same_bytes(fault: str) -> None:
    data, donor = saved_slot(), saved_slot(seed=5)
    assert edit_state(data, fault, 7, donor=donor) == edit_state(data, fault, 7, donor=donor)


def test_noise_keeps_mean_and_deviation() -> None:
    rows = np.random.default_rng(0).normal(3, 2, (500, 16)).astype(np.float16)
    noisy = corrupt_rows(rows, "noise", np.random.default_rng(1)).astype(np.float32)
    assert noisy.mean() == pytest.approx(3, abs=0.1)
    assert noisy.std() == pytest.approx(2, abs=0.1)


def test_zero_half_zeroes_half_of_the_rows() -> None:
    zeroed = corrupt_rows(np.ones((9, 4), np.float16), "zero_half", np.random.default_rng(1))
    assert sorted(zeroed.sum(axis=1)) == [0] * 5 + [4] * 4


def test_shuffle_keeps_every_row() -> None:
    rows = np.arange(40, dtype=np.float16).reshape(10, 4)
    shuffled = corrupt_rows(rows, "shuffle", np.random.default_rng(1))
    assert (shuffled != rows).any()
    assert sorted(shuffled.tolist()) == rows.tolist()


def test_splice_takes_the_donors_rows_from_the_same_place() -> None:
    data, donor = saved_slot(num_rows=8), saved_slot(num_rows=5, seed=5)
    edited, _ = edit_state(data, "splice", 0, first_row=2, donor=donor)
    for after, other in zip(blocks(edited), blocks(donor), strict=True):
        assert (after[2:5] == other[2:5]).all()
        assert (after[5:8] == other[2:5]).all()  # too few rows: taken again


def test_mistakes_are_named() -> None:
    data = saved_slot(num_rows=8)
    with pytest.raises(ValueError, match="one of noise, zero_half, shuffle, splice"):
        edit_state(data, "smudge", 0)
    with pytest.raises(ValueError, match="rows of another sequence"):
        edit_state(data, "splice", 0)
    with pytest.raises(ValueError, match="not within the 8"):
        edit_state(data, "noise", 0, first_row=8)
    with pytest.raises(SetupError, match="not of the same model"):
        edit_state(data, "splice", 0, donor=saved_slot(num_layers=2))
