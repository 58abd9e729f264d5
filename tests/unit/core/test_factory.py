"""Attempts are made with the right switches, changes and window."""

from __future__ import annotations

import json

import msgspec
import pytest

from guard.core.factory import Shown, ask, make_attempt, resume_blocker
from guard.core.holdback import Held
from guard.core.settings import ExchangeSettings, Target
from guard.policy.judge import Judge
from guard.policy.schema import Leaf, Rule
from guard.proto.openai import ClientRequest, Route, parse_request
from guard.proto.responses import RESPONSES
from guard.types import Action, Capabilities, Change, Kind, ReplicaId, RequestId, SignalRef, Unit, Window
from tests.unit.core.transcript import policy


def request(**fields: object) -> ClientRequest:
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True, **fields}
    return parse_request(Route.CHAT, json.dumps(body).encode())


def body_of(
    engine: str,
    *,
    number: int = 1,
    mode: str = "first",
    shown: Shown | None = None,
    exact_stops: bool = False,
    **fields: object,
) -> dict:
    settings = ExchangeSettings(request_id=RequestId("r1"), judge=Judge(policy()), nonce="r1")
    target = Target(ReplicaId("a"), engine, exact_stops=exact_stops)
    asked = ask(
        request(**fields),
        settings,
        target,
        number=number,
        mode=mode,
        shown=shown or Shown(),
        wanted=(Change.CACHE, Change.SEED) if number > 1 else (),
        verdicts=number - 1,
    )
    return json.loads(asked.body)


@pytest.mark.parametrize(
    ("engine", "switch"),
    [
        ("llama.cpp", {"timings_per_token": True}),
        ("vllm", {"return_token_ids": True, "vllm_xargs": {"guard_acceptance": 1}}),
    ],
)
def test_the_engines_signal_is_switched_on(engine: str, switch: dict[str, object]) -> None:
    assert switch.items() <= body_of(engine).items()


@pytest.mark.parametrize(
    ("exact", "fields", "told"),
    [
        (True, {"stop": "x"}, True),
        (True, {"stop": ["x", "y"]}, True),
        (True, {"stop": "x", "verbose": False}, True),
        (True, {"stop": []}, False),
        (True, {}, False),
        (False, {"stop": "x"}, False),
        # Not streamed, nothing shows of what the guard asked for.
        (True, {"stop": "x", "stream": False}, False),
    ],
)
def test_beside_stop_words_the_engine_is_asked_what_ended_the_answer(
    exact: bool, fields: dict[str, object], told: bool
) -> None:
    body = body_of("llama.cpp", exact_stops=exact, **fields)
    assert body["timings_per_token"] is True
    assert body.get("verbose", False) is told


def test_where_it_would_not_tell_it_is_not_asked_for_acceptance() -> None:
    asked = RESPONSES.parse("/v1/responses", b'{"input": "hi", "stream": true, "stop": ["x"]}')
    settings = ExchangeSettings(request_id=RequestId("r1"), judge=Judge(policy()), nonce="r1")
    for exact, asks in ((True, False), (False, True)):
        target = Target(ReplicaId("a"), "llama.cpp", exact_stops=exact)
        body = ask(asked, settings, target, number=1, mode="first", shown=Shown()).body
        assert json.loads(body).get("timings_per_token", False) is asks


def test_what_a_client_asks_for_itself_is_read_beside_stop_words_too() -> None:
    own, shown = request(stop="x", timings_per_token=True), Shown()
    settings = ExchangeSettings(request_id=RequestId("r1"), judge=Judge(policy()), nonce="r1")
    target = Target(ReplicaId("a"), "llama.cpp", exact_stops=True)
    asked = ask(own, settings, target, number=1, mode="first", shown=shown)
    attempt = make_attempt(own, settings, asked, shown)
    assert json.loads(asked.body)["timings_per_token"] is True
    timings = {"predicted_n": 2, "draft_n": 3, "draft_n_accepted": 1}
    chunk = {"choices": [{"index": 0, "delta": {"content": "a"}}], "timings": timings}
    (event,) = attempt.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    attempt.judge(event, watch=True)
    assert (attempt.record.accepted, attempt.record.drafted) == ([1], [3])


def test_an_unknown_backend_is_sent_what_the_client_sent() -> None:
    assert body_of("text") == {"messages": [{"role": "user", "content": "hi"}], "stream": True}


def test_a_restart_changes_the_cache_and_the_seed() -> None:
    body = body_of("llama.cpp", number=2, mode="restart", seed=5)
    assert body["cache_prompt"] is False
    assert body["seed"] == 6


def test_the_first_attempt_changes_nothing_else() -> None:
    body = body_of("llama.cpp", seed=5)
    assert body["seed"] == 5
    assert "cache_prompt" not in body


def shown_text(text: str, tokens: int) -> Shown:
    class NoAttempt:
        identity = None
        fragile = ""
        finished = ()

    shown = Shown()
    shown.note([Held(b"", text, tokens, tokens)], NoAttempt())  # type: ignore[arg-type]
    return shown


def test_a_resume_carries_the_shown_text() -> None:
    body = body_of("vllm", number=2, mode="resume", shown=shown_text("So far", 2), max_tokens=10)
    assert body["messages"][-1] == {"role": "assistant", "content": "So far"}
    assert body["continue_final_message"] is True
    assert body["max_tokens"] == 8


@pytest.mark.parametrize(
    ("engine", "fields", "says"),
    [
        ("vllm", {}, ""),
        ("llama.cpp", {}, ""),
        ("sglang", {}, "sglang backends"),
        ("text", {}, "text backends"),
        ("vllm", {"tools": [{}]}, "tools"),
    ],
)
def test_what_blocks_a_resume(engine: str, fields: dict[str, object], says: str) -> None:
    blocker = resume_blocker(request(**fields), Target(ReplicaId("r"), engine), Shown())
    assert bool(blocker) == bool(says)
    assert says in blocker


def test_begun_reasoning_blocks_a_resume() -> None:
    shown = Shown()
    shown.fragile = "reasoning was begun"
    assert resume_blocker(request(), Target(ReplicaId("r"), "vllm"), shown) == "reasoning was begun"


def test_a_backend_that_was_tried_and_does_not_continue_is_not_asked_to() -> None:
    proven = Capabilities("vllm", "1", resume_chat=False, resume_completions=True)
    target = Target(ReplicaId("r"), "vllm", capabilities=proven)
    assert "was tried" in resume_blocker(request(), target, Shown())
    unseen = Target(ReplicaId("r"), "vllm", capabilities=Capabilities("vllm", "1"))
    assert resume_blocker(request(), unseen, Shown()) == ""


def asks(engine: str, route: Route = Route.CHAT, **fields: object) -> dict[str, object]:
    """What the request says of log-probabilities, under a policy that reads them."""
    leaf = Leaf(signal=SignalRef("logprob_mean", Window(16, Unit.TOKENS)), zero=-2.0, one=-4.0, step=False)
    rule = Rule(name="unlikely", kind=Kind.GARBLED, action=Action.RETRY, when=leaf)
    judge = Judge(msgspec.structs.replace(policy(), rules=(rule,)))
    settings = ExchangeSettings(request_id=RequestId("r1"), judge=judge, nonce="r1")
    said = {"prompt": "hi"} if route is Route.COMPLETIONS else {"messages": [{"role": "user", "content": "hi"}]}
    asked = parse_request(route, json.dumps({**said, "stream": True, **fields}).encode())
    made = ask(asked, settings, Target(ReplicaId("a"), engine), number=1, mode="first", shown=Shown(), wanted=())
    return {name: value for name, value in json.loads(made.body).items() if name in ("logprobs", "top_logprobs")}


def test_a_policy_that_reads_log_probabilities_has_vllm_tell_them() -> None:
    assert asks("vllm") == {"logprobs": True}
    assert asks("vllm", Route.COMPLETIONS) == {"logprobs": 0}
    assert asks("vllm", Route.COMPLETIONS, logprobs=3) == {"logprobs": 3}
    assert asks("vllm", logprobs=True, top_logprobs=5) == {"logprobs": True, "top_logprobs": 5}
    assert asks("vllm", n=2) == {"logprobs": True}


def test_where_they_could_not_be_taken_out_again_the_client_alone_asks() -> None:
    assert asks("llama.cpp") == asks("sglang") == asks("text") == {}
    assert asks("llama.cpp", logprobs=True) == {"logprobs": True}
    assert asks("vllm", Route.COMPLETIONS, echo=True) == {}
