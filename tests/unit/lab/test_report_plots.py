"""Plots: what is drawn where, and never more points than a screen shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from guard.lab.cases import read_cases, run_case
from guard.lab.report_plots import Curve, case_plot, chart, found_within, reached, sparkline
from guard.lab.tries import Tried
from guard.policy.judge import Judge
from guard.policy.schema import HoldBack, HoldMode
from guard.shipped import find_policy
from tests.unit.lab.streams import bad, corpus, good, line, policy_file


def tried(folder: Path, *lines: dict[str, Any]) -> list[Tried]:
    path = corpus(folder)
    if lines:
        path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    judge = Judge(find_policy(policy_file(folder)))
    return [Tried(case, run_case(judge, case, trace=True)) for case in read_cases(path)]


def points(svg: str, style: str) -> list[tuple[float, float]]:
    (found,) = re.findall(rf'<polyline class="{style}" points="([^"]*)"', svg)
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in found.split())]


def test_a_verdict_is_marked_and_what_follows_is_dimmed(tmp_path: Path) -> None:
    (one,) = tried(tmp_path, line("a", good(20) + bad(60), kind="garbled", first_bad_token=80))
    svg = case_plot(one, HoldBack())
    assert "fault begins at 80" in svg
    assert f"retry at {one.result.token}" in svg
    assert f"onset estimated at {one.result.onset}" in svg
    assert 'class="unseen"' in svg
    line_points = points(svg, "suspicion")
    assert len(line_points) == one.result.chunk
    assert line_points[0][1] > line_points[-1][1]  # it rises; the axis points down


def test_a_clean_case_has_no_marks(tmp_path: Path) -> None:
    (one,) = tried(tmp_path, line("a", good(20)))
    svg = case_plot(one, HoldBack())
    assert "unseen" not in svg
    assert "no verdict" in svg
    assert "holds at 0.5" in svg
    assert "holds" not in case_plot(one, HoldBack(mode=HoldMode.OFF))


def test_long_streams_are_drawn_by_bins_that_keep_the_peak(tmp_path: Path) -> None:
    (one,) = tried(tmp_path, line("a", good(3000) + [["x", 2]] * 5 + good(3000)))
    peak = one.result.peak
    assert 0 < peak < 1
    svg = case_plot(one, HoldBack())
    drawn = points(svg, "suspicion")
    assert len(drawn) <= 420
    assert len(points(svg, "mean")) <= 420
    heights = [y for _, y in drawn]
    assert max(heights) - min(heights) > 90 * peak
    assert len(points(sparkline(one), "suspicion")) <= 48


def test_peaks_of_bad_cases_count_from_their_fault(tmp_path: Path) -> None:
    before, after = tried(
        tmp_path,
        line("a", good(8) + [["x", 2]] * 5 + good(30), kind="garbled", first_bad_token=100),
        line("b", good(8) + [["x", 2]] * 5 + good(30), kind="garbled", first_bad_token=32),
    )
    assert before.result.bad_peak == 0.0 < before.result.peak
    assert after.result.bad_peak == after.result.peak > 0


def test_shares_over_thresholds_and_delays(tmp_path: Path) -> None:
    group = [one for one in tried(tmp_path) if one.case.kind == "garbled"]
    shares = [share for _, share in reached(group)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 1.0
    found = [share for _, share in found_within(group, 1024)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0.0, 1.0)
    assert {share for _, share in reached([])} == {0.0}


def test_a_chart_names_its_curves_and_escapes_them() -> None:
    svg = chart("t & u", [Curve("c1", "<kind>", [(0.0, 0.0), (1.0, 1.0)])], [(0.0, "0"), (1.0, "1")], [(0.5, "a<b")])
    assert "&lt;kind&gt;" in svg
    assert "a&lt;b" in svg
    assert "t &amp; u" in svg
    assert points(svg, "c1") == [(44.0, 214.0), (374.0, 24.0)]
