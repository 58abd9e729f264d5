"""Thresholds that do not go together are named."""

from __future__ import annotations

import pytest

from guard.fleet.settings import (
    DnsSettings,
    EjectionSettings,
    PoolSettings,
    QualitySettings,
    TransportSettings,
    problem,
)


def test_the_defaults_go_together() -> None:
    assert problem(PoolSettings()) is None


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        (PoolSettings(quality=QualitySettings(window=90.0)), "ejection.time"),
        (PoolSettings(ejection=EjectionSettings(time=60.0, most_time=59.0)), "ejection.most_time"),
        (PoolSettings(transport=TransportSettings(time=5.0, most_time=4.0)), "transport.most_time"),
        (PoolSettings(dns=DnsSettings(interval=9.0, most_interval=8.0)), "dns.most_interval"),
    ],
)
def test_a_contradiction_names_its_setting(settings: PoolSettings, where: str) -> None:
    found = problem(settings)
    assert found is not None
    assert found[0] == where
