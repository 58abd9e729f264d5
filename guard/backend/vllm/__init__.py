"""The plugin for vLLM. It imports nothing but the standard library and vLLM itself."""
