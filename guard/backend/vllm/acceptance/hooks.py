"""Which replacement belongs to which hook of the release table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from guard.backend.vllm.acceptance import anthropic, outputs
from guard.backend.vllm.acceptance.openai import OpenAIHooks
from guard.backend.vllm.acceptance.responses import ResponsesHooks
from guard.backend.vllm.acceptance.scheduler import SchedulerHooks
from guard.backend.vllm.acceptance.switch import Switch
from guard.backend.vllm.patching import Maker, Patches
from guard.backend.vllm.releases import Hook


def plan(hooks: Mapping[str, Hook], switch: Switch, refused: Callable[[str], None]) -> Patches:
    """
    Plan all replacements of one release.

    Args:
        hooks: The release's table.
        switch: Which requests get their steps.
        refused: Told why when a hook turns out not to be as expected after all.

    Returns:
        The patches, not yet installed.
    """
    makers = _makers(switch)
    patches = Patches(refused)
    # The engine core may be patched where this process is not: what it sends must not pass for vLLM's own.
    receiver = hooks["outputs.new_completion"]
    patches.define(receiver, "spec_decode_metrics", outputs.metrics_property(), keep=True)
    for name, hook in hooks.items():
        if hook.patched:
            patches.replace(name, hook, makers[name])
    return patches


def _makers(switch: Switch) -> dict[str, Maker]:
    openai, responses = OpenAIHooks(switch), ResponsesHooks(switch)
    return {
        "scheduler.add_request": lambda module, original: SchedulerHooks(module, switch).add_request(original),
        "scheduler.update_from_output": lambda module, original: SchedulerHooks(module, switch).update_from_output(
            original
        ),
        "outputs.new_completion": _plain(outputs.new_completion_output),
        "outputs.add": _plain(outputs.add),
        "chat.stream": _plain(openai.chat_stream),
        "chat.stream_raw": _plain(openai.chat_stream_raw),
        "chat.full": _plain(openai.chat_full),
        "completion.stream": _plain(openai.completion_stream),
        "completion.full": _plain(openai.completion_full),
        "responses.stream": _plain(responses.stream),
        "responses.full": _plain(responses.full),
        "anthropic.stream": _plain(anthropic.message_stream),
        "anthropic.full": _plain(anthropic.messages_full),
    }


def _plain(replace: Callable[[Callable[..., Any]], Any]) -> Maker:
    return lambda _module, original: replace(original)
