"""Bytes to events and back, sans-IO: server-sent events and the forms of every guarded route."""
