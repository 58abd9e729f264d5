"""The sidecar's configuration: strict, frozen, and every error says where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from guard.config_rules import problems
from guard.data import read_text
from guard.environment import SECRET, apply
from guard.errors import ConfigError
from guard.fleet.settings import PoolSettings
from guard.observe.recorder import RecorderSettings, Share
from guard.observe.tracing import TracingSettings
from guard.retry.budget import Budget, parse_share
from guard.state.settings import StoreSettings
from guard.yamldoc import Document, Plain, to_struct

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0)]
Bytes = Annotated[int, Meta(ge=1024)]
Count = Annotated[int, Meta(ge=1)]
#: Never shown, never logged.
Secret = Annotated[str, Meta(min_length=1, extra=SECRET)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class TlsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    A port's certificate. The files are read again when they change.

    Args:
        cert: PEM file of the certificate and what it is signed by.
        key: PEM file of its private key.
        client_ca: PEM file; who connects must then have a certificate signed by it.
    """

    cert: str
    key: str
    client_ca: str | None = None


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Where a port listens.

    Args:
        host: Address; all of them as ::, all of IPv4 as 0.0.0.0.
        port: Port; 0 takes a free one.
        tls: Certificate; plain HTTP if not given.
    """

    host: str = "127.0.0.1"
    port: Port = 8000
    tls: TlsSettings | None = None

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class AdminListen(Listen, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the admin port listens."""

    port: Port = 8001


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    A key that clients may use; `guard key` makes one.

    Args:
        name: Who has it, in logs; not secret.
        sha256: SHA-256 of the key, in hexadecimal.
    """

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    sha256: Sha256


class AccessSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Who may use the guard, and as whom the guard goes to the backends.

    Args:
        keys: Keys that clients may use; none here and no `keys_file` means that nobody is asked for one.
        keys_file: File of such keys, one `name sha256` a line; read again when it changes.
        forward: Whether the client's own key goes on to the backend when the guard has checked it.
        upstream_key: Key that the guard shows to the backends, as a bearer token.
        upstream_key_file: File that holds that key.
        admin_token: Token for the admin port; needed where that is not loopback.
        admin_token_file: File that holds that token; read again when it changes.
        other_paths: Paths that clients may ask for beside the guarded ones, each with all below it; all paths if left
            out. Backends have routes there that unload models, flush caches or abort everybody's requests.
    """

    keys: list[ApiKey] = []
    keys_file: str | None = None
    forward: bool = False
    upstream_key: Secret | None = None
    upstream_key_file: str | None = None
    admin_token: Secret | None = None
    admin_token_file: str | None = None
    other_paths: list[Annotated[str, Meta(pattern=r"^/[^?#]*$")]] | None = None


class UpstreamTlsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    How https:// backends are checked, and what the guard shows them.

    Args:
        ca: PEM file of who may sign for the backends; the system's authorities if not given.
        cert: PEM file of a certificate to show them.
        key: PEM file of its private key.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class UpstreamSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    One replica.

    Args:
        url: Base URL, with any path prefix its routes have.
        resolve: Makes the URL's host a name that is resolved again and again, each address being one replica: "host"
            by its A or AAAA records (a headless service of Kubernetes), "srv" by its SRV records. Only with http.
        name: Name in logs and metrics; the URL if not given.
        engine: Which signal to read; "auto" asks the backend.
        num_speculative_tokens: Draft depth k. Unit: tokens. Needed only for vLLM without the plugin.
        profile: Healthy acceptance of this deployment (a profile.yaml of draft_models/).
        exact_stops: Whether each chunk of a llama.cpp stream with stop words waits for the next, which tells whether
            it has `timings` without the guard. If not, the last chunk of such an answer may lack them.
    """

    url: str
    resolve: Literal["host", "srv"] | None = None
    name: str = ""
    engine: Literal["auto", "llama.cpp", "vllm", "sglang", "text"] = "auto"
    num_speculative_tokens: Annotated[int, Meta(ge=1, le=64)] | None = None
    profile: str | None = None
    exact_stops: bool = True


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Caps on what clients and backends can make the guard hold.

    Args:
        max_request_bytes: Largest body of a guarded request; a larger one gets 413. Unit: bytes.
        max_held_bytes: All bodies of guarded requests that are open at once; what comes beyond gets 503 with
            Retry-After. Memory is up to four times as much. Unit: bytes.
        max_event_bytes: Largest event of a backend. Unit: bytes.
        max_header_bytes: Longest header line; a longer one gets 400. Unit: bytes.
        max_in_flight: Requests open at once on the client port; more get 503 with Retry-After.
        max_in_flight_per_key: The same for one client key, which gets 429; no bound of its own if not given.
        retry_after: What Retry-After says. Unit: seconds.
    """

    max_request_bytes: Bytes = 64 * 1024 * 1024
    max_held_bytes: Bytes = 1024 * 1024 * 1024
    max_event_bytes: Bytes = 8 * 1024 * 1024
    max_header_bytes: Bytes = 32 * 1024
    max_in_flight: Count = 4096
    max_in_flight_per_key: Count | None = None
    retry_after: Count = 1


class TimeoutSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Unit: seconds.

    Args:
        connect: To open a connection to a backend.
        idle: Longest silence of a backend, before its first byte and between bytes.
        drain: Longest that streams in flight may take after SIGTERM.
        request_body: Longest that the body of a guarded request may take to arrive; then 408.
        unread: Longest that a client may leave unread what waits for it; then its request is given up.
        heartbeat: Silence of a stream after which a comment is sent to the client; none if not given.
    """

    connect: Seconds = 5.0
    idle: Seconds = 300.0
    drain: Seconds = 30.0
    request_body: Seconds = 60.0
    unread: Seconds = 300.0
    heartbeat: Seconds | None = None


class RetryBudgetSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    How many retries may be in flight over all guards of the fleet: the larger of the two.

    Args:
        share: What retries may add to the load: part of the client requests in their first attempt, like "20%" or 0.2.
        floor: Retries that are always allowed.
    """

    share: str | float = "20%"
    floor: Annotated[int, Meta(ge=0, le=1_000_000)] = 3

    def budget(self) -> Budget:
        """
        As the planner has it.

        Raises:
            ValueError: The share is none.
        """
        return Budget(share=parse_share(self.share), floor=self.floor)


class AuditSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Which finished answers are scored again, off the request path. Only where the backend can (vLLM).

    Args:
        share: Of the finished answers, drawn by chance.
        suspicion: Answers that were under this much suspicion, and passed, are scored in any case.
        prefill_per_second: Budget, on average. Unit: tokens per second.
        max_in_flight: With more client requests open no audit begins, and those that run are cancelled.
        calibrate: Healthy answers on which the deployment's floor is measured before anything is concluded.
    """

    share: Annotated[float, Meta(ge=0, le=1)] = 0.01
    suspicion: Annotated[float, Meta(gt=0, le=1)] = 0.4
    prefill_per_second: Annotated[int, Meta(ge=1)] = 500
    max_in_flight: Annotated[int, Meta(ge=1)] = 32
    calibrate: Annotated[int, Meta(ge=1, le=10_000)] = 20


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    What is logged, on standard error: one line for each exchange, without prompt and answer.

    Args:
        level: Least severe that is written. Exchanges that were not just healthy are warnings.
        format: JSON, or coloured lines; a terminal always gets the latter.
        healthy: Share of the healthy exchanges that get a line. In [0, 1].
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "human"] = "json"
    healthy: Share = 1.0


class DashboardSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    The dashboard on the admin port.

    Args:
        cases: Files of labelled streams, beside what is recorded, that "what if" tries a policy on.
    """

    cases: list[str] = []


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    All of it.

    Args:
        upstreams: At least one replica, all serving the same model.
        pool: How replicas are chosen, checked and left out.
        policy: Policy file; a bare name ("default") means a shipped policy. A list is tried in order, the
            first whose `match` fits a request is taken; the last one fits all.
        shadow_policy: A policy judged beside it; what it would have done is only counted.
        listen: Client port.
        admin: Admin port: health, metrics, live feed. Loopback unless told otherwise.
        access: Keys of clients, of the admin port and for the backends.
        upstream_tls: How https:// backends are checked.
        limits: Caps.
        timeouts: Deadlines.
        log: What is logged.
        tracing: OpenTelemetry; off if not given.
        audit: Which finished answers are scored again on a clean cache; none if not given.
        capabilities: "prove" tries each replica by a few short requests, again when its version changes; "assume"
            takes what is known of its engine.
        recording: What of the traffic is recorded; nothing if not given.
        dashboard: What the dashboard is given beside what the guard sees.
        retry_budget: Bounds the load that retries add.
        store: A Redis that the guards of a fleet share; if not given, this guard is alone.
        second_look: Whether an answer that is not streamed is asked for once more, whole, where the one put together
            from the stream may differ from what the backend would have said at once.
    """

    upstreams: list[UpstreamSettings]
    policy: str | list[str] = "default"
    shadow_policy: str | None = None
    listen: Listen = Listen()
    admin: AdminListen = AdminListen()
    access: AccessSettings = AccessSettings()
    upstream_tls: UpstreamTlsSettings = UpstreamTlsSettings()
    pool: PoolSettings = PoolSettings()
    limits: Limits = Limits()
    timeouts: TimeoutSettings = TimeoutSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings | None = None
    audit: AuditSettings | None = None
    capabilities: Literal["prove", "assume"] = "prove"
    recording: RecorderSettings | None = None
    dashboard: DashboardSettings = DashboardSettings()
    retry_budget: RetryBudgetSettings = RetryBudgetSettings()
    store: StoreSettings | None = None
    second_look: bool = True


class Loaded(NamedTuple):
    """A configuration, and where each of its settings came from."""

    config: Config
    document: Document


Option = tuple[Sequence[str | int], Plain, str]


def load_config(path: Path) -> Config:
    """
    Read a configuration file, and nothing else.

    Raises:
        ConfigError: With file, line and setting.
    """
    return load(path, {}).config


def load(
    path: Path | None,
    environ: Mapping[str, str],
    options: Iterable[Option] = (),
    *,
    own_upstream: bool = False,
) -> Loaded:
    """
    Put a configuration together: options before variables before the file before the defaults.

    Args:
        path: The file, if there is one.
        environ: Environment variables; see `guard.environment`.
        options: Of the command line: setting, value, name of the option.
        own_upstream: Whether the backend is one that the guard starts itself, so that none need be named.

    Raises:
        ConfigError: With file and line, variable or option, and the setting.
    """
    document = put_together(path, environ, options)
    config = to_struct(document, Config)
    for error in unfit(config, document, path, own_upstream=own_upstream):
        raise error
    return Loaded(config, document)


def put_together(
    path: Path | None, environ: Mapping[str, str], options: Iterable[Option], wrong: list[ConfigError] | None = None
) -> Document:
    """
    File, variables and options as one document.

    Args:
        path: See `load`; so are the next two.
        environ: Variables.
        options: Of the command line.
        wrong: Takes what is wrong with single variables, which are then left out; one raises if None.
    """
    document = Document(read_text(path) if path is not None else "", str(path) if path is not None else None)
    apply(document, Config, environ, wrong)
    for steps, value, source in options:
        document.put(steps, value, source)
    return with_upstreams(document, path)


def with_upstreams(document: Document, path: Path | None) -> Document:
    """With an empty list where none are named, which `unfit` has its own words for."""
    if document.data is None or (isinstance(document.data, dict) and "upstreams" not in document.data):
        document.put(["upstreams"], [], "default" if path is None else str(path))
    return document


def unfit(config: Config, document: Document, path: Path | None, *, own_upstream: bool) -> Iterator[ConfigError]:
    """What the types do not say."""
    if not config.upstreams and not own_upstream:
        if path is None:
            ways = "--upstream URL, --config FILE, GUARD_UPSTREAMS_0_URL, or --backend embedded to try one"
            yield ConfigError(f"name a backend: {ways}")
        else:
            yield document.error("upstreams", "name at least one upstream")
    for where, problem in problems(config):
        yield document.error(where, problem)
