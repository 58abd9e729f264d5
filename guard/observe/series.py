"""Building blocks of metrics: a histogram, a set of labels that cannot grow, and families for a scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

#: Bounds of durations. Unit: seconds.
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
#: Bounds of what should be nothing. Unit: seconds.
DELAYS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: Bounds of the time between two tokens. Unit: seconds.
GAPS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
#: Bounds of counts of tokens.
TOKENS = (1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
#: Bounds of acceptance lengths. Unit: tokens per verify step.
LENGTHS = (1.05, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)
#: Stands for every value of a label past the most that are told apart.
OTHER = "other"

Series = Iterable[tuple[Sequence[str], float]]


class Bounded:
    """
    Values of a label that come from outside: the first few are told apart, all others are one.

    Args:
        most: Values told apart.
        known: Values that are known now; each has a place. One that is known no longer keeps its own until a known one
            needs it.
        forget: Told of each value that has lost its place.
    """

    def __init__(
        self, most: int, known: Callable[[], Iterable[str]] = tuple, forget: Callable[[str], None] | None = None
    ) -> None:
        self._seen: dict[str, None] = {}  # in the order in which they came
        self._most = most
        self._known = known
        self._forget = forget

    def __call__(self, value: str) -> str:
        """The label for a value."""
        if value in self._seen:
            return value
        if not value or len(value) > 200 or not self._has_place(value, set(self._known())):
            return OTHER
        self._seen[value] = None
        return value

    def _has_place(self, value: str, known: set[str]) -> bool:
        """Whether a new value may have a place, once one that nobody knows any more has made room for it."""
        if value not in known:
            return len(known.union(self._seen)) < self._most
        if len(self._seen) >= max(self._most, len(known)):
            gone = next(one for one in self._seen if one not in known)
            del self._seen[gone]
            if self._forget is not None:
                self._forget(gone)
        return True


class Histogram:
    """Counts per bucket, for one series."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus has them: cumulative."""
        found: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found

    def family(self, name: str, text: str) -> HistogramMetricFamily:
        """The only series of a family."""
        return HistogramMetricFamily(name, text, buckets=self.buckets(), sum_value=self.sum)


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """
    The value below which a share of the counted ones lies, in proportion within its bucket.

    Args:
        bounds: Upper bounds of the buckets, the last one's left out.
        counts: Values in each bucket, not cumulative.
        share: In (0, 1].

    Returns:
        None where nothing was counted; the last bound for values beyond it.
    """
    wanted = share * sum(counts)
    if not wanted:
        return None
    low = 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and wanted <= count:
            return low + (bound - low) * wanted / count
        wanted -= count
        low = bound
    return low


def histograms(name: str, text: str, label: str, series: Iterable[tuple[str, Histogram]]) -> HistogramMetricFamily:
    """A family of histograms with one label."""
    family = HistogramMetricFamily(name, text, labels=(label,))
    for value, histogram in series:
        family.add_metric([value], histogram.buckets(), histogram.sum)
    return family


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """A family of one series without labels."""
    return GaugeMetricFamily(name, text, value=value)


def gauges(name: str, text: str, labels: Sequence[str], series: Series) -> GaugeMetricFamily:
    """A family with labels."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in series:
        family.add_metric(list(values), value)
    return family


def counter(name: str, text: str, labels: Sequence[str], series: Series) -> CounterMetricFamily:
    """A family of counters; no labels for a single series."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in series:
        family.add_metric(list(values), count)
    return family
