"""
What the ledger counts, as metrics of vLLM's own `/metrics`, for connectors that have none.

| metric | |
|---|---|
| `vllm:guard_kv_leases{kind}` | transfers announced and not settled: `receive`, `send` |
| `vllm:guard_kv_blocks{state}` | blocks under a transfer: `held`, `draining`, `quarantined` |
| `vllm:guard_kv_stale_notices_total` | notices ignored: late, repeated, of another generation |
| `vllm:guard_kv_quarantines_total` | deadlines that passed without an answer |
| `vllm:guard_kv_connections_failed_total` | push: no file, memory or thread for one; each try counts |
| `vllm:guard_kv_handshake_seconds` | from an abort to the last answer |
"""

from __future__ import annotations

import functools
from typing import Any, Final

_GAUGES: Final = {
    "leases_receive": ("leases", "kind", "receive"),
    "leases_send": ("leases", "kind", "send"),
    "blocks_held": ("blocks", "state", "held"),
    "blocks_draining": ("blocks", "state", "draining"),
    "blocks_quarantined": ("blocks", "state", "quarantined"),
}
_COUNTERS: Final = {
    "stale_notices": "Notices ignored.",
    "quarantines": "Deadlines that passed without an answer.",
    "connections_failed": "Connections not had for want of file descriptors, memory or threads.",
}
_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120)


@functools.cache
def stats_type() -> Any:
    """vLLM's `KVConnectorStats`, of a snapshot."""
    from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (  # noqa: PLC0415 - only in the vLLM environment
        KVConnectorStats,
    )

    class RaceFreeStats(KVConnectorStats):  # type: ignore[misc]
        """The newest snapshot; handshakes are those since the last one."""

        def reset(self) -> None:
            """Forget it."""
            self.data: dict[str, Any] = {}

        def aggregate(self, other: Any) -> Any:
            """The later one counts; handshakes of both."""
            earlier = self.data.get("handshakes", [])
            self.data = {**other.data, "handshakes": [*earlier, *other.data.get("handshakes", ())]}
            return self

        def reduce(self) -> dict[str, int | float]:
            """For vLLM's log line."""
            return {name: value for name, value in self.data.items() if name != "handshakes"}

        def is_empty(self) -> bool:
            """Whether there is nothing."""
            return not self.data

    return RaceFreeStats


@functools.cache
def metrics_type() -> Any:
    """vLLM's `KVConnectorPromMetrics`, for those."""
    from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (  # noqa: PLC0415 - only in the vLLM environment
        KVConnectorPromMetrics,
    )

    class RaceFreeMetrics(KVConnectorPromMetrics):  # type: ignore[misc]
        """Sets gauges, counts up counters, observes handshakes."""

        def __init__(self, vllm_config: Any, metric_types: Any, labelnames: list[str], per_engine: Any) -> None:
            super().__init__(vllm_config, metric_types, labelnames, per_engine)
            self._gauges = {
                family: self._gauge_cls(
                    name=f"vllm:guard_kv_{family}",
                    documentation=f"KV {family} under transfers.",
                    labelnames=[*labelnames, label],
                )
                for family, label in (("leases", "kind"), ("blocks", "state"))
            }
            self._counters = {
                name: self._counter_cls(name=f"vllm:guard_kv_{name}", documentation=text, labelnames=labelnames)
                for name, text in _COUNTERS.items()
            }
            self._handshakes = self._histogram_cls(
                name="vllm:guard_kv_handshake_seconds",
                documentation="From an abort to the last answer.",
                labelnames=labelnames,
                buckets=_BUCKETS,
            )
            self._told: dict[tuple[int, str], float] = {}

        def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
            """A snapshot of one engine."""
            labels = self.per_engine_labelvalues[engine_idx]
            for name, (family, _, value) in _GAUGES.items():
                self._gauges[family].labels(*labels, value).set(transfer_stats_data.get(name, 0))
            for name, counter in self._counters.items():
                now = transfer_stats_data.get(name, 0)
                counter.labels(*labels).inc(max(0, now - self._told.get((engine_idx, name), 0)))
                self._told[engine_idx, name] = now
            for seconds in transfer_stats_data.get("handshakes", ()):
                self._handshakes.labels(*labels).observe(seconds)

    return RaceFreeMetrics
