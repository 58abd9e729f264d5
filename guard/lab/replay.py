"""
A recorded stream through the live path: an upstream that plays it, a guard, a client.

Everything stays on loopback. With an own guard, verdicts come from the exchange's record; a guard that
already runs is told by its closing comment.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import difflib
import ipaddress
import math
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from guard.config import AdminListen, Config, Listen, TimeoutSettings, UpstreamSettings
from guard.config_rules import url_problem
from guard.detect.baseline import Baseline
from guard.errors import ConfigError, ProtocolError, SetupError
from guard.lab.backtest import baselines_for
from guard.lab.doubts import unreadable
from guard.lab.tape_player import Recorded, TapePlayer, load
from guard.observe.log import configure
from guard.policy.judge import Judge
from guard.proto.openai import Route, decode_chunk, is_done
from guard.proto.sse import SseParser
from guard.server.run import Running, running_guard
from guard.shipped import find_policy

#: Characters of the client's text that are shown from either end.
_EXCERPT = 60
_COMMENT = b": guard "


class Received(msgspec.Struct):
    """
    What the client got. Times are seconds from its request.

    Args:
        status: HTTP status.
        text: The answer's text.
        error: Message of an error in or instead of the stream; empty without one.
        ended: Whether the stream ended as a whole answer does.
        summary: The guard's closing comment.
        ttft: Until the first text; None when there was none.
        seconds: Until the end.
    """

    status: int = 0
    text: str = ""
    error: str = ""
    ended: bool = False
    summary: dict[str, Any] = {}
    ttft: float | None = None
    seconds: float = 0.0


class Replayed(msgspec.Struct):
    """
    One recording, played.

    Args:
        name: Of the recording.
        label: Kind of the case; empty for a captured stream.
        first_bad_token: Its label, if it is a bad case.
        outcome: How the exchange ended, as the guard says.
        attempts: Upstream requests made for it.
        played_tokens: Tokens that the upstream sent in each; of a captured stream, events.
        kind: What the guard found wrong; None for nothing.
        reason: Its evidence.
        onset_token: Estimated first bad token, from an own guard.
        verdict_token: Token at which the verdict fell, likewise.
        client: What the client got.
    """

    name: str
    label: str
    first_bad_token: int | None
    outcome: str
    attempts: int
    played_tokens: list[int]
    kind: str | None
    reason: str
    client: Received
    onset_token: int | None = None
    verdict_token: int | None = None


def is_loopback(url: str) -> bool:
    """Whether a URL points at this machine itself, by name or number."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def receive(client: httpx.AsyncClient, url: str, recorded: Recorded, *, silence: float = 300.0) -> Received:
    """
    Ask a guard for a recording as a client would, and read what comes.

    Args:
        client: HTTP client.
        url: Base URL of the guard.
        recorded: What its upstream plays.
        silence: Longest that is waited for. Unit: seconds.

    Raises:
        SetupError: The guard cannot be reached.
    """
    got = Received()
    prompt = (recorded.case.prompt if recorded.case else "") or "replay"
    body: dict[str, Any] = {"model": "replay", "stream": True}
    if recorded.route == Route.CHAT.value:
        body["messages"] = [{"role": "user", "content": prompt}]
    else:
        body["prompt"] = prompt
    parser = SseParser()
    texts: list[str] = []
    started = time.monotonic()
    try:
        async with client.stream("POST", url.rstrip("/") + recorded.route, json=body, timeout=silence) as reply:
            got.status = reply.status_code
            if "text/event-stream" not in reply.headers.get("content-type", ""):
                got.error = _message(await reply.aread())
            else:
                async for data in reply.aiter_bytes():
                    for event in parser.feed(data):
                        _take(got, texts, event.raw, event.data, time.monotonic() - started)
    except httpx.ConnectError as error:
        raise SetupError(f"cannot reach a guard at {url}: {error}") from error
    except (httpx.HTTPError, ProtocolError) as error:
        got.error = got.error or f"the stream broke off: {error}"
    got.text = "".join(texts)
    got.seconds = round(time.monotonic() - started, 4)
    return got


def _take(got: Received, texts: list[str], raw: bytes, data: bytes | None, at: float) -> None:
    if data is None:
        if raw.startswith(_COMMENT):
            with contextlib.suppress(msgspec.DecodeError):
                got.summary = msgspec.json.decode(raw[len(_COMMENT) :], type=dict[str, Any])
        return
    if is_done(data):
        got.ended = True
        return
    chunk = decode_chunk(data)
    if chunk.error is not None:
        got.error = _message(data)
    for choice in chunk.choices:
        text = choice.text if choice.delta is None else choice.delta.content
        if text:
            texts.append(text)
            got.ttft = round(at, 4) if got.ttft is None else got.ttft


def _message(body: bytes) -> str:
    """The message in an error body of OpenAI's form, or its beginning."""
    with contextlib.suppress(msgspec.DecodeError):
        error = msgspec.json.decode(body, type=dict[str, Any]).get("error")
        if isinstance(error, dict) and isinstance(error.get("message"), str):
            return str(error["message"])
    return body[:200].decode(errors="replace")


async def replay(
    recorded: Sequence[Recorded],
    *,
    policy: str,
    url: str | None,
    baseline: str | None = None,
    port: int = 0,
    tokens_per_second: float = 0.0,
    heals: bool = False,
) -> AsyncGenerator[Replayed, None]:
    """
    Play recordings one after the other.

    Args:
        recorded: What to play.
        policy: For an own guard: policy file or shipped name.
        url: A guard that already runs, with the player's port as its upstream; None for an own one.
        baseline: For an own guard: as `guard backtest` takes it.
        port: The player's port; 0 takes a free one.
        tokens_per_second: Pace; 0 for as fast as can be.
        heals: Whether later attempts play only what came before the fault.

    Raises:
        GuardError: A setting is wrong, a port is taken, or the guard cannot be reached.
    """
    if url is not None and not is_loopback(url):
        raise ConfigError(f"{url} is not on this machine; a replay stays on loopback", where="--url")
    if url is not None and not port:
        raise ConfigError("name the port that the guard has as its upstream", where="--listen")
    judge = Judge(find_policy(policy))
    async with (
        TapePlayer(port=port, tokens_per_second=tokens_per_second, heals=heals) as player,
        # Proxies set in the environment are not for loopback. Each own guard has a port of its own, and would wait a
        # second at its end for a connection that is kept open.
        httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)) as client,
    ):
        for one in recorded:
            player.insert(one)
            if url is not None:
                got = await receive(client, url, one)
                if not player.plays:
                    raise SetupError(f"the guard at {url} did not ask {player.url}; make that its only upstream")
                yield _told(one, player, got)
                continue
            depth = one.num_speculative_tokens
            known = baselines_for(baseline, [depth] if depth else []) if baseline else {}
            async with _own_guard(one, judge, player.url, known.get(depth or 0)) as running:
                got = await receive(client, running.url, one)
                await running.settled()
                yield _recorded_by(running, _told(one, player, got))


@contextlib.asynccontextmanager
async def _own_guard(one: Recorded, judge: Judge, upstream: str, baseline: Baseline | None) -> AsyncIterator[Running]:
    settings = {"url": upstream, "engine": one.engine, "num_speculative_tokens": one.num_speculative_tokens}
    config = Config(
        upstreams=[msgspec.convert(settings, UpstreamSettings)],
        listen=Listen(port=0),
        admin=AdminListen(port=0),
        timeouts=TimeoutSettings(drain=1.0),
    )
    async with running_guard(config, judge, {upstream: baseline} if baseline else None) as running:
        yield running


def _told(one: Recorded, player: TapePlayer, got: Received) -> Replayed:
    summary = got.summary
    return Replayed(
        name=one.name,
        label=one.case.kind.value if one.case else "",
        first_bad_token=one.case.first_bad_token if one.case else None,
        outcome=str(summary.get("outcome", "error" if got.error else "unknown")),
        attempts=len(player.plays),
        played_tokens=[play.tokens for play in player.plays],
        kind=summary.get("kind"),
        reason=str(summary.get("reason", "")),
        client=got,
    )


def _recorded_by(running: Running, told: Replayed) -> Replayed:
    """The same with what only the exchange's record knows."""
    for record in running.guard.records.latest(1):
        told.outcome = record.outcome.value
        told.attempts = len(record.attempts)
        bad = next((attempt for attempt in record.attempts if attempt.kind is not None), None)
        if bad is not None and bad.kind is not None:
            told.kind, told.reason = bad.kind.value, bad.reason
            told.onset_token, told.verdict_token = bad.onset_token, bad.verdict_token
    return told


def described(one: Replayed) -> str:
    """One replay for a person."""
    got = one.client
    label = f" (labelled {one.label}" + (f" from token {one.first_bad_token})" if one.first_bad_token else ")")
    lines = [f"{one.name}{label if one.label else ''}: {one.outcome}"]
    if one.kind:
        where = f" at token {one.verdict_token}, onset {one.onset_token}" if one.verdict_token is not None else ""
        lines.append(f"  found: {one.kind}{where}: {one.reason}")
    played = ", ".join(map(str, one.played_tokens))
    lines.append(f"  attempts: {one.attempts}; the upstream sent {played} tokens")
    if got.error:
        lines.append(f"  the client was told: {got.error}")
    first = "never" if got.ttft is None else f"{got.ttft * 1000:.0f} ms"
    lines.append(f"  the client got {len(got.text)} characters; first text {first}, all in {got.seconds:.2f} s")
    if got.text:
        lines.append(f"  {_excerpt(got.text)}")
    return "\n".join(lines)


def _excerpt(text: str) -> str:
    if len(text) <= 2 * _EXCERPT:
        return ascii(text)
    return f"{text[:_EXCERPT]!a} ... {text[-_EXCERPT:]!a}"


def replay_command(args: argparse.Namespace) -> int:
    """
    `guard replay`.

    Args:
        args: Parsed arguments: file, url, policy, baseline, listen, speed, heal, case, json.

    Returns:
        0.

    Raises:
        GuardError: See replay.
    """
    problem = url_problem(args.url) if args.url is not None else ""
    if problem:
        raise ConfigError(problem, where="--url")
    if not 0 <= args.listen < 65536:
        raise ConfigError("give a port, 0 for a free one", where="--listen")
    if not 0 <= args.speed < math.inf:
        raise ConfigError("give tokens per second, 0 for all speed", where="--speed")
    recorded = load(Path(args.file))
    if not recorded:
        raise ConfigError("nothing to play in it", path=str(args.file))
    names = {one.name for one in recorded}
    for name in args.case:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"there is no case {name!r} in {args.file}{hint}", where="--case")
    if args.case:
        recorded = [one for one in recorded if one.name in args.case]
    for line in unreadable([one.case for one in recorded if one.case is not None]):
        print(f"guard: {line}", file=sys.stderr)
    # The exchange's log line says what is printed here.
    configure("error", human=True)
    asyncio.run(_print_all(recorded, args))
    return 0


async def _print_all(recorded: Sequence[Recorded], args: argparse.Namespace) -> None:
    played = replay(
        recorded,
        policy=args.policy,
        url=args.url,
        baseline=args.baseline,
        port=args.listen,
        tokens_per_second=args.speed,
        heals=args.heal,
    )
    async with contextlib.aclosing(played):
        async for one in played:
            print(msgspec.json.encode(one).decode() if args.json else described(one), flush=True)
