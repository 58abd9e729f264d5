"""Every threshold of the replica pool, in one place; the `pool` section of the configuration is this."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import msgspec
from msgspec import Meta

from guard.types import Kind

Seconds = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]


class AffinitySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Prompts with the same beginning go to the same replica, whose cache has it already.

    Args:
        characters: Beginning of a prompt that decides; 0 switches affinity off. Unit: characters.
        load_factor: Most load of a replica, as a multiple of the mean; beyond it the prompt's next replica is taken.
    """

    characters: Annotated[int, Meta(ge=0, le=65_536)] = 1024
    load_factor: Annotated[float, Meta(gt=1)] = 1.25


class QualitySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    When a replica's answers are bad more often than those of the others.

    Args:
        window: How far back answers count. Unit: seconds.
        sample: Answers before a replica is judged, and least answers of all the others together.
        returning_sample: The same for a replica that has just come back and has yet to show that it is well.
        returning_false_alarm: The same for `false_alarm`: one that was bad before is the likelier to be bad.
        least_rate: Share of bad answers below which no replica is ejected.
        ratio: How many times the rate of the others it must have at least.
        false_alarm: Chance that a healthy fleet loses any replica in one look (one-sided Fisher test).
        kinds: Verdicts that count. A loop is more often the prompt's doing than the replica's.
    """

    window: Seconds = 60.0
    sample: Count = 20
    returning_sample: Count = 5
    least_rate: Share = 0.05
    ratio: Annotated[float, Meta(ge=1)] = 3.0
    false_alarm: Annotated[float, Meta(gt=0, lt=1)] = 1e-4
    returning_false_alarm: Annotated[float, Meta(gt=0, lt=1)] = 1e-3
    kinds: tuple[str, ...] = ("garbled", "rare_chars")


class SuspectSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    When the answers of a replica are looked at more closely: after its return from an ejection for bad answers, until
    `ejection.forgive`; and while it begins to stand out. Only where another replica is free of suspicion.

    Args:
        evidence: Part of a policy's evidence on `quality.kinds` that is then enough for a retry, as a share of the way
            from a condition's `from` to its `to`; 1 judges all replicas alike.
        sample: Answers before a replica can begin to stand out, and least answers of all the others together.
        false_alarm: As `quality.false_alarm`: chance that a healthy fleet has any suspect in one look.
    """

    evidence: Annotated[float, Meta(gt=0, le=1)] = 0.4
    sample: Count = 5
    false_alarm: Annotated[float, Meta(gt=0, lt=1)] = 0.05


class EjectionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    How long a replica stays out, and how it comes back.

    Args:
        time: For bad answers, the first time; not below `quality.window`, or old counts would eject it
            again. Unit: seconds.
        growth: Each further time is so many times longer.
        most_time: Longest. Unit: seconds.
        forgive: Time without ejection after which the next one counts as the first. Unit: seconds.
        share: Most replicas out for bad answers, as a share of all; one is always allowed where there are two.
        slow_start: Time in which a replica's share of the traffic grows back. Unit: seconds.
        slow_start_least: Where it begins.
    """

    time: Seconds = 60.0
    growth: Annotated[float, Meta(ge=1)] = 3.0
    most_time: Seconds = 1800.0
    forgive: Seconds = 900.0
    share: Share = 0.34
    slow_start: Seconds = 30.0
    slow_start_least: Annotated[float, Meta(gt=0, le=1)] = 0.1


class TransportSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    When a replica cannot be reached, or breaks off.

    Args:
        failures: Failures in a row (connection, timeout, broken stream, 5xx; never 4xx) that eject it.
        time: For how long, the first time; grows like the other. Unit: seconds.
        most_time: Longest. Unit: seconds.
        pause: After each single failure it is asked last for so long. Unit: seconds.
        busy: After 429, or 503 with Retry-After, when that gives no number. Unit: seconds.
        most_busy: Most of a Retry-After that is honoured. Unit: seconds.
    """

    failures: Count = 5
    time: Seconds = 5.0
    most_time: Seconds = 300.0
    pause: Annotated[float, Meta(ge=0)] = 1.0
    busy: Seconds = 1.0
    most_busy: Seconds = 10.0


class HealthSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Active health checks.

    Args:
        interval: From one check of a replica to its next, give or take a quarter; none if 0. Unit: seconds.
        timeout: For one check. Unit: seconds.
        path: What is asked for; any answer below 500 is good.
        unhealthy_after: Failed checks in a row that take a replica out.
        healthy_after: Good checks in a row that bring it back.
    """

    interval: Annotated[float, Meta(ge=0)] = 5.0
    timeout: Seconds = 2.0
    path: Annotated[str, Meta(pattern="^/")] = "/health"
    unhealthy_after: Count = 2
    healthy_after: Count = 1


class DnsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    For upstreams with `resolve`.

    Args:
        interval: Least time between two questions for a name; beyond it the answer's own time to live
            counts. Unit: seconds.
        most_interval: Most time between two questions. Unit: seconds.
        timeout: For one question. Unit: seconds.
        nameservers: Addresses to ask, "10.0.0.10" or "10.0.0.10:5353"; the machine's own if none is given.
    """

    interval: Seconds = 5.0
    most_interval: Seconds = 60.0
    timeout: Seconds = 5.0
    nameservers: tuple[str, ...] = ()


class PoolSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    How replicas are chosen, watched and left out.

    Args:
        panic: Share of replicas below which nobody is left out any more: too few are worse than doubtful ones.
        confirm_aborts: How long the backend's own count of running requests is watched after an abort. Unit: seconds.
        drained_file: File that names replicas to drain, by name or URL, one a line; read again when it changes.
    """

    affinity: AffinitySettings = AffinitySettings()
    quality: QualitySettings = QualitySettings()
    suspect: SuspectSettings = SuspectSettings()
    ejection: EjectionSettings = EjectionSettings()
    transport: TransportSettings = TransportSettings()
    health: HealthSettings = HealthSettings()
    dns: DnsSettings = DnsSettings()
    panic: Share = 0.5
    confirm_aborts: Annotated[float, Meta(ge=0)] = 5.0
    drained_file: str | None = None


def parse_nameserver(text: str) -> tuple[str, int]:
    """
    Address and port of a name server, from "10.0.0.10", "10.0.0.10:5353", "fd00::a" or "[fd00::a]:5353".

    Raises:
        ValueError: It is none of these.
    """
    host, port = text, "53"
    if text.count(":") == 1 or text.startswith("["):
        host, _, port = text.rpartition(":")
    try:
        address, number = str(ipaddress.ip_address(host.strip("[]"))), int(port)
    except ValueError:
        number = 0
    if not 0 < number < 65_536:
        raise ValueError(f"{text!r} is no address of a name server; write it like 10.0.0.10, or 10.0.0.10:5353")
    return address, number


def problem(settings: PoolSettings) -> tuple[str, str] | None:
    """Setting (below `pool`) and complaint, where two settings do not go together; None where all do."""
    ejection, dns = settings.ejection, settings.dns
    for index, kind in enumerate(settings.quality.kinds):
        if kind not in list(Kind):
            # It would count nothing, and no replica would ever be left out.
            return f"quality.kinds[{index}]", f"{kind!r} is no kind of verdict; one of {', '.join(Kind)}"
    if ejection.time < settings.quality.window:
        return (
            "ejection.time",
            f"must not be below quality.window ({settings.quality.window:g}), or old counts eject again",
        )
    if ejection.most_time < ejection.time:
        return "ejection.most_time", f"must not be below ejection.time ({ejection.time:g})"
    if settings.transport.most_time < settings.transport.time:
        return "transport.most_time", f"must not be below transport.time ({settings.transport.time:g})"
    if dns.most_interval < dns.interval:
        return "dns.most_interval", f"must not be below dns.interval ({dns.interval:g})"
    for index, nameserver in enumerate(dns.nameservers):
        try:
            parse_nameserver(nameserver)
        except ValueError as error:
            return f"dns.nameservers[{index}]", str(error)
    return None
