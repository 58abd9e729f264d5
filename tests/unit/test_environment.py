"""Settings from environment variables: names from the structs, order of precedence, messages."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.config import Config, load
from guard.environment import apply, field_help, strangers, table, variables
from guard.errors import ConfigError
from guard.yamldoc import Document

ROOT = Path(__file__).parents[2]
URL = {"GUARD_UPSTREAMS_0_URL": "http://a"}


class Inner(msgspec.Struct, kw_only=True):
    """
    Inner.

    Args:
        level: How
            deep.
    """

    level: int = 1
    names: list[str] = []
    sizes: list[int] = []


class Outer(msgspec.Struct, kw_only=True):
    """Outer."""

    inner: Inner | None = None
    many: list[Inner] = []
    word: str | list[str] = "x"


def test_names_follow_the_structs() -> None:
    names = [variable.name for variable in variables(Outer)]
    assert names == [
        "GUARD_INNER_LEVEL", "GUARD_INNER_NAMES", "GUARD_INNER_SIZES", "GUARD_MANY", "GUARD_MANY_<N>_LEVEL",
        "GUARD_MANY_<N>_NAMES", "GUARD_MANY_<N>_SIZES", "GUARD_WORD",
    ]  # fmt: skip
    assert field_help(Inner) == {"level": "How deep."}


def test_every_setting_has_a_name_of_its_own_a_type_and_words() -> None:
    known = variables(Config)
    assert len({variable.name for variable in known}) == len(known)
    for variable in known:
        assert variable.help, variable.path
        assert "<class" not in variable.type, variable.path
        assert "tuple[" not in variable.type, variable.path
        assert not variable.default.startswith("("), variable.path


@pytest.mark.parametrize(
    ("environ", "data"),
    [
        ({"GUARD_INNER_LEVEL": "3"}, {"inner": {"level": 3}}),
        ({"GUARD_INNER_LEVEL": ""}, None),
        ({"GUARD_INNER_NAMES": "a, b"}, {"inner": {"names": ["a", "b"]}}),
        ({"GUARD_INNER_SIZES": "1,2"}, {"inner": {"sizes": [1, 2]}}),
        ({"GUARD_WORD": "80"}, {"word": "80"}),
        ({"GUARD_WORD": "[a, b]"}, {"word": ["a", "b"]}),
        ({"GUARD_MANY_1_LEVEL": "2", "GUARD_MANY_0_LEVEL": "1"}, {"many": [{"level": 1}, {"level": 2}]}),
        ({"GUARD_MANY_0_LEVEL": "9", "GUARD_MANY": "[{level: 5}, {level: 6}]"}, {"many": [{"level": 9}, {"level": 6}]}),
        ({"OTHER": "1", "GUARD_VLLM_ACCEPTANCE": "1"}, None),
    ],
)
def test_values_take_the_form_that_their_setting_has(environ: dict[str, str], data: object) -> None:
    document = Document("", None)
    apply(document, Outer, environ)
    assert document.data == data


@pytest.mark.parametrize(
    ("environ", "section", "value"),
    [
        ({"GUARD_SECOND_LOOK": "0"}, "second_look", False),
        ({"GUARD_RECORDING_FOLDER": "f", "GUARD_RECORDING_TEXT": "full", "GUARD_RECORDING_PROMPTS": "1"},
         "recording.prompts", True),
        ({"GUARD_ACCESS_FORWARD": "yes"}, "access.forward", True),
        ({"GUARD_POOL_QUALITY_KINDS": "garbled, repetition"}, "pool.quality.kinds", ("garbled", "repetition")),
        ({"GUARD_POOL_DNS_NAMESERVERS": "10.0.0.10"}, "pool.dns.nameservers", ("10.0.0.10",)),
        ({"GUARD_POOL_DNS_NAMESERVERS": "['10.0.0.10:5353', '10.0.0.11']"}, "pool.dns.nameservers",
         ("10.0.0.10:5353", "10.0.0.11")),
    ],
)  # fmt: skip
def test_truth_values_and_lists_are_written_as_variables_mostly_are(
    environ: dict[str, str], section: str, value: object
) -> None:
    found: object = load(None, URL | environ).config
    for name in section.split("."):
        found = getattr(found, name)
    assert found == value


def test_options_before_variables_before_the_file_before_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text("upstreams: [{url: http://file}]\nlisten: {port: 1}\nadmin: {port: 2}\nlog:\n  level: debug\n")
    options = [(["listen", "port"], 30, "--port")]
    loaded = load(path, {"GUARD_LISTEN_PORT": "20", "GUARD_ADMIN_PORT": "21"}, options)
    config, origin = loaded.config, loaded.document.origin
    assert (config.listen.port, config.admin.port, config.log.level) == (30, 21, "debug")
    assert [origin("listen.port"), origin("admin.port"), origin("log.level"), origin("log.format")] == [
        "--port", "GUARD_ADMIN_PORT", f"{path}:5", "default",
    ]  # fmt: skip


def test_a_section_given_in_part_keeps_its_other_defaults(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text("upstreams: [{url: http://file}]\nadmin: {host: '::1'}\n")
    assert load(path, {}).config.admin.port == 8001


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({**URL, "GUARD_LISTEN_PORT": "many"}, "GUARD_LISTEN_PORT: listen.port: expected a whole number, got text"),
        ({**URL, "GUARD_LISTEN_PORT": "[1"}, "GUARD_LISTEN_PORT: not a value in YAML's form"),
        ({"GUARD_UPSTREAMS_1_URL": "http://a"}, "GUARD_UPSTREAMS_1_URL: there are 0 of these"),
        ({"GUARD_UPSTREAMS_0_URL": "a"}, "GUARD_UPSTREAMS_0_URL: upstreams[0].url: 'a' is not a base URL"),
        ({"GUARD_UPSTREAMS_0_NAME": "a"}, "upstreams[0]: this must be given: 'url'"),
        (
            {**URL, "GUARD_LISTEN": "{port: 1}", "GUARD_ADMIN_HOST": "::"},
            "GUARD_ADMIN_HOST: admin.host: :: can be reached",
        ),
        ({}, "name a backend"),
    ],
)
def test_refusals_name_the_variable(environ: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, environ)
    assert says in str(caught.value)


def test_a_value_cannot_stand_inside_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text("upstreams: [{url: http://file}]\nlisten: 5\n")
    with pytest.raises(ConfigError, match=r"GUARD_LISTEN_PORT: listen.port: cannot be set"):
        load(path, {"GUARD_LISTEN_PORT": "1"})


def test_variables_that_set_nothing_are_named_but_not_those_of_others() -> None:
    environ = {"GUARD_LISTEN_PORTS": "1", "GUARD_VLLM_RACE_FREE": "1", "GUARD_CONFIG": "x", "GUARD_LOG_LEVEL": "info"}
    assert strangers(Config, environ) == ["GUARD_LISTEN_PORTS sets nothing; did you mean 'GUARD_LISTEN_PORT'?"]


def test_the_page_of_settings_is_the_generated_one() -> None:
    page = (ROOT / "deploy" / "SETTINGS.md").read_text(encoding="utf-8")
    assert page.endswith(table(Config)), "guard config env > (the table of) deploy/SETTINGS.md"


NAMES = [variable.name.replace("<N>", "0") for variable in variables(Config)]


@given(st.dictionaries(st.sampled_from(NAMES), st.text(), max_size=4))
def test_no_value_of_a_variable_ends_in_anything_but_a_config_error(environ: dict[str, str]) -> None:
    with contextlib.suppress(ConfigError):
        load(None, {**URL, **environ})
