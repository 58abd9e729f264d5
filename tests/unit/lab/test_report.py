"""The report: complete, escaped, and free of anything that needs a network or runs by itself."""

from __future__ import annotations

import errno
import json
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from guard.errors import ConfigError
from guard.lab import case_files
from guard.lab import report as module
from guard.lab.backtest import figures
from guard.lab.case_files import CaseFiles
from guard.lab.cases import read_cases
from guard.lab.report import DrawnCases, draw, report, write_report
from guard.lab.tries import Drawing, backtest
from guard.shipped import find_policy
from tests.unit.lab.streams import bad, corpus, good, line, policy_file


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def made(folder: Path, *lines: dict[str, Any]) -> Page:
    path = corpus(folder)
    if lines:
        path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    policy = find_policy(policy_file(folder))
    with DrawnCases() as drawn:
        tried = backtest(policy, list(read_cases(path)), drawing=Drawing(draw, drawn.keep))
        return Page("".join(report(policy, figures(policy.name, tried), tried, drawn)))


def test_every_case_is_there_with_the_worst_first(tmp_path: Path) -> None:
    page = made(tmp_path)
    assert page.unbalanced == page.open == []
    names = [(case["data-name"], case["data-outcome"]) for case in page.all("details")]
    assert names[:3] == [("weak", "false positive"), ("early", "too early"), ("loop", "missed")]
    assert len(names) == 8
    assert sum("plot" in (svg["class"] or "") for svg in page.all("svg")) == 8
    ranks = [int(case["data-rank"] or "") for case in page.all("details")]
    assert ranks == sorted(ranks)


def test_it_needs_nothing_from_outside_and_has_no_inline_handlers(tmp_path: Path) -> None:
    page = made(tmp_path)
    for tag, attributes in page.tags:
        assert not {name for name in attributes if name.startswith("on") or name in ("src", "href", "style")}, tag
    (rules,) = [meta["content"] or "" for meta in page.all("meta") if "http-equiv" in meta]
    assert rules.startswith("default-src 'none'")
    assert "unsafe" not in rules


def test_what_a_model_says_is_only_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    page = made(
        tmp_path,
        line(
            f'x"{evil}',
            [[evil, 1], ["\u202e\x00\ufffd&amp;\n", 1], *bad(30)],
            subkind=evil,
            hard_negative=f"'{evil}",
            prompt=f"Say {evil}",
        ),
    )
    assert len(page.all("script")) == 1
    assert page.unbalanced == []
    assert f"asked: Say {evil}" in page.text
    assert "\\u202e\\u0000\ufffd&amp;" in page.text  # shown as numbers: they would turn or end the text


def test_marks_stand_in_the_text_where_they_belong(tmp_path: Path) -> None:
    chunks = [["the ship ", 4]] * 20 + [["wrong ", 4]] + bad(40)
    page = made(tmp_path, line("a", chunks, kind="garbled", first_bad_token=80))
    assert "the ship fault beginswrong " in page.text
    assert "retry" in page.text[page.text.index("fault beginswrong ") :]


def test_a_long_way_between_marks_is_shortened(tmp_path: Path) -> None:
    chunks = good(20) + [["all is well and nothing happens here ", 4]] * 60 + bad(40)
    page = made(tmp_path, line("a", chunks, kind="garbled", first_bad_token=80))
    assert "characters …" in page.text


def test_a_stream_without_steps_or_text(tmp_path: Path) -> None:
    page = made(tmp_path, line("a", [["", 0]], num_speculative_tokens=0), line("b", [["x", 1, 0, 0]]))
    assert "no verify step is known" in page.text
    assert page.unbalanced == []


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    policy = find_policy(policy_file(tmp_path))
    (tmp_path / "nowhere").touch()
    with pytest.raises(ConfigError, match=r"r\.html: cannot be written"):
        write_report(tmp_path / "nowhere" / "r.html", policy, figures("p", []), [], DrawnCases())
    write_report(tmp_path / "r.html", policy, figures("p", []), [], DrawnCases())
    assert [path.name for path in tmp_path.glob("*r.html*")] == ["r.html"]


def test_the_folder_of_a_report_is_made(tmp_path: Path) -> None:
    policy, out = find_policy(policy_file(tmp_path)), tmp_path / "reports" / "today" / "r.html"
    write_report(out, policy, figures("p", []), [], DrawnCases())
    assert out.read_text().startswith("<!doctype html>")


def test_drawn_cases_come_back_in_any_order_from_memory_or_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    for most in (1 << 20, 1):
        monkeypatch.setattr(module, "_IN_MEMORY", most)
        with DrawnCases() as drawn:
            for text in ("one é", "", "three"):
                drawn.keep(text)
            assert [drawn.of(number) for number in (2, 0, 1, 0)] == ["three", "one é", "", "one é"]


def test_no_room_for_drawn_cases_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with DrawnCases() as drawn:

        def full(data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(drawn._file, "write", full)
        with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
            drawn.keep("x")


def test_a_report_of_many_long_cases_has_few_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case_files, "MOST_KEPT", 0)
    monkeypatch.setattr(module, "_IN_MEMORY", 1)
    policy, peaks = find_policy(policy_file(tmp_path)), []
    for count in (3, 24):
        path = tmp_path / "long.jsonl"
        with path.open("w") as file:
            for number in range(count):
                file.write(json.dumps(line(f"c{number}", good(1500))) + "\n")
        tracemalloc.start()
        try:
            with DrawnCases() as drawn:
                tried = backtest(policy, CaseFiles([path]), drawing=Drawing(draw, drawn.keep))
                write_report(tmp_path / "r.html", policy, figures("p", tried), tried, drawn)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert (tmp_path / "r.html").read_text().count("<details") == count
    assert peaks[1] < 1.2 * peaks[0]
