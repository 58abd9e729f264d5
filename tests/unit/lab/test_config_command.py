"""`guard config`: origins, masked secrets, exit codes; what it prints can be read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guard.cli import main
from guard.config import load_config
from guard.lab.config_command import without_password

FILE = "upstreams:\n  - url: http://a\n  - {url: http://b, name: second}\naccess: {upstream_key: hush-1}\n"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GUARD_ACCESS_ADMIN_TOKEN", "hush-2")
    path = tmp_path / "g.yaml"
    path.write_text(FILE)
    return str(path)


def test_what_is_shown_can_be_read_again_and_shows_no_secret(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "show", "--config", path, "--port", "90"]) == 0
    text = capsys.readouterr().out
    assert "hush" not in text
    lines = {line.split("#")[0].strip(): line.split("#")[1].strip() for line in text.splitlines() if "#" in line}
    assert lines["port: 90"] == "--port"
    assert lines['name: "second"'] == f"{path}:3"
    assert lines['admin_token: "***"'] == "GUARD_ACCESS_ADMIN_TOKEN"
    again = tmp_path / "again.yaml"
    again.write_text(text)
    config = load_config(again)
    assert config.listen.port == 90
    assert [upstream.url for upstream in config.upstreams] == ["http://a", "http://b"]


def test_as_json(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "--config", path, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["access.upstream_key"] == {"value": "***", "origin": f"{path}:4"}
    assert shown["upstreams[1].name"]["value"] == "second"


def test_the_file_may_be_named_by_a_variable(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GUARD_CONFIG", path)
    assert main(["config", "check"]) == 0
    assert "good: 2 upstreams, policies: default" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"GUARD_POLICY": "none-such"}, "none-such"),
        ({"GUARD_ACCESS_KEYS_FILE": "/nowhere"}, "/nowhere: access.keys_file: cannot be read"),
        (
            {"GUARD_STORE_URL": "redis://h", "GUARD_STORE_PASSWORD_FILE": "/no"},
            "/no: store.password_file: cannot be read",
        ),
        ({"GUARD_STORE_URL": "rediss://h", "GUARD_STORE_TLS_CA_FILE": "/no"}, "/no: store.tls.ca_file: cannot be read"),
        ({"GUARD_LISTEN_PROT": "1"}, "did you mean 'GUARD_LISTEN_PORT'?"),
        ({"GUARD_ADMIN_HOST": "10.0.0.1", "GUARD_ACCESS_ADMIN_TOKEN": ""}, "access.admin_token_file"),
    ],
)
def test_what_would_not_start_fails_the_check(
    path: str,
    variables: dict[str, str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["config", "check", "--config", path]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("policy: strikt", "{file}:2: policy: no shipped policy is called 'strikt'"),
        ("shadow_policy: strikt", "{file}:2: shadow_policy: no shipped policy is called 'strikt'"),
        ("policy: [default, strikt]", "{file}:2: policy[1]: no shipped policy is called 'strikt'"),
        ("policy: [default, strict]", "default: policy[0]: it matches every request"),
        ("policy: []", "{file}:2: policy: name at least one policy"),
        ("policy: no.yaml", "no.yaml: policy: cannot be read"),
    ],
)
def test_a_policy_that_cannot_be_taken_is_told_with_the_setting_that_names_it(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text(f"upstreams: [{{url: 'http://h:1'}}]\n{text}\n")
    assert main(["config", "check", "--config", str(file)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(says.format(file=file))
    assert len(said.splitlines()) == 1


def test_several_policies_of_the_command_line_are_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("version: 1\nname: mine\nextends: default\nmatch: {model: m}\n")
    command = ["config", "check", "--upstream", "http://h:1", "--policy", str(mine)]
    assert main([*command, "--policy", "strict"]) == 0
    assert capsys.readouterr().out == "good: 1 upstream, policies: mine, strict\n"
    assert main(command) == 1  # the last of them must be for all requests
    assert "some requests match no policy" in capsys.readouterr().err


def test_a_shadow_is_not_taken_for_a_policy_that_acts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text("upstreams: [{url: 'http://h:1'}]\npolicy: observe\nshadow_policy: strict\n")
    assert main(["config", "check", "--config", str(file)]) == 0
    assert capsys.readouterr().out == "good: 1 upstream, policies: observe; shadow: strict\n"


def test_a_folder_that_cannot_be_recorded_into_is_doubted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "guard.yaml"
    for folder, doubt in (
        (file / "rec", f"recording.folder: {file} is no folder: nothing would be recorded\n"),
        (tmp_path / "new" / "rec", ""),
    ):
        file.write_text(f"upstreams: [{{url: 'http://h:1'}}]\nrecording: {{folder: {folder}}}\n")
        assert main(["config", "check", "--config", str(file)]) == 0
        assert capsys.readouterr().err == doubt


def test_all_that_one_look_can_find_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, file = tmp_path / "live.yaml", tmp_path / "guard.yaml"
    policy.write_text("version: 1\nname: p\nextends: default\nretry: {max_attempts: 30}\nwhen_exhausted: cutt\n")
    file.write_text(
        "upstreams: [{url: 'http://h:1'}, {url: 'http://h:1'}, {url: 'http://h:2', engine: vlm}]\n"
        f"polcy: {policy}\n"
        "timeouts: {drain: -3, idel: 5}\n"
        "listen: {port: 8000, tls: {cert: /no.pem, key: /no.key}}\n"
        "admin: {port: 8000}\n"
        "pool: {drained_file: /no.txt}\n"
    )
    monkeypatch.setenv("GUARD_LOG_HEALTHY", "many")
    monkeypatch.setenv("GUARD_LIMITS_RETRY_AFTER", "soon")
    monkeypatch.setenv("GUARD_LISTEN_PROT", "1")
    assert main(["config", "check", "--config", str(file), "--admin-port", "70000"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "--admin-port: admin.port: expected a whole number <= 65535",
        f"{file}:1: upstreams[2].engine: 'vlm' is not known here; did you mean 'vllm'?",
        f"{file}:2: polcy: unknown setting 'polcy'; did you mean 'policy'?",
        f"{file}:3: timeouts.drain: expected a number > 0.0",
        f"{file}:3: timeouts.idel: unknown setting 'idel'; did you mean 'idle'?",
        "GUARD_LIMITS_RETRY_AFTER: limits.retry_after: expected a whole number, got text",
        "GUARD_LOG_HEALTHY: log.healthy: expected a number, got text",
        f"{policy}:4: retry.max_attempts: 30 is outside 1 to 10",
        f"{policy}:5: when_exhausted: 'cutt' is not known here; did you mean 'cut'?",
        "/no.pem: listen.tls: cannot be read: No such file or directory",
        "/no.txt: pool.drained_file: cannot be read: No such file or directory",
        "GUARD_LISTEN_PROT sets nothing; did you mean 'GUARD_LISTEN_PORT'?",
    ]


def test_what_goes_wrong_between_settings_is_named_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text(
        "upstreams: [{url: 'http://h:1'}, {url: 'http://h:1'}, {url: 'h:2'}]\n"
        "listen: {port: 8000}\n"
        "admin: {port: 8000}\n"
        "access: {keys: [{name: a}]}\n"
    )
    assert main(["config", "check", "--config", str(file)]) == 1
    said = capsys.readouterr().err
    for one in (
        f"{file}:1: upstreams[1].url: 'http://h:1' is upstreams[0] already",
        f"{file}:1: upstreams[2].url: 'h:2' is not a base URL",
        f"{file}:3: admin.port: 8000 is the client port already",
        f"{file}:4: access.keys[0]: this must be given: 'sha256'",
    ):
        assert one in said
    assert len(said.splitlines()) == 4


def test_a_file_that_is_none_is_one_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "guard.yaml"
    for text, says in (("a: [", "not valid YAML"), ("- 1\n", "found a list"), ("", "name at least one upstream")):
        file.write_text(text)
        assert main(["config", "check", "--config", str(file)]) == 1
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1
    assert main(["config", "check", "--config", "/nowhere.yaml"]) == 1
    assert "/nowhere.yaml: cannot be read" in capsys.readouterr().err


def test_the_table_of_variables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "env"]) == 0
    assert "| `GUARD_LISTEN_PORT` | `listen.port` |" in capsys.readouterr().out


def test_passwords_in_urls_are_masked() -> None:
    assert without_password("redis://u:hush@h:1/0") == "redis://u:***@h:1/0"
    assert without_password("redis://:hush@[::1]:1") == "redis://:***@[::1]:1"
    assert without_password("http://h/@x") == "http://h/@x"
    assert without_password(5) == 5
