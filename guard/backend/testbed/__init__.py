"""Real vLLM on a machine without an accelerator: models, servers and engines to test on, and their known faults."""
