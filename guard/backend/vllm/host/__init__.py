"""A tier of host memory behind vLLM's prefix cache, without races. See guard/backend/README.md."""
