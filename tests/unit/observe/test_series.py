"""Building blocks of metrics."""

from __future__ import annotations

import pytest

from guard.observe.series import OTHER, Bounded, Histogram, histograms, quantile


def test_a_histogram_counts_on_the_right_side_of_its_bounds() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 3.0):
        histogram.observe(value)
    family = histogram.family("name", "help")
    counts = {s.labels["le"]: s.value for s in family.samples if s.name.endswith("_bucket")}
    assert counts == {"1.0": 2, "2.0": 3, "+Inf": 4}
    assert histogram.sum == 6.0


def test_values_of_a_label_are_bounded_and_known_ones_always_have_a_place() -> None:
    label = Bounded(3, lambda: ["a", "b"])
    assert [label(value) for value in ("x", "y", "b", "x", "a", "", "z" * 500)] == [
        "x", OTHER, "b", "x", "a", OTHER, OTHER,
    ]  # fmt: skip


def test_values_that_are_no_longer_known_give_their_place_to_those_that_are() -> None:
    known, forgotten = ["a", "b", "c"], []
    label = Bounded(3, lambda: known, forgotten.append)
    assert [label(value) for value in ("c", "a", "b")] == ["c", "a", "b"]
    known[:] = ["b", "d"]
    # One that is gone and still has its place keeps its series until somebody needs the place.
    assert [label(value) for value in ("a", "x", "d", "a", "c")] == ["a", OTHER, "d", "a", OTHER]
    assert forgotten == ["c"]
    known[:] = ["d", "e", "f", "g"]
    # More than the most are told apart where more are known.
    assert [label(value) for value in ("d", "e", "f", "g", "a", "b")] == ["d", "e", "f", "g", OTHER, OTHER]
    assert forgotten == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ([0, 0, 0], 0.5, None),
        ([4, 0, 0], 0.5, 0.5),  # half way through the first bucket
        ([2, 2, 0], 0.75, 1.5),
        ([0, 0, 5], 0.5, 2.0),  # past the last bound nothing finer is known
    ],
)
def test_a_quantile_lies_in_its_bucket(counts: list[int], share: float, value: float | None) -> None:
    assert quantile((1.0, 2.0), counts, share) == value


def test_histograms_of_a_label_are_one_family() -> None:
    one, other = Histogram((1.0,)), Histogram((1.0,))
    one.observe(0.5)
    family = histograms("name", "help", "replica", [("a", one), ("b", other)])
    found = {s.labels["replica"]: s.value for s in family.samples if s.name == "name_count"}
    assert found == {"a": 1.0, "b": 0.0}
