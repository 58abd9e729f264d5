"""The race-free KV cache in vLLM: leases around whatever KV connector is configured. See guard/backend/README.md."""
