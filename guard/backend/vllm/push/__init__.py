"""
A push connector of the project's own: a prefill engine writes into a decode engine's cache, one-sidedly.

Shared memory between two processes of one machine stands for RDMA. It is the reference for adapters of other
transports: the handshake is that of `guard.backend.kv`, and only `memory` and `Card` would differ.
"""
