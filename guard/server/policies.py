"""
The policies of one process: which request gets which, reloading while serving, and a shadow beside them.

A request keeps the judge it was given, so a reload never changes the rules of a stream in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from guard.data import check_regular
from guard.errors import ConfigError
from guard.policy.judge import Judge
from guard.policy.match import RequestFacts, matches
from guard.policy.schema import Match, Policy
from guard.proto.client import ClientRequest
from guard.shipped import read_policy
from guard.types import Verdict

#: Between two looks at the files. Unit: seconds.
POLL = 1.0
#: Disagreements between live and shadow policy that are kept to be looked at.
KEPT = 50

#: Reads a policy and adds every file it looks at to the list: (name, files) -> policy.
Read = Callable[[str, list[Path]], Policy]
_Mark = tuple[int, int, int] | None

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class _Looked(list[Path]):
    """Files that a load looks at, each marked just before it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: dict[Path, _Mark] = {}

    def append(self, path: Path) -> None:
        """Add a file about to be read."""
        self.marks.setdefault(path, _mark(path))
        super().append(path)


class Chosen(NamedTuple):
    """What judges one request: the policy that acts, and one that is only watched, if any."""

    judge: Judge
    shadow: Judge | None


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt on which live and shadow policy came to different actions."""

    request_id: str
    live: str
    shadow: str
    rule: str
    token: int
    reason: str


class _Loaded(NamedTuple):
    entries: tuple[tuple[Match, Chosen], ...]
    sized: bool


class PolicySet:
    """
    Ordered policies, of which the first that matches a request is taken.

    Args:
        names: Paths, or names of shipped policies; the last one must match every request.
        shadow: A policy evaluated beside the live one; its actions are only counted.
        read: Loads one policy; for tests.

    Raises:
        ConfigError: One of them is wrong, or never taken, or none is left for some request.
    """

    def __init__(self, names: Sequence[str], shadow: str | None = None, read: Read = read_policy) -> None:
        self._names = tuple(names)
        self._shadow = shadow
        self._read = read
        self._wanted = asyncio.Event()
        self._lock = asyncio.Lock()
        files = _Looked()
        self._loaded = self._load(files)
        self._files = tuple(dict.fromkeys(files))
        self._marks = tuple(files.marks[path] for path in self._files)
        #: Counts up with every reload that took effect.
        self.generation = 1
        self.last_reload_ok = True
        self.reloads_ok = 0
        self.reloads_failed = 0
        #: Attempts that live and shadow policy both judged.
        self.shadow_compared = 0
        #: (live action, shadow action) of attempts on which they differ.
        self.shadow_disagreed: Counter[tuple[str, str]] = Counter()
        self.disagreements: deque[Disagreement] = deque(maxlen=KEPT)

    @classmethod
    def of(cls, policy: Policy) -> PolicySet:
        """A set of one policy made in code, for every request; it has no file to reload."""
        return cls([policy.name], read=lambda _name, _files: policy)

    # -- choosing -----------------------------------------------------------------------------------

    @property
    def policies(self) -> list[Policy]:
        """The live policies in order, then the shadow."""
        entries = self._loaded.entries
        live = [chosen.judge.policy for _, chosen in entries]
        shadow = entries[-1][1].shadow
        return live if shadow is None else [*live, shadow.policy]

    @property
    def fallback(self) -> Chosen:
        """What judges requests that no policy was written for in particular."""
        return self._loaded.entries[-1][1]

    def choose(self, request: ClientRequest, headers: Mapping[str, str]) -> Chosen:
        """
        What judges a request.

        Args:
            request: The client's request.
            headers: Its headers, names in any case.
        """
        entries, sized = self._loaded
        if len(entries) == 1:
            return entries[0][1]
        facts = request_facts(request, headers, sized=sized)
        return next((chosen for match, chosen in entries if matches(match, facts)), entries[-1][1])

    # -- the shadow ---------------------------------------------------------------------------------

    @property
    def shadowed(self) -> bool:
        """Whether a shadow policy is judged beside the live ones."""
        return self._shadow is not None

    def compare(self, request_id: str, live: str, shadow: Verdict | None) -> None:
        """
        Count what the shadow policy would have done with an attempt.

        Args:
            request_id: Of the exchange.
            live: Action of the live policy; "pass" when none.
            shadow: First verdict of the shadow that acts; None when it let everything pass.
        """
        self.shadow_compared += 1
        action = shadow.action.value if shadow is not None else "pass"
        if action == live:
            return
        self.shadow_disagreed[(live, action)] += 1
        self.disagreements.append(
            Disagreement(
                request_id=request_id,
                live=live,
                shadow=action,
                rule=shadow.rule if shadow is not None else "",
                token=shadow.token if shadow is not None else 0,
                reason=shadow.reason if shadow is not None else "",
            )
        )

    def shadow_report(self) -> dict[str, object]:
        """What came of the comparison, for the admin port: counts, and the latest disagreements."""
        counts = [
            {"live": live, "shadow": shadow, "attempts": count}
            for (live, shadow), count in sorted(self.shadow_disagreed.items())
        ]
        return {
            "shadow": self._shadow,
            "compared": self.shadow_compared,
            "disagreed": counts,
            "latest": list(self.disagreements)[::-1],
        }

    # -- reloading ----------------------------------------------------------------------------------

    def reload_soon(self) -> None:
        """Ask for a reload; safe in a signal handler of the loop."""
        self._wanted.set()

    async def watch(self, interval: float = POLL) -> None:
        """
        Reload when a file changes or when asked to. Runs until it is cancelled.

        A change counts once it has stood still from one look to the next, so that a file is not read
        half written or while it is replaced.

        Args:
            interval: Between two looks. Unit: seconds.
        """
        seen = self._marks
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._wanted.wait()
            asked = self._wanted.is_set()
            self._wanted.clear()
            now = await asyncio.to_thread(_marks, self._files)
            if asked or (now != self._marks and now == seen):
                await self.reload()
                now = self._marks
            seen = now

    async def reload(self) -> bool:
        """
        Load all policies anew, in a thread of its own. When one is wrong, all stay as they were.

        Returns:
            Whether the new ones are in force.
        """
        async with self._lock:
            files = _Looked()
            before = dict(zip(self._files, self._marks, strict=True))
            try:
                loaded = await asyncio.to_thread(self._load_again, files)
            except ConfigError as error:
                self.last_reload_ok = False
                self.reloads_failed += 1
                _log.error("policy reload failed; the last good policies stay", error=str(error))
            else:
                self._loaded = loaded
                self.generation += 1
                self.last_reload_ok = True
                self.reloads_ok += 1
                _log.info("policies reloaded", generation=self.generation, policies=[p.name for p in self.policies])
            # After a failure the files of both the old and the new set are watched.
            self._files = tuple(dict.fromkeys(files if self.last_reload_ok else (*files, *self._files)))
            # Marks from before each file was read: what changes meanwhile is read again.
            self._marks = tuple(files.marks.get(path, before.get(path)) for path in self._files)
            return self.last_reload_ok

    def _load_again(self, files: list[Path]) -> _Loaded:
        for path in self._files:
            check_regular(path)
        return self._load(files)

    def _load(self, files: list[Path]) -> _Loaded:
        policies = [self._read(name, files) for name in self._names]
        _check_order(self._names, policies)
        shadow = self._read(self._shadow, files) if self._shadow is not None else None
        entries: list[tuple[Match, Chosen]] = []
        for policy in policies:
            judge = Judge(policy)
            entries.append((policy.match, Chosen(judge, Judge(shadow, judge.refs) if shadow is not None else None)))
        sized = any(match.prompt_tokens or match.prompt_characters for match, _ in entries)
        return _Loaded(tuple(entries), sized)


def _check_order(names: Sequence[str], policies: Sequence[Policy]) -> None:
    if not policies:
        raise ConfigError("name at least one policy")
    for index, policy in enumerate(policies):
        last = index == len(policies) - 1
        if policy.match == Match() and not last:
            raise ConfigError(
                "it matches every request, so those after it are never taken; give it a match, or put it last",
                path=names[index],
            )
        if policy.match != Match() and last:
            ordered = ", ".join([*names, "default"])
            raise ConfigError(
                f"some requests match no policy; put one without a match last, as in policy: [{ordered}]",
                path=names[index],
            )
        if policy.name in [earlier.name for earlier in policies[:index]]:
            raise ConfigError(f"another policy is called {policy.name!r} too; names tell them apart", path=names[index])


def _marks(files: Sequence[Path]) -> tuple[_Mark, ...]:
    """What changes when a file is written or replaced: time, size, inode; None where there is no file."""
    return tuple(_mark(path) for path in files)


def _mark(path: Path) -> _Mark:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def request_facts(request: ClientRequest, headers: Mapping[str, str], *, sized: bool = True) -> RequestFacts:
    """
    What policies may ask of a request.

    Args:
        request: The client's.
        headers: Its headers, names in any case; of one given twice the last counts.
        sized: Whether the size of the prompt is needed.
    """
    characters, tokens = prompt_size(request.body) if sized else (0, None)
    return RequestFacts(
        model=request.model,
        route=request.route,
        headers={name.lower(): value for name, value in headers.items()},
        prompt_characters=characters,
        prompt_tokens=tokens,
    )


def prompt_size(body: Mapping[str, object]) -> tuple[int, int | None]:
    """
    Size of a request's prompt: characters of text, and tokens where it is given as token ids.

    Args:
        body: Decoded body of a chat or completions request; any shape.
    """
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        ids = [part for part in prompt if isinstance(part, int)]
        if prompt and len(ids) == len(prompt):
            return 0, len(ids)
        return sum(len(part) for part in prompt if isinstance(part, str)), None
    if isinstance(prompt, str):
        return len(prompt), None
    messages = body.get("messages")
    if not isinstance(messages, list):
        return 0, None
    return sum(_content_size(message.get("content")) for message in messages if isinstance(message, dict)), None


def _content_size(content: object) -> int:
    if isinstance(content, str):
        return len(content)
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return sum(len(text) for text in texts if isinstance(text, str))
