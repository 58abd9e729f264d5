"""Settings that do not go together, each named by its place."""

from __future__ import annotations

import pytest

from guard.config import AccessSettings, AdminListen, Config, Listen, UpstreamSettings
from guard.config_rules import doubts, problems
from guard.observe.recorder import RecorderSettings
from guard.observe.recording import Text


@pytest.mark.parametrize(
    ("config", "where"),
    [
        (Config(upstreams=[UpstreamSettings(url="ftp://h")]), "upstreams[0].url"),
        (Config(upstreams=[UpstreamSettings(url="http://a b")]), "upstreams[0].url"),
        (Config(upstreams=[UpstreamSettings(url="http://h\n")]), "upstreams[0].url"),
        (Config(upstreams=[UpstreamSettings(url="http://.")]), "upstreams[0].url"),
        (Config(upstreams=[UpstreamSettings(url=f"http://{'a' * 64}.x")]), "upstreams[0].url"),
        (Config(upstreams=[], listen=Listen(host="")), "listen.host"),
        (Config(upstreams=[UpstreamSettings(url="http://h"), UpstreamSettings(url="http://h/")]), "upstreams[1].url"),
        (Config(upstreams=[UpstreamSettings(url="https://h", resolve="host")]), "upstreams[0].url"),
        (Config(upstreams=[], access=AccessSettings(admin_token="a", admin_token_file="b")), "access.admin_token"),
        (Config(upstreams=[], admin=AdminListen(host="0.0.0.0")), "admin.host"),
        (Config(upstreams=[UpstreamSettings(url="http://127.0.0.1:8000")]), "upstreams[0].url"),
        (Config(upstreams=[UpstreamSettings(url="http://localhost:8001/v1")]), "upstreams[0].url"),
        (Config(upstreams=[UpstreamSettings(url="http://h")], listen=Listen(host="h", port=80)), "upstreams[0].url"),
        (
            Config(upstreams=[UpstreamSettings(url="http://[::1]:8000")], listen=Listen(host="::")),
            "upstreams[0].url",
        ),
        (
            Config(upstreams=[UpstreamSettings(url="http://127.0.0.1:8000")], listen=Listen(host="::")),
            "upstreams[0].url",
        ),
        (Config(upstreams=[], recording=RecorderSettings(folder="f", prompts=True)), "recording.prompts"),
    ],
)
def test_each_has_its_place_and_a_reason(config: Config, where: str) -> None:
    ((found, reason),) = problems(config)
    assert found == where
    assert reason


def test_a_port_is_taken_once() -> None:
    def found(listen: Listen, admin: AdminListen) -> list[str]:
        made = Config(upstreams=[], listen=listen, admin=admin, access=AccessSettings(admin_token="t"))
        return [where for where, _ in problems(made)]

    for one, other in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "0.0.0.0"), ("localhost", "::1")):
        assert found(Listen(host=one, port=9), AdminListen(host=other, port=9)) == ["admin.port"]
        assert found(Listen(host=other, port=9), AdminListen(host=one, port=9)) == ["admin.port"]
    assert found(Listen(host="10.0.0.1", port=9), AdminListen(host="127.0.0.1", port=9)) == []
    assert found(Listen(port=9), AdminListen(port=10)) == []
    assert found(Listen(port=0), AdminListen(port=0)) == []


def test_a_good_one_has_none() -> None:
    for url in ("http://127.0.0.1", "http://127.0.0.2:8000", "http://h:8000", "http://[::1]:8000"):
        assert list(problems(Config(upstreams=[UpstreamSettings(url=url)]))) == []
    for url in ("http://h", "https://[::1]:8080/v1", "http://b\u00fccher.example", "http://under_score.svc:80"):
        assert list(problems(Config(upstreams=[UpstreamSettings(url=url)]))) == []


@pytest.mark.parametrize(
    ("url", "doubted"),
    [
        ("http://h/v1", True),
        ("http://h/v1/", True),
        ("http://h/team/v1", True),
        ("http://h", False),
        ("http://v1", False),
    ],
)
def test_a_url_that_ends_as_paths_begin_is_doubted_and_not_refused(url: str, doubted: bool) -> None:
    config = Config(upstreams=[UpstreamSettings(url="http://other"), UpstreamSettings(url=url)])
    assert not list(problems(config))
    assert [sentence.startswith("upstreams[1].url ends in /v1") for sentence in doubts(config)] == [True] * doubted


@pytest.mark.parametrize("text", ["scrambled", "full"])
def test_prompts_may_be_recorded_where_something_of_them_is_left(text: Text) -> None:
    config = Config(upstreams=[], recording=RecorderSettings(folder="f", prompts=True, text=text))
    assert not list(problems(config))
