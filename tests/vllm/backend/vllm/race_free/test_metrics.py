"""guard.backend.vllm.race_free.metrics in vLLM's own classes."""

from __future__ import annotations

from types import SimpleNamespace

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

from guard.backend.vllm.race_free.metrics import metrics_type, stats_type

SNAPSHOT = {
    "leases_receive": 2,
    "leases_send": 1,
    "blocks_held": 5,
    "blocks_draining": 3,
    "blocks_quarantined": 4,
    "stale_notices": 7,
    "quarantines": 1,
    "connections_failed": 3,
}


def test_snapshots_become_metrics() -> None:
    kinds = {Gauge: Gauge, Counter: Counter, Histogram: Histogram}
    made = metrics_type()(SimpleNamespace(kv_transfer_config=None), kinds, ["engine"], {0: ["0"]})
    made.observe({**SNAPSHOT, "handshakes": [0.002, 0.3]})
    made.observe({**SNAPSHOT, "stale_notices": 9, "blocks_quarantined": 0, "handshakes": []})
    text = prometheus_client.generate_latest().decode()
    for line in (
        'vllm:guard_kv_leases{engine="0",kind="receive"} 2.0',
        'vllm:guard_kv_blocks{engine="0",state="draining"} 3.0',
        'vllm:guard_kv_blocks{engine="0",state="quarantined"} 0.0',
        'vllm:guard_kv_stale_notices_total{engine="0"} 9.0',
        'vllm:guard_kv_quarantines_total{engine="0"} 1.0',
        'vllm:guard_kv_connections_failed_total{engine="0"} 3.0',
        'vllm:guard_kv_handshake_seconds_count{engine="0"} 2.0',
    ):
        assert line in text


def test_of_two_snapshots_the_later_counts_with_all_handshakes() -> None:
    made = stats_type()
    both = made(data={**SNAPSHOT, "handshakes": [1.0]}).aggregate(made(data={"stale_notices": 8, "handshakes": [2.0]}))
    assert both.data == {"stale_notices": 8, "handshakes": [1.0, 2.0]}
    assert both.reduce() == {"stale_notices": 8}
    both.reset()
    assert both.is_empty()
