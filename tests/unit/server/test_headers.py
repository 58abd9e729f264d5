"""Which headers cross the guard."""

from __future__ import annotations

from multidict import CIMultiDict

from guard.server.headers import end_to_end, for_attempt, lowered


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
        }
    )
    out = for_attempt(headers, "id-1")
    assert out["Authorization"] == "Bearer k"
    assert out["traceparent"] == "00-1"
    assert out["X-Request-Id"] == "id-1"
    assert out["Accept-Encoding"] == "identity"
    assert not {"Host", "Content-Length", "Content-Encoding", "X-Guard-Stream"} & set(out)


def test_response_headers_for_the_core_are_lower_case() -> None:
    assert lowered([("Content-Type", "a"), ("Transfer-Encoding", "chunked")]) == (("content-type", "a"),)
