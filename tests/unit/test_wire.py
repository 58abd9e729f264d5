"""One typed view reads the chunks of every engine."""

from __future__ import annotations

import msgspec

from guard.wire import Chunk


def decode(text: str) -> Chunk:
    return msgspec.json.decode(text.encode(), type=Chunk)


def test_llama_counters() -> None:
    chunk = decode(
        '{"choices":[{"delta":{"content":"a"}}],"timings":{"predicted_n":4,"draft_n":3,"draft_n_accepted":2}}'
    )
    assert chunk.timings is not None
    assert (chunk.timings.draft_n, chunk.timings.draft_n_accepted) == (3, 2)


def test_vllm_token_ids_and_plugin_arrays() -> None:
    chunk = decode(
        '{"choices":[{"index":1,"text":"ab","token_ids":[5,6],"logprobs":null}],'
        '"metrics":{"speculative_decoding":{"per_step_accepted":[1],"per_step_drafted":[3]}}}'
    )
    assert chunk.choices[0].token_ids == [5, 6]
    assert chunk.metrics is not None
    assert chunk.metrics.speculative_decoding is not None
    assert chunk.metrics.speculative_decoding.per_step_drafted == [3]


def test_unknown_fields_and_nulls_are_no_trouble() -> None:
    chunk = decode('{"choices":[{"delta":{"content":null,"new":{"x":[1]}}}],"usage":null,"extra":1}')
    assert chunk.usage is None


def test_an_error_object_is_kept() -> None:
    assert decode('{"error":{"message":"x"}}').error == {"message": "x"}
