"""Exact acceptance of every verify step, from the scheduler to the chunk; one file for each part of vLLM it crosses."""
