"""A node that computes prompts and hands them on: it refuses requests that would decode there."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from guard.backend.vllm.layer_split.settings import PREFILL_ONLY, settings


def validate_params(original: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse, with an error of the client's, a request for more than one token."""

    def replacement(self: Any, params: Any, supported_tasks: Any) -> Any:
        found = original(self, params, supported_tasks)
        wanted = settings(os.environ)
        if wanted is not None and wanted.prefill_only and getattr(params, "max_tokens", 1) != 1:
            # vLLM's servers answer 400 to a ValueError.
            raise ValueError(
                f"this node computes prompts only ({PREFILL_ONLY}=1): ask it for max_tokens=1, not {params.max_tokens}"
            )
        return found

    return replacement
