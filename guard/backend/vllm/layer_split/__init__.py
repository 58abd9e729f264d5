"""LayerSplit inside vLLM: each rank keeps its own layers of a KV cache that all ranks would keep."""
