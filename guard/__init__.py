"""An output-quality guard for LLM inference: watches, stops and retries bad generations."""

__version__ = "0.1.0"
