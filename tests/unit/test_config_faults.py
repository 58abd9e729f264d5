"""All that is wrong with a configuration: what follows from a fault is none."""

from __future__ import annotations

from pathlib import Path

from guard.config_faults import find_faults


def said(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "guard.yaml"
    file.write_text(text)
    return [str(error).removeprefix(f"{file}:").strip() for error in find_faults(file, {})[1]]


def test_a_setting_that_was_left_out_is_not_said_to_be_missing(tmp_path: Path) -> None:
    """Without the token the admin port could not be where it is; but there is one, which is wrong."""
    text = "upstreams: [{url: 'http://h:1'}]\nadmin: {host: 0.0.0.0}\naccess: {admin_token: 5, other_paths: [v1]}\n"
    assert said(tmp_path, text) == [
        "3: access.admin_token: expected text or nothing, got a whole number; put it in quotes",
        "3: access.other_paths[0]: expected a path without ? and #, such as /v1/models",
    ]


def test_upstreams_that_are_wrong_are_not_said_to_be_none(tmp_path: Path) -> None:
    assert said(tmp_path, "upstreams: 5\ntimeouts: {idle: x}\n") == [
        "1: upstreams: expected a list, got a whole number; settings of each item are url, resolve, name, engine,"
        " num_speculative_tokens, profile, exact_stops",
        "2: timeouts.idle: expected a number, got text",
    ]
    assert said(tmp_path, "timeouts: {idle: x}\n") == [
        "upstreams: name at least one upstream",
        "1: timeouts.idle: expected a number, got text",
    ]


def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text("upstreams: [{url: 'http://h:1'}]\n")
    config, found = find_faults(file, {"GUARD_LISTEN_PORT": "9000"}, [(["admin", "port"], 9001, "--admin-port")])
    assert not found
    assert config is not None
    assert (config.listen.port, config.admin.port) == (9000, 9001)
