"""guard.backend.testbed.commands: what a person calls."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from guard.backend.testbed.commands import main, parser


def test_preparing_prints_where_everything_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    paths = json.loads(capsys.readouterr().out)
    assert {"python", "smollm2-135m", "smollm2-135m-drop25-26", "tiny-target", "tiny-draft", "tiny-eagle"} == set(paths)
    assert all(Path(path).exists() for path in paths.values())


def test_a_draft_that_is_not_there_is_an_error_not_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "--draft", "absent", "--depths", "2"]) == 2
    assert "no draft named 'absent'" in capsys.readouterr().err


def test_the_port_and_the_configuration_can_be_chosen() -> None:
    options = parser().parse_args(["serve", "--configuration", "tiny-eagle", "--port", "0"])
    assert (options.configuration, options.port, options.no_faults) == ("tiny-eagle", 0, False)


def test_serving_ends_cleanly_when_told_to_while_it_starts() -> None:
    command = [sys.executable, "-m", "guard.backend.testbed", "serve", "--configuration", "tiny-ngram", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("starting vLLM")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
