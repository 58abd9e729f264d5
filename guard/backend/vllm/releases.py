"""
What is patched in each release line of vLLM.

A hook names a function, the parameters it must have, and fragments its source must hold because
the plugin relies on them. To add a release see README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_SCHEDULER = "vllm.v1.core.sched.scheduler"
_PROCESSOR = "vllm.v1.engine.output_processor"
_OUTPUTS = "vllm.outputs"
_METRICS = "vllm.v1.metrics.stats"
_CHAT = "vllm.entrypoints.openai.chat_completion.serving"
_COMPLETION = "vllm.entrypoints.openai.completion.serving"
_RESPONSES = "vllm.entrypoints.openai.responses.serving"
_ANTHROPIC = "vllm.entrypoints.anthropic.serving"


@dataclass(frozen=True)
class Hook:
    """
    One place the plugin patches, or only relies on.

    Args:
        module: Dotted name.
        owner: Class in it.
        name: Its method; empty for the class itself.
        parameters: Names of all parameters, in order; empty if they do not matter. Of a class, its
            annotated fields, which must at least have these.
        source: Fragments the source must hold, as `ast.unparse` spells them.
        patched: Whether it is replaced.
    """

    module: str
    owner: str
    name: str
    parameters: tuple[str, ...]
    source: tuple[str, ...] = ()
    patched: bool = True

    @property
    def path(self) -> str:
        """The module's file, below the folder that holds the package."""
        return self.module.replace(".", "/") + ".py"

    def __str__(self) -> str:
        return f"{self.module}:{self.owner}{'.' if self.name else ''}{self.name}"


_ANSWER = ("request_id", "model_name", "conversation", "tokenizer", "request_metadata")
_RESPONSE = ("self", "request", "sampling_params", "result_generator", "context", "model_name", "tokenizer")
_RESPONSE_END = ("request_metadata", "created_time")
_CHAT_STREAM = ("self", "request", "result_generator", *_ANSWER, "chat_template_kwargs", "mm_token_counts")

_COMMON: Mapping[str, Hook] = {
    "scheduler.add_request": Hook(
        _SCHEDULER,
        "Scheduler",
        "add_request",
        ("self", "request"),
        ("self.requests[request.request_id] = request", "request.spec_decode_metrics = RequestSpecDecodeMetrics.new("),
    ),
    "scheduler.update_from_output": Hook(
        _SCHEDULER,
        "Scheduler",
        "update_from_output",
        ("self", "scheduler_output", "model_runner_output"),
        (
            "if request.spec_decode_metrics is not None:",
            "request.spec_decode_metrics.observe(num_draft_tokens=adj_draft_tokens, num_accepted=num_accepted, ",
            "spec_decode_metrics=request.spec_decode_metrics if finish_reason is not None else None",
        ),
    ),
    "metrics.record": Hook(
        _METRICS,
        "RequestSpecDecodeMetrics",
        "",
        ("num_spec_tokens", "histogram", "num_draft_tokens", "per_step_accepted", "per_step_drafted"),
        patched=False,
    ),
    "outputs.process": Hook(
        _PROCESSOR,
        "OutputProcessor",
        "process_outputs",
        ("self", "engine_core_outputs", "engine_core_timestamp", "iteration_stats", "weight_version"),
        ("req_state.spec_decode_metrics = engine_core_output.spec_decode_metrics",),
        patched=False,
    ),
    "outputs.state": Hook(
        _PROCESSOR,
        "RequestState",
        "__init__",
        (),
        ("self.spec_decode_metrics: RequestSpecDecodeMetrics | None = None",),
        patched=False,
    ),
    "outputs.new_completion": Hook(
        _PROCESSOR,
        "RequestState",
        "_new_completion_output",
        ("self", "token_ids", "finish_reason", "stop_reason"),
        ("spec_decode_metrics=self.spec_decode_metrics if finished else None",),
    ),
    "outputs.add": Hook(
        _OUTPUTS,
        "RequestOutput",
        "add",
        ("self", "next_output", "aggregate"),
        ("if completion.index == next_completion.index:", "self.outputs[i] = next_completion"),
    ),
    "chat.stream": Hook(_CHAT, "OpenAIServingChat", "chat_completion_stream_generator", _CHAT_STREAM),
    "chat.full": Hook(
        _CHAT,
        "OpenAIServingChat",
        "chat_completion_full_generator",
        ("self", "request", "result_generator", *_ANSWER, "parser", "mm_token_counts"),
        ("index=output.index",),
    ),
    "completion.stream": Hook(
        _COMPLETION,
        "OpenAIServingCompletion",
        "completion_stream_generator",
        (
            "self",
            "request",
            "engine_inputs",
            "result_generator",
            "request_id",
            "created_time",
            "model_name",
            "num_prompts",
            "tokenizer",
            "request_metadata",
        ),
        ("i = output.index + prompt_idx * num_choices",),
    ),
    "completion.full": Hook(
        _COMPLETION,
        "OpenAIServingCompletion",
        "request_output_to_completion_response",
        (
            "self",
            "final_res_batch",
            "request",
            "request_id",
            "created_time",
            "model_name",
            "tokenizer",
            "request_metadata",
        ),
        ("index=len(choices)",),
    ),
    "responses.stream": Hook(
        _RESPONSES, "OpenAIServingResponses", "responses_stream_generator", (*_RESPONSE, *_RESPONSE_END)
    ),
    "responses.full": Hook(
        _RESPONSES, "OpenAIServingResponses", "responses_full_generator", (*_RESPONSE, *_RESPONSE_END)
    ),
    "anthropic.stream": Hook(
        _ANTHROPIC,
        "AnthropicServingMessages",
        "message_stream_converter",
        ("self", "generator"),
        ("wrap_data_with_event(data, 'content_block_delta')", "wrap_data_with_event(data, 'message_delta')"),
    ),
    "anthropic.full": Hook(
        _ANTHROPIC,
        "AnthropicServingMessages",
        "messages_full_converter",
        ("self", "generator"),
        ("choice = generator.choices[0]",),
    ),
}

#: By release line, the first two numbers of the version; in each, the hooks by name.
RELEASES: Final[Mapping[str, Mapping[str, Hook]]] = {
    "0.32": _COMMON,
    "0.33": {
        **_COMMON,
        "chat.stream_raw": Hook(_CHAT, "OpenAIServingChat", "chat_completion_stream_generator_raw", _CHAT_STREAM),
    },
}


def line_of(version: str) -> str:
    """
    The release line of a version.

    Args:
        version: As vLLM tells it, like 0.32.0 or 0.33.1.dev3+cpu.

    Returns:
        Its first two numbers, like 0.32.
    """
    return ".".join(version.split(".")[:2])
