"""
SGLang: no acceptance during a stream, so text and token counts only.

Its chunks count tokens when the client asks for `stream_options.continuous_usage_stats`; the
totals of speculative decoding come at the end only and are of no use for a live verdict.
"""

from __future__ import annotations

from guard.signals.text import TextAdapter


class SglangAdapter(TextAdapter):
    """As TextAdapter; a type of its own so that a per-step signal has a place to go."""
