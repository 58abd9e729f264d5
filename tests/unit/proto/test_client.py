"""What every family reads alike in a request."""

from __future__ import annotations

import pytest

from guard.errors import RequestError
from guard.proto.client import asked_bool, asked_int, decode_object, is_int, text_or_empty, wants_stream
from guard.proto.family import Family
from guard.proto.registry import FAMILIES


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1]", "JSON object"),
        (b"null", "JSON object"),
        (b'{"a":"\xff"}', r"not UTF-8 \(byte 6\)"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        decode_object(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


@pytest.mark.parametrize("stream", [2, 0.5, "", "yes please", [], {}])
def test_stream_must_be_a_boolean(stream: object) -> None:
    with pytest.raises(RequestError) as caught:
        wants_stream({"stream": stream})
    assert caught.value.param == "stream"


def test_a_null_stream_is_no_stream() -> None:
    assert wants_stream({"stream": None}) is False


@pytest.mark.parametrize(
    ("value", "read"),
    [(2, 2), (2.0, 2), (2.7, 2), ("2", 2), (" 2.0 ", 2), ("+7", 7), (-1, -1), (2**70, 2**70)]
    + [(odd, None) for odd in (None, True, "", "two", "2.5", "9" * 5000, float("inf"), [2], {})],
)
def test_a_number_is_read_as_the_engines_read_it(value: object, read: int | None) -> None:
    assert asked_int(value) == read


@pytest.mark.parametrize(
    ("value", "read"),
    [(yes, True) for yes in (True, 1, 1.0, "true", "True", "ON", "y", "1", "t", "yes")]
    + [(no, False) for no in (False, 0, 0.0, "false", "off", "N", "0", "F", "no")]
    + [(odd, None) for odd in (None, 2, -1, 0.5, float("nan"), 10**400, "", " true", "truth", [True], {})],
)
def test_a_switch_is_read_as_vllm_reads_it(value: object, read: bool | None) -> None:
    assert asked_bool(value) is read
    if value is not None and read is not None:
        assert wants_stream({"stream": value}) is read


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.paths[0])
@pytest.mark.parametrize("two", ["2", "2.0", '"2"'])
def test_two_choices_however_they_are_written_are_two(family: Family, two: str) -> None:
    name = "sampling_params" if family.paths[0] == "/generate" else ""
    fields = f'"n": {two}, "max_tokens": {two}, "max_new_tokens": {two}, "max_output_tokens": {two}'
    body = f'{{"{name}": {{{fields}}}}}' if name else f"{{{fields}}}"
    asked = family.parse(family.paths[0], body.encode())
    assert asked.max_tokens == 2
    if family.paths[0] not in ("/v1/messages", "/v1/responses"):  # these have one choice only
        assert asked.n == 2
        assert asked.resume_hazards


def test_small_readers() -> None:
    assert [is_int(value) for value in (1, True, 1.0, "1")] == [True, False, False, False]
    assert [text_or_empty(value) for value in ("a", None, 1)] == ["a", "", ""]
