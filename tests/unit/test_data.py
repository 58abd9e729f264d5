"""Data folders are found in a checkout and in an installed wheel."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from guard import data
from guard.cli import main
from guard.errors import ConfigError


def test_beside_the_package_in_a_checkout() -> None:
    assert (data.data_dir("policies") / "default.yaml").is_file()
    assert data.data_dir("draft_models").is_dir()


def test_inside_the_package_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "guard" / "_data" / "policies"
    inside.mkdir(parents=True)
    monkeypatch.setattr(data, "_PACKAGE", tmp_path / "guard")
    assert data.data_dir("policies") == inside


def test_a_text_file_may_have_any_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("\u00e9\r\nb\rc\n".encode())
    assert data.read_text(tmp_path / "a") == "\u00e9\nb\nc\n"


@pytest.mark.parametrize(
    ("data_in_it", "says"),
    [
        (b"a: 1\nname: m\xe9ne\n", ":2: not UTF-8: there is a byte 0xe9 in it; save it as UTF-8"),
        ("name: a\n".encode("utf-16"), ": it is UTF-16; save it as UTF-8"),
    ],
)
def test_text_of_another_encoding_is_told_with_its_line_and_what_to_do(
    tmp_path: Path, data_in_it: bytes, says: str
) -> None:
    (tmp_path / "a").write_bytes(data_in_it)
    with pytest.raises(ConfigError) as caught:
        data.read_text(tmp_path / "a")
    assert str(caught.value) == f"{tmp_path / 'a'}{says}"


def test_what_is_no_regular_file_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "a", tmp_path / "missing"):
        data.check_regular(path)
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(ConfigError, match="no regular file"):
            data.check_regular(path)


def test_a_relative_path_is_told_with_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        data.read_text(Path("folder/keys"), "access.keys_file")
    assert str(caught.value) == (
        f"folder/keys: access.keys_file: cannot be read: No such file or directory "
        f"(looked for at {tmp_path}/folder/keys)"
    )
    assert data.looked_for(tmp_path / "keys") == ""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert data.looked_for("keys") == ""


#: Every setting that names a file, in a configuration that is good but for that file.
FILES = {
    "policy": {"policy": "a.file"},
    "shadow_policy": {"shadow_policy": "a.file"},
    "profile": {"upstreams": [{"url": "http://h", "profile": "a.file"}]},
    "pool.drained_file": {"pool": {"drained_file": "a.file"}},
    "access.keys_file": {"access": {"keys_file": "a.file"}},
    "access.upstream_key_file": {"access": {"upstream_key_file": "a.file"}},
    "access.admin_token_file": {"access": {"admin_token_file": "a.file"}},
    "listen.tls": {"listen": {"tls": {"cert": "a.file", "key": "a.file"}}},
    "admin.tls": {"admin": {"tls": {"cert": "a.file", "key": "a.file"}}},
    "upstream_tls": {"upstream_tls": {"cert": "a.file", "key": "a.file"}},
    "upstream_tls.ca": {"upstream_tls": {"ca": "a.file"}},
    "store.password_file": {"store": {"url": "redis://h", "password_file": "a.file"}},
    "store.tls.ca_file": {"store": {"url": "rediss://h", "tls": {"ca_file": "a.file"}}},
}


@pytest.mark.parametrize("setting", FILES)
def test_every_setting_that_names_a_missing_file_says_where_it_was_looked_for(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "etc").mkdir()
    document = {"upstreams": [{"url": "http://h"}], **FILES[setting]}
    (tmp_path / "etc" / "guard.yaml").write_text(json.dumps(document))
    assert main(["config", "check", "--config", "etc/guard.yaml"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("a.file: ")
    assert f"(looked for at {tmp_path}/a.file)" in said
    where = "upstreams[0].profile: no such profile" if setting == "profile" else f"{setting}: cannot be read"
    assert f": {where}" in said
