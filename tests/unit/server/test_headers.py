"""Which headers cross the guard."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from guard.server.headers import end_to_end, for_attempt, led_home, lowered


def test_headers_of_the_connection_stay_behind_those_it_names_too() -> None:
    headers = CIMultiDict([("Connection", "close, X-Hop"), ("X-Hop", "1"), ("TE", "trailers"), ("X-Keep", "1")])
    assert list(end_to_end(headers)) == ["X-Keep"]


def test_repeated_headers_are_kept() -> None:
    headers = CIMultiDict([("X-A", "1"), ("X-A", "2")])
    assert end_to_end(headers).getall("X-A") == ["1", "2"]


def test_an_attempt_carries_the_clients_key_but_not_the_guards_switches() -> None:
    headers = CIMultiDict(
        {
            "Authorization": "Bearer k",
            "traceparent": "00-1",
            "Host": "guard",
            "Content-Length": "5",
            "Accept-Encoding": "gzip",
            "Content-Encoding": "gzip",
            "X-Guard-Stream": "acceptance",
            "Content-Type": "text/plain",
            "x-request-id": "another",
        }
    )
    headers.add("X-Custom", "one")
    headers.add("X-Custom", "two")
    out = for_attempt(headers, "id-1")
    assert out["Authorization"] == "Bearer k"
    assert out["traceparent"] == "00-1"
    assert out.getall("X-Request-Id") == ["id-1"]
    assert out.getall("Content-Type") == ["application/json"]
    assert out.getall("X-Custom") == ["one", "two"]
    assert out["Accept-Encoding"] == "identity"
    assert not {"Host", "Content-Length", "Content-Encoding", "X-Guard-Stream"} & set(out)


def test_response_headers_for_the_core_are_lower_case() -> None:
    assert lowered([("Content-Type", "a"), ("Transfer-Encoding", "chunked")]) == (("content-type", "a"),)


def test_of_two_guards_in_a_row_the_outer_speaks_for_itself() -> None:
    assert lowered([("X-Guard-Policy", "inner"), ("X-Request-Id", "r")]) == (("x-request-id", "r"),)


@pytest.mark.parametrize(
    ("upstream", "place", "seen"),
    [
        ("http://b:8080", "http://b:8080/v1/chat/completions?x=%20#y", "/v1/chat/completions?x=%20#y"),
        ("http://b:8080", "//B:8080/v1", "/v1"),
        ("http://b:8080", "http://b:8080", "/"),
        ("http://b:8080", "http://b:8080//evil.example/x", "/evil.example/x"),
        ("http://b", "http://b:80/x", "/x"),
        ("https://b", "http://b/x", "/x"),
        ("http://[::1]:8080", "http://[::1]:8080/x", "/x"),
        ("http://b:8080/team", "http://b:8080/team/v1", "/v1"),
        ("http://b:8080/team", "/team/v1", "/v1"),
        ("http://b:8080", "/v1", "/v1"),
    ],
)
def test_a_redirect_to_the_backend_itself_leads_back_to_the_guard(upstream: str, place: str, seen: str) -> None:
    assert led_home(CIMultiDict({"location": place}), upstream)["Location"] == seen


@pytest.mark.parametrize(
    "place",
    [
        "http://elsewhere/x",
        "http://b:9090/x",
        "ftp://b:8080/x",
        "http://b:8080/other",
        "x",
        "",
        "?a",
        "http://[",
        "http://b:x/",
    ],
)
def test_a_redirect_elsewhere_stays_as_it_is(place: str) -> None:
    assert led_home(CIMultiDict({"Location": place}), "http://b:8080/team")["Location"] == place
