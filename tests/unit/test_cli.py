"""The command line: exit codes and messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from guard import __version__
from guard.cli import main
from guard.data import data_dir

TRACES = next((Path(__file__).parents[1] / "data" / "traces").glob("*.jsonl*"))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["nothing"], ["serve", "--port", "many"]])
def test_wrong_usage_is_exit_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["serve", "--upstram", "u"], "serve: error: unrecognized arguments: --upstram u; did you mean --upstream?"),
        (["doctor", "--upstream", "http://h:1", "more"], "guard doctor: error: unrecognized arguments: more\n"),
        (["--verison"], "guard: error: "),
    ],
)  # fmt: skip
def test_an_unknown_option_is_complained_of_by_its_command(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert says in capsys.readouterr().err


def _written_to(out: int, *argv: str) -> tuple[int, str]:
    """Exit code and complaints of a guard that writes to `out`, a piece at a time as Python does by itself."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "guard", *argv]
    done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, env=environ, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("argv", [["policy", "check", "default"], ["policy", "schema"]])
def test_output_that_nobody_reads_is_exit_2_without_a_word(argv: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        assert _written_to(gone.fileno(), *argv) == (2, "")


@pytest.mark.parametrize("argv", [["policy", "check", "default"], ["policy", "schema"]])
def test_output_for_which_there_is_no_room_is_exit_2_and_told(argv: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        assert _written_to(full.fileno(), *argv) == (2, "guard: output: No space left on device\n")


def test_no_connection_gets_the_number_of_a_standard_file_that_is_closed(tmp_path: Path) -> None:
    """Libuv ends the process when such a connection is closed."""
    told = tmp_path / "number"
    code = f"""if True:
        import os, guard.cli
        guard.cli.main(["policy", "check", "default"])
        number = os.open("/", os.O_RDONLY)
        open({str(told)!r}, "w").write(str(number))
    """
    command = ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', sys.executable, "-c", code]
    assert subprocess.run(command, check=False).returncode == 0
    assert int(told.read_text()) > 2


def test_policy_check_of_shipped_policies(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", "default", "published"]) == 0
    assert "default: good" in capsys.readouterr().out


def test_policy_check_names_file_line_and_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("version: 1\nname: p\nrules:\n  - name: a\n    knid: garbled\n")
    assert main(["policy", "check", str(file)]) == 1
    assert f"{file}:5: rules[0].knid: unknown setting 'knid'; did you mean 'kind'?" in capsys.readouterr().err


def test_policy_check_names_all_that_one_look_can_find(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "base.yaml").write_text(
        "version: 1\nname: base\nhold_back: {limit: 5}\n"
        "rules:\n  - {name: long, kind: repetition, action: note, when: {signal: repetition_count, above: 3}}\n"
    )
    file = tmp_path / "p.yaml"
    file.write_text(
        "version: 1\n"
        "name: p\n"
        "extends: base.yaml\n"
        "rules:\n"
        "  - name: a\n"
        "    knid: garbled\n"
        "    action: rety\n"
        "    when: {signal: acceptance_rte, above: 0.5}\n"
        "  - {name: b, kind: garbled, action: note, when: {signal: garble, window: 32 tokens, above: 0.5}}\n"
        "kinds: {garbled: {max_attempts: 30}, rare_chars: {action: note}}\n"
    )
    assert main(["policy", "check", str(file), "default"]) == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"{tmp_path}/base.yaml:3: hold_back.limit: a bare number has no unit; write for instance '48 tokens'",
        f"{file}:6: rules[0].knid: unknown setting 'knid'; did you mean 'kind'?",
        f"{file}:7: rules[0].action: 'rety' is not known here; did you mean 'retry'?",
        f"{file}:9: rules[1].when.window: garble takes characters, not tokens; write '32 characters'",
        f"{file}:10: kinds.garbled.max_attempts: 30 is outside 1 to 10",
    ]
    assert "default: good" in said.out


def test_policy_check_of_a_whole_folder_leaves_the_tests_out(capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(data_dir("policies") / name) for name in ("published.yaml", "published_test.yaml")]
    assert main(["policy", "check", *files]) == 0
    assert capsys.readouterr().out.count("good") == 1


def test_policy_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "explain", "default"]) == 0
    assert "garbled" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["serve"], "name a backend: --upstream URL"),
        (["serve", "--upstream", "localhost:80"], "is not a base URL"),
        (
            ["serve", "--upstream", "http://h", "--port", "70000"],
            "--port: listen.port: expected a whole number <= 65535",
        ),
        (["serve", "--upstream", "http://h", "--policy", "defualt"], "did you mean 'default'"),
        (["serve", "--config", "/nowhere/guard.yaml"], "cannot be read"),
        (["serve", "--backend", "embedded", "--upstream", "http://h"], "its own upstream"),
        (["policy", "explain", "/nowhere.yaml"], "cannot be read"),
        (["policy", "test", "x" * 300], "File name too long"),
        (["serve", "--upstream", "http://h", "--host", ""], "listen.host: give an address"),
        (["healthcheck", "--url", "http://[::1"], "--url: 'http://[::1' is not a URL"),
        (["healthcheck", "--url", "http://."], "--url: 'http://.': no host can have this name"),
        (["healthcheck", "--wait", "nan"], "--wait: give a number of seconds"),
        (["replay", "c.jsonl", "--listen", "99999999999"], "--listen: give a port"),
        (["replay", "c.jsonl", "--url", "http://[::1"], "--url: 'http://[::1' is not a URL"),
        (["replay", "c.jsonl", "--speed", "nan"], "--speed: give tokens per second"),
        (["backtest", "--policy", "default", "--jobs", "-1", str(TRACES)], "--jobs: give a number from 1 on"),
        (["policy", "explain", "x" * 300], "no shipped policy is called"),
    ],
)
def test_what_cannot_be_carried_out_is_exit_2_with_one_line(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("guard: ")
    assert says in error
    assert "Traceback" not in error


def test_the_command_starts_without_the_demo_extra() -> None:
    """Serving needs neither numpy nor a model, and imports none of them."""
    code = (
        "import sys; import guard.cli, guard.lab.serve; "
        "print([m for m in ('numpy', 'gguf', 'xllamacpp', 'torch', 'vllm', 'httpx') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_help_is_quick() -> None:
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "guard", "--help"], capture_output=True, check=True)
    # Generous: a loaded machine. The import itself takes a tenth of a second.
    assert time.monotonic() - started < 5


def test_what_few_need_is_not_imported_at_the_start() -> None:
    code = "import sys, {}; print(*{{'aiohttp', 'redis', 'dns', 'httpx', 'numpy'}} & set(sys.modules))"
    for module, had in (("guard.cli", set()), ("guard.lab.serve", {"aiohttp"})):
        done = subprocess.run([sys.executable, "-c", code.format(module)], capture_output=True, text=True, check=True)
        assert set(done.stdout.split()) <= had, module


def test_importing_the_command_line_takes_little_time() -> None:
    code = "import time; began = time.process_time(); import guard.cli; print(time.process_time() - began)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.3


def test_policy_test_of_a_shipped_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", str(data_dir("policies") / "published.yaml")]) == 0
    assert "passed (published)" in capsys.readouterr().out


def test_policy_test_that_fails_is_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a_test.yaml"
    file.write_text("policy: published\ntests:\n  - {name: never, stream: [{text: hello}], expect: retry}\n")
    assert main(["policy", "test", str(file)]) == 1
    shown = capsys.readouterr()
    assert f"{file}:3: never" in shown.err
    assert "0 of 1 passed" in shown.out


def test_policy_test_of_a_broken_file_is_exit_2(tmp_path: Path) -> None:
    file = tmp_path / "a_test.yaml"
    file.write_text("tests: 1\n")
    assert main(["policy", "test", str(file)]) == 2


def test_policy_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Guard policy"


def test_backtest_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = tmp_path / "c.jsonl"
    cases.write_text('{"id": "a", "kind": "healthy", "num_speculative_tokens": 3, "chunks": [["The end.", 4]]}\n')
    assert main(["backtest", "--policy", "published", "--json", str(cases)]) == 0
    assert '"false_positives":0' in capsys.readouterr().out
    assert main(["backtest", "--policy", "published", "--require", "fp=0.5", str(cases)]) == 0
    bad = tmp_path / "b.jsonl"
    bad.write_text(
        cases.read_text() + cases.read_text().replace("healthy", "garbled").replace("{", '{"first_bad_token": 0, ')
    )
    assert main(["backtest", "--policy", "published", "--require", "recall=0.5", str(bad)]) == 1
    assert "not met: recall" in capsys.readouterr().err
    cases.write_text("{}")
    assert main(["backtest", "--policy", "published", str(cases)]) == 2
    assert f"guard: {cases}:1: " in capsys.readouterr().err


def test_calibrate_and_replay_say_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "p.yaml")]) == 2
    assert main(["replay", str(tmp_path / "none.sse")]) == 2
    assert capsys.readouterr().err.count("cannot be read") == 2


def test_a_thread_that_hangs_does_not_keep_the_process() -> None:
    code = """if True:
        import threading
        import guard.cli
        threading.Thread(target=threading.Event().wait).start()
        guard.cli._leave_within(0.05, 7)
    """
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 7
