"""
Engine core: writes down what each verify step kept and sends it with the step's output.

The scheduler itself tells a request's record of every step that had a draft
(`request.spec_decode_metrics.observe`), with the counts it bills. The plugin gives the request a
record that also keeps the steps since the last output. A step whose output comes without such a
call had no draft.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from guard.backend.vllm.acceptance.steps import Steps, pack
from guard.backend.vllm.acceptance.switch import Switch

_RECORDS = "_guard_records"
_LEFT_OVER = 64


@functools.cache
def record_type(base: Any) -> Any:
    """
    A kind of vLLM's own record.

    Args:
        base: vLLM's `RequestSpecDecodeMetrics`.

    Returns:
        A subclass of it, so that vLLM can still send it where the plugin is bypassed.
    """

    class StepRecord(base):  # type: ignore[misc]
        """The record of one request: vLLM's own if it keeps one, and the steps not yet sent."""

        def __init__(self, own: Any) -> None:
            super().__init__(0 if own is None else own.num_spec_tokens)
            self._own = own
            self._unsent = Steps([], [])

        def observe(self, num_draft_tokens: int, num_accepted: int, detailed: bool = False) -> None:
            """A verify step had a draft; called by the scheduler."""
            self._unsent.add(num_accepted, num_draft_tokens)
            if self._own is not None:
                self._own.observe(num_draft_tokens, num_accepted, detailed)

        def sent_with(self, output: Any) -> None:
            """
            Put the steps into the output that ends them.

            Args:
                output: vLLM's `EngineCoreOutput`.
            """
            steps = self._unsent
            if output.new_token_ids and not steps.accepted:
                steps.add(0, 0)
            # vLLM sends it with the output of the last step, and not where a request fails.
            own = self._own if output.spec_decode_metrics is self else None
            if steps.accepted:
                self._unsent = Steps([], [])
                output.spec_decode_metrics = pack(base, steps, own)
            else:
                output.spec_decode_metrics = own

    return StepRecord


class SchedulerHooks:
    """
    Replacements for two methods of vLLM's `Scheduler`.

    Args:
        module: `vllm.v1.core.sched.scheduler`.
        switch: Which requests are recorded.
    """

    def __init__(self, module: Any, switch: Switch) -> None:
        self._record = record_type(module.RequestSpecDecodeMetrics)
        self._switch = switch

    def add_request(self, original: Callable[..., None]) -> Callable[..., None]:
        """Begins a record for a request that asks for it, unless the engine does not speculate."""
        record, switch = self._record, self._switch

        @functools.wraps(original)
        def add_request(scheduler: Any, request: Any) -> None:
            original(scheduler, request)
            params = request.sampling_params
            if params is None or not scheduler.num_spec_tokens or not switch.wanted(params.extra_args):
                return
            if scheduler.requests.get(request.request_id) is request:
                request.spec_decode_metrics = record(request.spec_decode_metrics)
                records = scheduler.__dict__.setdefault(_RECORDS, {})
                records[request.request_id] = request.spec_decode_metrics
                _sweep(records, scheduler.requests)

        return add_request

    def update_from_output(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Sends the steps with the outputs of each step."""

        @functools.wraps(original)
        def update_from_output(scheduler: Any, scheduler_output: Any, model_runner_output: Any) -> Any:
            by_client = original(scheduler, scheduler_output, model_runner_output)
            records = scheduler.__dict__.get(_RECORDS)
            if records:
                _send(records, by_client, scheduler.requests)
            return by_client

        return update_from_output


def _send(records: dict[str, Any], by_client: dict[int, Any], alive: dict[str, Any]) -> None:
    for outputs in by_client.values():
        for output in outputs.outputs:
            record = records.get(output.request_id)
            if record is not None:
                record.sent_with(output)
                # A session of several inputs has outputs that finish but one of its turns.
                if output.finish_reason is not None and output.request_id not in alive:
                    del records[output.request_id]


def _sweep(records: dict[str, Any], alive: dict[str, Any]) -> None:
    """Forget aborted requests, which have no last output; seldom, so that adding one stays cheap."""
    if len(records) > _LEFT_OVER + 2 * len(alive):
        for request_id in [each for each in records if each not in alive]:
            del records[request_id]
