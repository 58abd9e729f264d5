"""The metrics of several worker processes as those of one guard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

#: Gauges of which the least counts: what is true of the guard only when it is true of every worker.
_LEAST = frozenset({"guard_policy_generation", "guard_policy_last_reload_ok"})
#: Gauges of what all workers look at, each for itself: the most that one of them sees.
_MOST = frozenset({"guard_store_degraded", "guard_replicas", "guard_replicas_suspect", "guard_rescore_floors_settled"})
#: The same where a store is shared; without one each worker is a fleet of its own.
_OF_FLEET = frozenset({"guard_fleet_guards", "guard_fleet_exchanges", "guard_fleet_retries"})
#: Kinds that only grow, so that what a worker counted outlives it.
_GROWING = frozenset({"counter", "histogram"})

Labels = tuple[tuple[str, str], ...]
Series = dict[tuple[str, Labels], float]


class Family:
    """
    One metric over all workers: the series by sample name and labels.

    Args:
        metric: One worker's.
        shared: Whether the workers share a store.
    """

    def __init__(self, metric: Metric, *, shared: bool) -> None:
        self.name, self.documentation, self.kind = metric.name, metric.documentation, metric.type
        # A fact with labels (`_info`) is the same in every worker, and is not counted.
        self._most = metric.name.endswith("_info") or metric.name in _MOST or (shared and metric.name in _OF_FLEET)
        self.series: Series = {}

    def add(self, metric: Metric) -> None:
        """Take one worker's part in."""
        least = metric.name in _LEAST
        for sample in metric.samples:
            if sample.name.endswith("_created"):
                continue
            key = (sample.name, tuple(sorted(sample.labels.items())))
            known = self.series.get(key)
            if known is None:
                self.series[key] = sample.value
            elif least:
                self.series[key] = min(known, sample.value)
            else:
                self.series[key] = max(known, sample.value) if self._most else known + sample.value

    def metric(self) -> Metric:
        """As Prometheus has it."""
        made = Metric(self.name, self.documentation, self.kind)
        for (name, labels), value in self.series.items():
            made.add_sample(name, dict(labels), value)
        return made


class MergedMetrics(Collector):
    """
    Sums over workers, by their latest scrape. What a worker had counted when it died goes on counting,
    so that no counter ever falls.

    Args:
        shared: Whether the workers share a store.
    """

    def __init__(self, *, shared: bool = False) -> None:
        self._shared = shared
        self._latest: dict[int, list[Metric]] = {}
        self._past: list[Metric] = []
        self.running = 0
        self.restarts = 0

    def scraped(self, worker: int, text: str) -> None:
        """
        Keep a worker's metrics.

        Args:
            worker: Its index.
            text: What its /metrics said.

        Raises:
            ValueError: That is not Prometheus' text format.
        """
        self._latest[worker] = list(text_string_to_metric_families(text))

    def died(self, worker: int) -> None:
        """Its gauges are gone, its counts remain."""
        self._past += [metric for metric in self._latest.pop(worker, []) if metric.type in _GROWING]
        self._past = [family.metric() for family in self._merged(self._past).values()]

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        parts = [metric for metrics in self._latest.values() for metric in metrics]
        yield from (family.metric() for family in self._merged([*self._past, *parts]).values())
        for name, (kind, text, value) in self._own().items():
            made = Metric(name, text, kind)
            made.add_sample(f"{name}_total" if kind == "counter" else name, {}, value)
            yield made

    def _own(self) -> Mapping[str, tuple[str, str, float]]:
        return {
            "guard_workers": ("gauge", "Worker processes that serve.", self.running),
            "guard_worker_restarts": ("counter", "Worker processes started again after they had ended.", self.restarts),
        }

    def _merged(self, metrics: Iterable[Metric]) -> dict[str, Family]:
        families: dict[str, Family] = {}
        for metric in metrics:
            families.setdefault(metric.name, Family(metric, shared=self._shared)).add(metric)
        return families
