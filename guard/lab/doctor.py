"""`guard doctor`: proves against a live backend what the guard could do with it, and says what to do about the rest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import msgspec

from guard.config_rules import url_problem
from guard.errors import GuardError, SetupError
from guard.proto.sse import SseParser
from guard.server.cache_probes import check_cache_bypass, check_withdraw
from guard.server.probes import (
    Asker,
    Backend,
    Check,
    State,
    check_abort,
    check_rescore,
    check_resume,
    check_signal,
    identify,
)

#: Longest that one answer of the backend may take. Unit: seconds.
ANSWER_SECONDS = 180.0
#: What the guard cannot do its work without.
NEEDED = ("abort", "cache_bypass")

_Probe = Callable[[Asker, Backend], Awaitable[Check]]


class HttpxAsker:
    """Asks one backend by httpx. A context manager."""

    def __init__(self, url: str, seconds: float = ANSWER_SECONDS) -> None:
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/"),
            timeout=httpx.Timeout(seconds, connect=5.0),
            headers={"Accept-Encoding": "identity", "Connection": "close"},
            trust_env=False,  # as the guard, which knows no proxy: another one's answers would prove nothing
        )

    async def __aenter__(self) -> HttpxAsker:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def get(self, path: str) -> tuple[int, bytes]:
        """See Asker."""
        return await self._answer(self._client.get(path))

    async def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
        """See Asker."""
        return await self._answer(self._client.post(path, json=dict(body)))

    async def stream(self, path: str, body: Mapping[str, Any], events: int) -> list[bytes]:
        """See Asker."""
        seen: list[bytes] = []
        parser = SseParser(max_event_bytes=1 << 20)
        try:
            async with self._client.stream("POST", path, json=dict(body)) as reply:
                async for data in reply.aiter_raw():
                    seen += [event.data for event in parser.feed(data) if event.data is not None]
                    if len(seen) >= events:
                        break
        except httpx.HTTPError as error:
            raise OSError(_said(error)) from error
        return seen[:events]

    async def _answer(self, reply: Awaitable[httpx.Response]) -> tuple[int, bytes]:
        try:
            response = await reply
        except httpx.HTTPError as error:
            raise OSError(_said(error)) from error
        return response.status_code, response.content


def _said(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.ReadTimeout):
        return f"no answer within {ANSWER_SECONDS:.0f} s"
    return str(error) or type(error).__name__


class Diagnosis(msgspec.Struct, frozen=True):
    """
    What was found.

    Args:
        upstream: Base URL.
        backend: Who answers there.
        checks: Each capability, in the order they were tried.
    """

    upstream: str
    backend: Backend
    checks: tuple[Check, ...]

    def state(self, name: str) -> State:
        """Of one check."""
        return next(check.state for check in self.checks if check.name == name)

    @property
    def ok(self) -> bool:
        """Whether nothing that the guard needs was found missing."""
        return all(self.state(name) is not State.NO for name in NEEDED)

    def as_json(self) -> dict[str, Any]:
        """For programs: one true, false or null (could not be seen) for each capability, and the checks."""
        known = {State.YES: True, State.NO: False, State.UNKNOWN: None}
        flags = {f"{check.name}_works": known[check.state] for check in self.checks}
        flags["signal_live"] = flags.pop("signal_works")
        flags["resume_works"] = flags["resume_chat_works"]
        return {
            "upstream": self.upstream,
            "engine": self.backend.engine,
            "version": self.backend.version,
            "model": self.backend.model,
            **flags,
            "ok": self.ok,
            "checks": msgspec.to_builtins(self.checks),
        }

    def as_text(self) -> str:
        """For people: a table, and what to do about each that is not there."""
        backend = self.backend
        lines = [
            f"{self.upstream}: {backend.engine} {backend.version or '(version not told)'}, model {backend.model}",
            "",
        ]
        width = max(len(check.name) for check in self.checks)
        lines += [f"  {check.name:<{width}}  {check.state.value:<7}  {check.detail}" for check in self.checks]
        todo = [(check.name, check.remedy) for check in self.checks if check.remedy]
        if not backend.model and self.upstream.rstrip("/").endswith("/v1"):
            # As clients have it. All that was asked for is then one folder too deep, and nothing else is wrong.
            todo = [("url", f"no model was found: try {self.upstream.rstrip('/')[:-3]}, the paths have the /v1")]
        if todo:
            lines += ["", "What to do:"]
            lines += [f"  {name:<{width}}  {remedy}" for name, remedy in todo]
        return "\n".join(lines)


async def diagnose(url: str, asker: Asker) -> Diagnosis:
    """
    Try everything, one thing after another: a probe must not see the load of another.

    Args:
        url: For the report.
        asker: Speaks with the backend.

    Raises:
        SetupError: It cannot be reached.
    """
    try:
        backend = await identify(asker)
        checks = [await _tried(name, probe, asker, backend) for name, probe in _PROBES]
    except OSError as error:
        raise SetupError(f"{url} cannot be reached: {error}") from error
    return Diagnosis(url, backend, tuple(checks))


async def _tried(name: str, probe: _Probe, asker: Asker, backend: Backend) -> Check:
    try:
        return await probe(asker, backend)
    except GuardError as error:
        return Check(name, State.UNKNOWN, f"the backend's answer was not understood: {error}")


async def _resume_chat(asker: Asker, backend: Backend) -> Check:
    return await check_resume(asker, backend, chat=True)


async def _resume_completions(asker: Asker, backend: Backend) -> Check:
    return await check_resume(asker, backend, chat=False)


_PROBES: tuple[tuple[str, _Probe], ...] = (
    ("signal", check_signal),
    ("abort", check_abort),
    ("resume_chat", _resume_chat),
    ("resume_completions", _resume_completions),
    ("cache_bypass", check_cache_bypass),
    ("rescoring", check_rescore),
    ("withdrawal", check_withdraw),
)


def doctor_command(url: str, *, as_json: bool) -> bool:
    """
    Diagnose and print.

    Args:
        url: Base URL of the backend.
        as_json: One JSON object instead of the table.

    Returns:
        Whether nothing that the guard needs was found missing.

    Raises:
        SetupError: The URL is none, or the backend cannot be reached.
    """
    problem = url_problem(url)
    if problem:
        raise SetupError(problem)
    diagnosis = asyncio.run(_diagnose(url))
    print(json.dumps(diagnosis.as_json(), indent=2) if as_json else diagnosis.as_text())
    return diagnosis.ok


async def _diagnose(url: str) -> Diagnosis:
    async with HttpxAsker(url) as asker:
        return await diagnose(url, asker)
