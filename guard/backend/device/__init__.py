"""Tensors, streams and collectives for the parts of the plugin that move KV: torch, but no vLLM."""
