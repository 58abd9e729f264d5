"""What a family does unless it says otherwise."""

from __future__ import annotations

import pytest

from guard.proto.family import Family
from guard.proto.openai import CHAT, Route, parse_request


def test_the_defaults_are_the_safe_ones() -> None:
    request = parse_request(Route.CHAT, b'{"messages": [], "temperature": 1}')
    assert Family.stream_fields(CHAT, request) == {"stream": True}
    assert Family.stream_hazards(CHAT, request, "vllm") == ()
    assert Family.switches(CHAT, request, "vllm", {"return_token_ids": True}) == {}
    assert Family.sampling(CHAT, request) == request.body
    assert Family.changes(CHAT, request, "vllm", {"seed": 1}) == {"seed": 1}
    assert Family.rid_field(CHAT, request) == ""
    assert "cannot continue" in Family.resume_blocker(CHAT, "vllm")
    assert Family.end_choice(CHAT, b"{}", 0) == b""
    with pytest.raises(ValueError, match="cannot continue"):
        Family.resume_fields(CHAT, request, "text", 1, "vllm")
