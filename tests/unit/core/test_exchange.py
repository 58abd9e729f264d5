"""The exchange, as transcripts: what the backend does, what the client sees."""

from __future__ import annotations

import json
import math

import msgspec
import pytest

from guard.core.events import ClientGone, UpstreamData, UpstreamEnd, UpstreamFailed, UpstreamHead
from guard.core.record import Outcome
from guard.errors import UpstreamError
from guard.policy.schema import HoldBack, HoldMode, Leaf, Policy, Retry, Rule
from guard.proto.sse import MAX_EVENT_BYTES
from guard.types import Action, Kind, SignalRef, Unit, WhenExhausted, Window
from tests.unit.core.transcript import BAD, DONE, DOUBT, FULL, SSE, WINDOW_8, Client, chunk, policy


def test_a_healthy_stream_passes_as_it_came() -> None:
    client = Client(policy())
    client.head()
    pieces = [chunk("Hello"), chunk(" world", finish="stop")]
    client.data(*pieces, DONE)
    client.end()
    body, comment, done = client.sent.partition(b": guard ")
    # The acceptance arrays were the guard's own wish; everything else is as it came.
    assert [json.loads(line[6:]) for line in body.decode().split("\n\n") if line] == [
        {k: v for k, v in json.loads(piece[6:]).items() if k != "metrics"} for piece in pieces
    ]
    assert comment
    assert done.endswith(b"\n\n" + DONE)
    assert client.finished == [True]
    assert client.aborted == []
    assert client.exchange.record.outcome is Outcome.HEALTHY
    assert client.headers["x-guard-policy"] == "test"


@pytest.mark.parametrize("stream", [True, False])
def test_an_event_too_large_at_the_very_end_is_a_fault_after_what_came_before_it(stream: bool) -> None:
    client = Client(policy(attempts=1), stream=stream)
    client.head()
    client.data(chunk("Hello") + b"data: " + b"x" * MAX_EVENT_BYTES)
    client.end()
    assert client.exchange.record.outcome is Outcome.UPSTREAM_ERROR
    assert client.error is not None
    assert client.aborted == []
    assert client.finished == [True]
    assert client.text == ("Hello" if stream else "")


def test_chunks_pass_at_once_while_suspicion_is_low() -> None:
    client = Client(policy())
    client.head()
    client.data(chunk("Hello"))
    assert client.text == "Hello"


def test_bad_text_before_any_release_restarts_and_only_the_healthy_answer_is_seen() -> None:
    client = Client(policy())
    client.head()
    client.data(chunk(BAD))
    assert client.aborted == [1]
    assert client.opened[1]["cache_salt"] == "guard-r1-2"
    assert client.opened[1]["messages"] == [{"role": "user", "content": "hi"}]
    client.head()
    client.data(chunk("Fine", finish="stop"), DONE)
    client.end()
    assert client.text == "Fine"
    assert client.exchange.record.outcome is Outcome.RESCUED
    assert client.exchange.record.tokens_burned == 1
    assert client.exchange.record.tokens_shown == 3


def test_nothing_of_the_bad_span_is_released_after_suspicion_rose() -> None:
    client = Client(policy())
    client.head()
    client.data(chunk("Good text "), chunk(DOUBT), chunk("more" + DOUBT), chunk(BAD))
    assert client.text == "Good text "
    assert client.aborted == [1]


def test_held_text_is_released_when_suspicion_falls() -> None:
    client = Client(policy())
    client.head()
    client.data(chunk("Good text "), chunk(DOUBT))
    assert client.text == "Good text "
    client.data(chunk(" fine again"))
    assert client.text == f"Good text {DOUBT} fine again"


def test_after_release_the_next_attempt_continues_the_released_text() -> None:
    client = Client(policy(), max_tokens=10)
    client.head()
    client.data(chunk("One "), chunk("two "), chunk(BAD))
    resumed = client.opened[1]
    assert resumed["messages"][-1] == {"role": "assistant", "content": "One two "}
    assert resumed["max_tokens"] == 4
    client.head()
    client.data(chunk("three", finish="stop"), DONE)
    client.end()
    assert client.text == "One two three"


def test_a_resumed_stream_keeps_the_first_attempts_id() -> None:
    client = Client(policy())
    client.head()
    client.data(chunk("One "), chunk(BAD))
    client.head()
    client.data(chunk("two", finish="stop", id="c2", created=9), DONE)
    client.end()
    ids = {json.loads(line[6:])["id"] for line in client.sent.decode().splitlines() if line.startswith("data: {")}
    assert ids == {"c1"}


@pytest.mark.parametrize(
    "fields",
    [{"tools": [{"type": "function"}]}, {"logprobs": True}, {"response_format": {"type": "json_object"}}],
)
def test_a_text_that_cannot_be_continued_safely_is_cut_with_an_error(fields: dict[str, object]) -> None:
    client = Client(policy(), **fields)
    client.head()
    client.data(chunk("One "), chunk(BAD))
    assert len(client.opened) == 1
    assert client.error is not None
    assert client.error["code"] == "guard_exhausted"
    assert "cannot resume" in client.error["message"]
    assert DONE not in client.sent
    assert client.aborted == [1]


@pytest.mark.parametrize(("most", "continued"), [(2, True), (1, False)])
def test_past_the_bound_on_bad_text_that_was_shown_nothing_is_continued(most: int, continued: bool) -> None:
    signal = SignalRef("acceptance_rate", Window(3, Unit.STEPS))
    late = Rule(
        name="late", kind=Kind.GARBLED, action=Action.RETRY, when=Leaf(signal=signal, zero=1.0, one=0.0, step=False)
    )
    unheld = HoldBack(mode=HoldMode.OFF)
    client = Client(Policy(name="p", rules=(late,), hold_back=unheld, retry=Retry(max_bad_shown=most)))
    client.head()
    client.data(*[chunk("fine ")] * 8, *[chunk(BAD)] * 3)
    # Two of three had left when the third decided.
    assert client.text == "fine " * 8 + BAD * 2
    assert client.exchange.record.bad_tokens_shown == 2
    assert client.exchange.record.summary()["bad_tokens_shown"] == 2
    assert (client.attempt == 2) is continued
    if not continued:
        assert client.error is not None
        assert "2 bad tokens were shown" in client.error["message"]
        assert client.finished == [True]
        assert DONE not in client.sent


def test_used_up_attempts_end_in_an_honest_error_event() -> None:
    client = Client(policy(attempts=2))
    client.head()
    client.data(chunk("One "), chunk(BAD))
    client.head()
    client.data(chunk(BAD))
    assert client.error is not None
    assert client.error["code"] == "guard_exhausted"
    assert DONE not in client.sent
    assert client.aborted == [1, 2]
    assert client.finished == [True]
    assert client.exchange.record.outcome is Outcome.EXHAUSTED
    assert client.text == "One "


def test_used_up_before_any_release_is_a_plain_http_error_that_sdks_do_not_repeat() -> None:
    client = Client(policy(attempts=1))
    client.head()
    client.data(chunk(BAD))
    assert client.status == 502
    assert client.headers["x-should-retry"] == "false"
    assert client.error is not None
    assert client.error["code"] == "guard_exhausted"


def test_used_up_with_pass_lets_the_last_attempt_through() -> None:
    client = Client(policy(attempts=1, exhausted=WhenExhausted.PASS))
    client.head()
    client.data(chunk(BAD), chunk("rest", finish="stop"), DONE)
    client.end()
    assert client.text == BAD + "rest"
    assert client.exchange.record.outcome is Outcome.NOTED


def test_note_changes_nothing_for_the_client() -> None:
    client = Client(policy(Action.NOTE))
    client.head()
    client.data(chunk("a" + BAD), chunk("b", finish="stop"), DONE)
    client.end()
    assert client.text == "a" + BAD + "b"
    assert client.aborted == []
    assert client.exchange.record.outcome is Outcome.NOTED
    assert client.exchange.record.attempts[0].verdict == "note"


def test_after_a_note_a_severer_rule_can_still_act() -> None:
    doubt = Leaf(signal=SignalRef("acceptance_rate", Window(1, Unit.STEPS)), zero=0.9, one=-math.inf, step=True)
    noted = Rule(name="doubt", kind=Kind.REPETITION, action=Action.NOTE, when=doubt)
    both = policy(hold=FULL)
    client = Client(msgspec.structs.replace(both, rules=(noted, *both.rules)))
    client.head()
    client.data(chunk(DOUBT))
    assert client.exchange.record.outcome is Outcome.NOTED
    client.data(chunk(BAD))
    assert client.aborted == [1]
    client.head()
    client.data(chunk("Fine", finish="stop"), DONE)
    client.end()
    assert client.text == "Fine"
    assert client.exchange.record.outcome is Outcome.RESCUED


def test_a_kind_can_have_attempts_of_its_own() -> None:
    once = msgspec.structs.replace(policy(attempts=3), kind_attempts={Kind.GARBLED: 1})
    client = Client(once)
    client.head()
    client.data(chunk(BAD))
    assert client.attempt == 1
    assert client.exchange.record.outcome is Outcome.EXHAUSTED
    client = Client(once)
    client.give(UpstreamFailed(1, UpstreamError("reset", "gone")))
    assert client.attempt == 2


def test_cut_ends_with_an_error_and_no_done() -> None:
    client = Client(policy(Action.CUT))
    client.head()
    client.data(chunk("fine "), chunk(BAD))
    assert client.error is not None
    assert client.error["code"] == "guard_cut"
    assert client.text == "fine "
    assert client.aborted == [1]


def test_a_fixed_window_keeps_the_latest_tokens_back() -> None:
    client = Client(policy(hold=WINDOW_8))
    client.head()
    words = [f"w{i} " for i in range(10)]
    client.data(*[chunk(word) for word in words])
    # Chunks carry three tokens each: eight tokens are the last three chunks.
    assert client.text == "".join(words[:7])
    client.data(chunk("", finish="stop"), DONE)
    client.end()
    assert client.text == "".join(words)


def test_a_full_buffer_restarts_whatever_came_before() -> None:
    client = Client(policy(hold=FULL))
    client.head()
    client.data(*[chunk(f"w{i} ") for i in range(50)], chunk(BAD))
    assert client.status is None
    client.head()
    client.data(chunk("Fine", finish="stop"), DONE)
    client.end()
    assert client.text == "Fine"


# -- not streamed -----------------------------------------------------------------------------------


def test_not_streamed_is_streamed_upstream_and_put_together() -> None:
    client = Client(policy(), stream=False)
    assert client.opened[0]["stream"] is True
    client.head()
    client.data(chunk("Hello "), chunk("world"), chunk("", finish="stop"), DONE)
    client.end()
    answer = json.loads(client.sent)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "Hello world"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert client.headers["x-guard-verdict"] == "healthy"
    assert client.headers["x-guard-attempts"] == "1"


def test_not_streamed_restarts_even_after_much_good_text() -> None:
    client = Client(policy(), stream=False)
    client.head()
    client.data(chunk("Good "), chunk("good "), chunk(BAD))
    assert client.opened[1]["messages"] == [{"role": "user", "content": "hi"}]
    client.head()
    client.data(chunk("Clean", finish="stop"), DONE)
    client.end()
    assert json.loads(client.sent)["choices"][0]["message"]["content"] == "Clean"
    assert client.headers["x-guard-attempts"] == "2"
    assert client.exchange.record.tokens_burned == 7


# -- faults -------------------------------------------------------------------------------------------


def test_the_backends_own_error_answer_passes_as_it_is() -> None:
    client = Client(policy())
    client.give(UpstreamHead(1, 404, (("content-type", "application/json"), ("x-a", "b"))))
    client.data(b'{"error": "no such model"}')
    client.end()
    assert client.status == 404
    assert client.sent == b'{"error": "no such model"}'
    assert client.headers["x-a"] == "b"
    assert client.finished == [True]


def test_an_unreachable_backend_is_a_502_after_the_attempts() -> None:
    client = Client(policy(attempts=2))
    for number in (1, 2):
        client.give(UpstreamFailed(number, UpstreamError("connect", "cannot reach the backend")))
    assert client.status == 502
    assert client.error is not None
    assert client.error["code"] == "upstream_connect"
    assert client.aborted == []
    assert client.exchange.record.outcome is Outcome.UPSTREAM_ERROR


def test_a_silent_backend_is_a_504() -> None:
    client = Client(policy(attempts=1))
    client.give(UpstreamFailed(1, UpstreamError("timeout", "did not answer in time")))
    assert client.status == 504


def test_a_cut_stream_never_looks_complete() -> None:
    client = Client(policy(attempts=1))
    client.head()
    client.data(chunk("Half of "))
    client.end()
    assert client.error is not None
    assert client.error["code"] == "upstream_truncated"
    assert DONE not in client.sent
    assert client.text == "Half of "


def test_a_cut_stream_is_continued_by_the_next_attempt() -> None:
    client = Client(policy())
    client.head()
    client.data(chunk("Half of "))
    client.give(UpstreamFailed(1, UpstreamError("reset", "closed")))
    assert client.opened[1]["messages"][-1]["content"] == "Half of "
    client.head()
    client.data(chunk("it.", finish="stop"), DONE)
    client.end()
    assert client.text == "Half of it."
    assert client.aborted == []


def test_an_answer_that_ended_without_done_is_whole_but_no_done_is_made_up() -> None:
    client = Client(policy())
    client.head()
    client.data(chunk("All", finish="stop"))
    client.end()
    assert client.text == "All"
    assert DONE not in client.sent
    assert client.error is None


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"data: {broken\n\n", "event 2"),
        (b'data: {"choices": 5}\n\n', "event 2"),
        (b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n', "event 2"),
    ],
)
def test_malformed_chunks_name_the_event_and_lose_nothing_before_them(data: bytes, says: str) -> None:
    client = Client(policy(attempts=1))
    client.head()
    client.data(chunk("Before ") + data)
    assert client.text == "Before "
    assert client.error is not None
    assert client.error["code"] == "upstream_protocol"
    assert says in client.error["message"]
    assert client.aborted == [1]


def test_an_error_event_before_any_text_passes_as_the_backend_said_it() -> None:
    client = Client(policy())
    client.head()
    event = b'data: {"error": {"message": "bad request", "code": 400}}\n\n'
    client.data(chunk("") + event + DONE)
    client.end()
    assert client.status == 200
    assert client.sent.endswith(event + DONE)
    assert client.finished == [True]


def test_an_error_event_for_a_whole_answer_is_the_error_it_would_have_been() -> None:
    client = Client(policy(), stream=False)
    client.head()
    client.data(b'data: {"error": {"message": "bad request", "code": 400}}\n\n' + DONE)
    assert client.status == 400
    assert client.error == {"message": "bad request", "code": 400}


def test_an_error_event_of_the_backend_passes_and_no_done_is_added() -> None:
    client = Client(policy())
    event = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
    client.head()
    client.data(chunk("Some "), event)
    client.end()
    assert client.sent.endswith(event)
    assert client.finished == [True]


# -- the client leaves ----------------------------------------------------------------------------------


def test_client_gone_before_the_head_aborts_once() -> None:
    client = Client(policy())
    client.give(ClientGone())
    client.give(ClientGone())
    assert client.aborted == [1]
    assert client.exchange.record.outcome is Outcome.CLIENT_GONE


def test_client_gone_in_the_stream_aborts_once() -> None:
    client = Client(policy())
    client.head()
    client.data(chunk("One "))
    client.give(ClientGone())
    client.give(UpstreamData(1, chunk("two")))
    assert client.aborted == [1]


def test_client_gone_after_a_retry_aborts_only_the_live_attempt() -> None:
    client = Client(policy())
    client.head()
    client.data(chunk(BAD))
    client.give(ClientGone())
    assert client.aborted == [1, 2]


def test_client_gone_after_the_answer_was_whole_is_no_abandonment() -> None:
    client = Client(policy())
    client.head()
    client.data(chunk("Hi", finish="stop"), DONE)
    client.give(ClientGone())
    assert client.exchange.record.outcome is Outcome.HEALTHY


def test_events_of_an_earlier_attempt_are_ignored() -> None:
    client = Client(policy())
    client.head()
    client.data(chunk(BAD))
    assert client.give(UpstreamData(1, chunk("late"))) == []
    assert client.give(UpstreamEnd(1)) == []
    client.give(UpstreamHead(2, 200, SSE))
    client.data(chunk("Fine", finish="stop"), DONE)
    client.end()
    assert client.text == "Fine"


def test_comments_pass_in_their_place() -> None:
    client = Client(policy())
    client.head()
    client.data(chunk("a"), b": ping\n\n", chunk("b", finish="stop"), DONE)
    client.end()
    assert client.sent.index(b": ping") > client.sent.index(b'"a"')
    assert client.sent.index(b": ping") < client.sent.index(b'"b"')


def test_live_samples_are_told_only_while_somebody_listens() -> None:
    client = Client(policy())
    client.head()
    assert not any(type(c).__name__ == "Observed" for c in client.give(UpstreamData(1, chunk("a"))))
    client.exchange.live = True
    assert any(type(c).__name__ == "Observed" for c in client.give(UpstreamData(1, chunk("b"))))


def test_a_restart_sends_the_role_chunk_of_the_attempt_that_is_seen() -> None:
    role = b'data: {"id":"c1","created":1,"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
    client = Client(policy(hold=FULL))
    client.head()
    client.data(role, chunk(BAD))
    client.head()
    client.data(role.replace(b"c1", b"c2"), chunk("Fine", finish="stop", id="c2"), DONE)
    client.end()
    assert client.sent.count(b'"role":"assistant"') == 1
    assert b"c1" not in client.sent


def test_a_last_event_without_its_blank_line_still_counts() -> None:
    client = Client(policy())
    client.head()
    stream = (chunk("All", finish="stop") + DONE).replace(b"\n", b"\r")
    client.data(stream)
    client.end()
    assert client.text == "All"
    assert client.finished == [True]


def test_nothing_is_resumed_past_the_clients_token_limit() -> None:
    client = Client(policy(), max_tokens=3)
    client.head()
    client.data(chunk("One "), chunk(BAD))
    assert client.error is not None
    assert "token limit" in client.error["message"]


# -- several choices ----------------------------------------------------------------------------------


def of_choice(index: int, text: str, finish: str | None = None) -> bytes:
    body = json.loads(chunk(text, finish=finish)[6:])
    body["choices"][0]["index"] = index
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def by_choice(sent: bytes) -> dict[int, tuple[str, str | None]]:
    out: dict[int, tuple[str, str | None]] = {}
    for line in sent.decode().splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                text, finish = out.get(choice["index"], ("", None))
                said = choice["delta"].get("content") or ""
                out[choice["index"]] = (text + said, choice["finish_reason"] or finish)
    return out


def test_a_bad_choice_ends_alone_and_the_good_one_goes_on() -> None:
    client = Client(policy(), n=2)
    client.head()
    client.data(of_choice(0, "One "), of_choice(1, "Uno "), of_choice(1, BAD), of_choice(0, "two"))
    client.data(of_choice(1, "more"), of_choice(1, "", "stop"), of_choice(0, "", "stop"), DONE)
    client.end()
    assert by_choice(client.sent) == {0: ("One two", "stop"), 1: ("Uno ", "content_filter")}
    assert client.aborted == []
    assert client.sent.endswith(DONE)
    record = client.exchange.record
    assert record.outcome is Outcome.CUT
    assert "choice 1 was ended" in record.plan_reason
    assert record.tokens_shown + record.tokens_burned == record.attempts[0].tokens


def test_what_is_held_of_the_bad_choice_is_dropped_and_of_the_good_one_sent() -> None:
    client = Client(policy(), n=2)
    client.head()
    client.data(of_choice(0, "One "), of_choice(1, "Uno "), of_choice(1, DOUBT), of_choice(0, "two"))
    assert by_choice(client.sent) == {0: ("One ", None), 1: ("Uno ", None)}
    client.data(of_choice(1, BAD))
    assert by_choice(client.sent)[0] == ("One two", None)
    assert BAD.encode() not in client.sent


def test_when_all_choices_are_bad_the_stream_ends_with_an_error() -> None:
    client = Client(policy(), n=2)
    client.head()
    client.data(of_choice(0, "One "), of_choice(1, "Uno "), of_choice(1, BAD), of_choice(0, BAD))
    assert client.aborted == [1]
    assert client.sent.splitlines()[-2].startswith(b'data: {"error"')
    assert DONE not in client.sent


def test_before_any_release_a_bad_choice_restarts_all() -> None:
    client = Client(policy(hold=FULL), n=2)
    client.head()
    client.data(of_choice(0, "One "), of_choice(1, BAD))
    assert client.attempt == 2


def test_a_choice_of_a_whole_answer_ends_alone_too() -> None:
    client = Client(policy(attempts=1), n=2, stream=False)
    client.head()
    client.data(of_choice(0, "One"), of_choice(1, BAD), of_choice(0, "", "stop"), DONE)
    client.end()
    choices = json.loads(client.sent)["choices"]
    assert [(c["message"]["content"], c["finish_reason"]) for c in choices] == [("One", "stop"), ("", "content_filter")]
    assert client.headers["x-guard-verdict"] == "cut"


# -- the engine's own verdict -------------------------------------------------------------------------


def test_the_engines_repetition_is_retried_where_the_policy_retries_repetition() -> None:
    judged = policy(hold=FULL)
    repeats = msgspec.structs.replace(judged.rules[0], name="loops", kind=Kind.REPETITION)
    client = Client(msgspec.structs.replace(judged, rules=(*judged.rules, repeats)))
    client.head()
    client.data(chunk("la la"), chunk("", finish="repetition"))
    assert client.attempt == 2
    assert client.aborted == [1]
    client.head()
    client.data(chunk("Fine", finish="stop"), DONE)
    client.end()
    assert client.text == "Fine"
    assert client.exchange.record.attempts[0].rule == "engine"


def test_without_such_a_rule_it_is_noted_and_passes_as_it_is() -> None:
    client = Client(policy())
    client.head()
    client.data(chunk("la la"), chunk("", finish="repetition"), DONE)
    client.end()
    assert b'"finish_reason": "repetition"' in client.sent
    assert client.exchange.record.outcome is Outcome.NOTED
    assert client.exchange.record.attempts[0].kind is Kind.REPETITION


def test_a_stream_that_comes_to_no_answer_is_an_error_of_the_backend() -> None:
    client = Client(policy(attempts=1), stream=False)
    client.head()
    client.data(DONE)
    client.end()
    assert client.status == 502
    assert client.error is not None
    assert client.error["code"] == "upstream_protocol"
    assert client.finished == [True]


@pytest.mark.parametrize("stream", [True, False])
def test_a_compressed_stream_is_never_the_answer_to_who_asked_for_one_body(stream: bool) -> None:
    client = Client(policy(attempts=1), stream=stream)
    client.give(UpstreamHead(1, 200, (*SSE, ("content-encoding", "gzip"))))
    client.data(b"\x1f\x8b")
    if stream:
        assert (client.status, client.sent) == (200, b"\x1f\x8b")  # as the backend said it
    else:
        assert client.status == 502
        assert b"compressed" in client.sent
        assert client.aborted == [1]
        assert client.headers["content-type"] == "application/json"


@pytest.mark.parametrize("stream", [True, False])
def test_types_and_codings_are_known_in_any_case_of_letters(stream: bool) -> None:
    client = Client(policy(), stream=stream)
    head = (("content-type", "Text/Event-Stream; charset=UTF-8"), ("content-encoding", "Identity"))
    client.give(UpstreamHead(1, 200, head))
    client.data(chunk("Fine"), chunk("", finish="stop"), DONE)
    client.end()
    assert client.exchange.record.outcome is Outcome.HEALTHY
    assert client.headers["content-type"].startswith("text/event-stream" if stream else "application/json")
