"""guard.backend.kv.layer_split_plan, and `guard layersplit plan`, which starts it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from guard.backend.kv.layer_split_plan import main, tokens
from guard.cli import main as guard

MODEL = ["--model", "glm-5-like", "--ranks", "8"]


def test_the_table_has_a_line_for_each_point(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*MODEL, "--context", "8K,128K"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["model", "ranks", "context"]
    assert [line.split()[:3] for line in lines] == [["glm-5-like", "8", "8192"], ["glm-5-like", "8", "131072"]]


def test_what_cannot_be_split_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--model", "llama-70b-like", "--ranks", "8", "--context", "8K,128K"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "each has KV heads of its own" in lines[1]


def test_json_has_the_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    main([*MODEL, "--context", "64K", "--json"])
    (point,) = json.loads(capsys.readouterr().out)
    assert 6 < point["capacity_ratio"] < 8
    assert point["throughput_ratio"] > 1
    main(["--model", "llama-70b-like", "--ranks", "2", "--context", "8K", "--json"])
    assert "refused" in json.loads(capsys.readouterr().out)[0]


def test_the_page_has_a_curve_for_each_number_of_ranks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.html"
    main(["--ranks", "8,16", "--html", str(file)])
    text = file.read_text(encoding="utf-8")
    charts = [part.partition("</svg>")[0] for part in text.split("<svg")[1:]]
    assert len(charts) == 4
    for chart, curves in zip(charts, (2, 2, 1, 2), strict=True):
        tree = ElementTree.fromstring(f"<svg{chart}</svg>")
        assert len(tree.findall("polyline")) == curves
    assert "Ratios of a model, not measurements" in text
    assert capsys.readouterr().out.rstrip() in text.replace("&gt;", ">")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--ranks", "two"],
        ["--context", "0"],
        ["--hit-rate", "1"],
        ["--link", "0"],
        ["--sessions", "-1"],
        ["--html", "/dev/null/plan.html"],
    ],
)
def test_arguments_without_sense_are_errors(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(wrong)
    assert left.value.code == 2
    assert "error" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "number"), [("512", 512), ("8K", 8192), ("1m", 1 << 20)])
def test_numbers_of_tokens(text: str, number: int) -> None:
    assert tokens(text) == number


def test_the_command_passes_all_on(capfd: pytest.CaptureFixture[str]) -> None:
    assert guard(["layersplit", "plan", *MODEL, "--context", "8K"]) == 0
    assert "glm-5-like" in capfd.readouterr().out
    assert guard(["layersplit", "plan", "--ranks", "two"]) == 2
