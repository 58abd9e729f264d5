"""
What LiteLLM's SDK and LangChain get from a backend, as one JSON object; run by `test_client_libraries.py`.

    python client_libraries.py BASE_URL

It runs in an environment of its own, and imports nothing of the guard.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import litellm
from langchain_openai import ChatOpenAI

QUESTION = "Name three colours."
SHORT: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


async def of_litellm(url: str) -> dict[str, Any]:
    """Chat whole and streamed, sync and async, tools, completions."""
    asked: dict[str, Any] = {
        "model": "openai/m",
        "api_base": url + "/v1",
        "api_key": "none",
        "messages": [{"role": "user", "content": QUESTION}],
        "num_retries": 0,
        **SHORT,
    }
    forced = {"tools": [WEATHER], "tool_choice": "required", "max_tokens": 40}
    whole = litellm.completion(**asked)
    pieces = [part.choices[0].delta.content or "" for part in litellm.completion(**asked, stream=True)]
    later = await litellm.acompletion(**asked)
    stream = await litellm.acompletion(**asked, stream=True)
    parts = [part.choices[0].delta.content or "" async for part in stream]
    offered = litellm.completion(**{**asked, **forced}).choices[0].message
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": WEATHER["function"]["parameters"]}}  # type: ignore[index]
    shaped = litellm.completion(**{**asked, "response_format": schema, "max_tokens": 30}).choices[0].message
    text = litellm.text_completion(
        model="text-completion-openai/m", prompt="The colours are", api_base=url + "/v1", api_key="none", **SHORT
    )
    return {
        "whole": whole.choices[0].message.content,
        "finish": whole.choices[0].finish_reason,
        "tokens": whole.usage.completion_tokens,
        "streamed": "".join(pieces),
        "whole, async": later.choices[0].message.content,
        "streamed, async": "".join(parts),
        "tools": [
            offered.content,
            [[each.function.name, each.function.arguments] for each in offered.tool_calls or ()],
        ],
        "structured": shaped.content,
        "completion": text.choices[0].text,
    }


async def of_langchain(url: str) -> dict[str, Any]:
    """Chat whole and streamed, sync and async, tools, structured output."""
    model = ChatOpenAI(model="m", base_url=url + "/v1", api_key="none", max_retries=0, temperature=0, max_tokens=12)
    longer = model.model_copy(update={"max_tokens": 40})
    offered = longer.bind_tools([WEATHER], tool_choice="required").invoke(QUESTION)
    schema = {**WEATHER["function"]["parameters"], "title": "place", "description": "A place."}  # type: ignore[index]
    structured = longer.with_structured_output(schema, method="json_schema").invoke("Where is the Eiffel tower?")
    return {
        "whole": model.invoke(QUESTION).content,
        "streamed": "".join(str(part.content) for part in model.stream(QUESTION)),
        "whole, async": (await model.ainvoke(QUESTION)).content,
        "streamed, async": "".join([str(part.content) async for part in model.astream(QUESTION)]),
        "tools": [offered.content, [[each["name"], each["args"]] for each in offered.tool_calls]],
        "structured": structured,
    }


async def main(url: str) -> None:
    """Print what both got."""
    litellm.telemetry = False
    print(json.dumps({"litellm": await of_litellm(url), "langchain": await of_langchain(url)}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
