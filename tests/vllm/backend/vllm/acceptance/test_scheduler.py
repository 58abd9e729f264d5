"""guard.backend.vllm.acceptance.scheduler in a real engine, step by step, against vLLM's own records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.metrics.stats import RequestSpecDecodeMetrics
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from guard.backend.testbed.configurations import tiny
from guard.backend.testbed.engine import InprocessEngine, inprocess_engine
from guard.backend.vllm.acceptance.outputs import steps_of
from guard.backend.vllm.acceptance.scheduler import record_type
from guard.backend.vllm.acceptance.steps import Steps, pack, unpack

BLOCK = 32
PROMPT = "def read(path):\n    return open(path).read()\n"


@pytest.fixture(scope="module")
def engine() -> Iterator[InprocessEngine]:
    """An engine with room for one long request or a few short ones, and prompts computed in pieces."""
    options = msgspec.structs.replace(tiny("draft"), max_model_len=512, max_num_seqs=8)
    with inprocess_engine(options, num_gpu_blocks_override=20, max_num_batched_tokens=64) as made:
        yield made


class Observed:
    """What the engine's outputs told, and what the scheduler counted at its own place, by request."""

    def __init__(self, engine: InprocessEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = engine
        self.told: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.counted: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.tokens: dict[str, int] = defaultdict(int)
        self.own: dict[str, Any] = {}
        self.finish: dict[str, str | None] = {}
        count = engine.scheduler.make_spec_decoding_stats

        def counting(stats: Any, **step: Any) -> Any:
            name = step["request_id"].rsplit("-", 1)[0]
            self.counted[name].append((step["num_accepted_tokens"], step["num_draft_tokens"]))
            return count(stats, **step)

        monkeypatch.setattr(engine.scheduler, "make_spec_decoding_stats", counting)

    def ask(self, name: str, prompt: Any = PROMPT, *, asked: int | None = 1, **params: Any) -> None:
        settings = {"temperature": 0.0, "max_tokens": 40, "ignore_eos": True, **params}
        extra = None if asked is None else {"guard_acceptance": asked}
        self.engine.engine.add_request(
            name, prompt, SamplingParams(output_kind=RequestOutputKind.DELTA, extra_args=extra, **settings)
        )

    def step(self) -> None:
        for output in self.engine.engine.step():
            for completion in output.outputs:
                steps = steps_of(completion)
                if steps is not None:
                    self.told[output.request_id] += list(zip(steps.accepted, steps.drafted, strict=True))
                self.tokens[output.request_id] += len(completion.token_ids)
                if completion.finish_reason is not None:
                    self.own[output.request_id] = completion.spec_decode_metrics
                    self.finish[output.request_id] = completion.finish_reason

    def finish_all(self) -> None:
        while self.engine.engine.has_unfinished_requests():
            self.step()

    def agree(self, name: str) -> None:
        """The steps told are those counted, and those of vLLM's own record, which is whole."""
        drafts = [step for step in self.told[name] if step[1]]
        assert drafts == self.counted[name]
        own = self.own[name]
        assert drafts == list(zip(own.per_step_accepted, own.per_step_drafted, strict=True))
        assert own.num_draft_tokens == sum(tried for _, tried in drafts)
        assert sum(own.histogram) == len(drafts)
        kept = [accepted for accepted, _ in self.told[name]]
        assert sum(kept) + len(kept) - kept[-1] <= self.tokens[name] <= sum(kept) + len(kept)


@pytest.fixture
def seen(engine: InprocessEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Observed]:
    observed = Observed(engine, monkeypatch)
    yield observed
    engine.engine.abort_request(list(engine.scheduler.requests), internal=True)
    engine.finish()


def test_every_step_is_told_and_the_prompts_own_token_has_no_draft(seen: Observed) -> None:
    for length in (1, 2, 7, 40):
        seen.ask(f"r{length}", max_tokens=length)
    seen.finish_all()
    for length in (1, 2, 7, 40):
        assert seen.told[f"r{length}"][0] == (0, 0)
        assert seen.tokens[f"r{length}"] == length
        seen.agree(f"r{length}")


def test_the_last_step_counts_what_was_accepted_not_what_the_limit_left(seen: Observed) -> None:
    for length in range(2, 20):
        seen.ask(f"r{length}", max_tokens=length)
    seen.finish_all()
    over = [sum(accepted + 1 for accepted, _ in seen.told[name]) - tokens for name, tokens in seen.tokens.items()]
    assert max(over) > 0
    for name in seen.tokens:
        seen.agree(name)


def test_a_prompt_computed_in_pieces_or_found_in_the_cache_is_one_undrafted_step(seen: Observed) -> None:
    prompt = PROMPT * 5  # more tokens than one step computes
    for name in ("pieces", "cached"):
        seen.ask(name, prompt)
        seen.finish_all()
        seen.agree(name)
    assert seen.told["pieces"] == seen.told["cached"]
    assert [tried for _, tried in seen.told["pieces"]].count(0) == 1


def test_padding_of_a_prompts_last_token_is_told_as_vllm_bills_it(seen: Observed) -> None:
    prompt = {"prompt_token_ids": [300 + number for number in range(2 * BLOCK + 1)]}
    for name in ("computed", "cached"):
        seen.ask(name, prompt, max_tokens=20)
        seen.finish_all()
    assert seen.counted["cached"] == [(0, 3), *seen.counted["computed"]]
    assert seen.told["computed"][0] == (0, 0)
    assert seen.told["cached"] == [(0, 3), *seen.told["computed"][1:]]
    for name in ("computed", "cached"):
        seen.agree(name)


def test_preempted_requests_lose_no_step(seen: Observed) -> None:
    preempted: set[str] = set()
    names = [f"r{number}" for number in range(6)]
    for name in names:
        seen.ask(name, name + PROMPT, max_tokens=120)
    while seen.engine.engine.has_unfinished_requests():
        seen.step()
        waiting = seen.engine.scheduler.requests.values()
        preempted |= {each.request_id for each in waiting if each.num_preemptions}
    assert preempted
    for name in names:
        assert seen.tokens[name] == 120
        seen.agree(name)


def test_an_aborted_request_told_all_until_then_and_is_forgotten(seen: Observed) -> None:
    seen.ask("gone", max_tokens=400)
    seen.ask("stays", "other" + PROMPT, max_tokens=60)
    for _ in range(12):
        seen.step()
    seen.engine.engine.abort_request(["gone"])
    seen.finish_all()
    assert [step for step in seen.told["gone"] if step[1]] == seen.counted["gone"]
    seen.agree("stays")
    records = seen.engine.scheduler._guard_records
    for number in range(70):
        seen.ask(f"r{number}", "x", max_tokens=1)
        seen.engine.engine.abort_request([f"r{number}"])
    seen.ask("last", "x", max_tokens=1)
    assert len(records) <= 66
    seen.finish_all()


def test_a_stop_token_ends_in_the_engine_and_all_is_told(seen: Observed) -> None:
    seen.ask("plain", max_tokens=40)
    seen.finish_all()
    tokens: list[int] = []
    seen.ask("again", max_tokens=40)
    while seen.engine.engine.has_unfinished_requests():
        for output in seen.engine.engine.step():
            tokens += output.outputs[0].token_ids
    seen.ask("stopped", max_tokens=40, stop_token_ids=[tokens[20]])
    seen.finish_all()
    assert seen.finish["stopped"] == "stop"
    seen.agree("stopped")


def test_a_request_that_fails_told_all_until_then_and_has_no_record_as_ever(seen: Observed) -> None:
    for name, asked in (("stock", 0), ("fails", 1)):
        seen.ask(name, asked=asked)
        for _ in range(4):
            seen.step()
        seen.engine.scheduler.grammar_compile_error_reqs.update(seen.engine.scheduler.requests)
        seen.finish_all()
        assert (seen.finish[name], seen.own[name]) == ("error", None)
    assert [step for step in seen.told["fails"] if step[1]] == seen.counted["fails"]


@pytest.mark.parametrize("asked", [None, 0])
def test_who_does_not_ask_gets_nothing_and_vllms_own_record_as_ever(seen: Observed, asked: int | None) -> None:
    seen.ask("quiet", asked=asked)
    seen.finish_all()
    assert seen.told["quiet"] == []
    own = seen.own["quiet"]
    assert list(zip(own.per_step_accepted, own.per_step_drafted, strict=True)) == seen.counted["quiet"]


def test_a_record_is_one_of_vllms_own() -> None:
    kind = record_type(RequestSpecDecodeMetrics)
    assert issubclass(kind, RequestSpecDecodeMetrics)
    assert record_type(RequestSpecDecodeMetrics) is kind
    own = RequestSpecDecodeMetrics.new(3)
    kind(own).observe(num_draft_tokens=3, num_accepted=2, detailed=True)
    kind(None).observe(num_draft_tokens=3, num_accepted=2, detailed=True)
    assert own.histogram == [0, 0, 1, 0]
    assert own.per_step_accepted == [2]


async def test_steps_survive_the_way_between_processes() -> None:
    metrics = pack(RequestSpecDecodeMetrics, Steps([2, 0], [3, 0]), None)
    sent = EngineCoreOutputs(outputs=[EngineCoreOutput("r", [5], spec_decode_metrics=metrics)])
    got = MsgpackDecoder(EngineCoreOutputs).decode(MsgpackEncoder().encode(sent))
    unpacked = unpack(got.outputs[0].spec_decode_metrics)
    assert unpacked is not None
    assert unpacked[0].fields() == {"per_step_accepted": [2, 0], "per_step_drafted": [3, 0]}
    assert unpacked[1] is None
