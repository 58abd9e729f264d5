"""Bytes to events and back, sans-IO: server-sent events and OpenAI's chat and completions forms."""
