"""The settings beside the rules: hold_back, retry, match, kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import UnsetType

from guard.policy.schema import Confirm, HoldBack, HoldMode, Match, Retry, Span
from guard.policy.source import (
    MAX_ATTEMPTS,
    ConfirmSource,
    HoldBackSource,
    KindSource,
    MatchSource,
    RetrySource,
    SpanSource,
)
from guard.policy.units import parse_tokens
from guard.types import Action, Change, Kind
from guard.yamldoc import Document

_NAME_ONE = f"name one of {', '.join(Change)}"
#: Longest glob. Unit: characters.
MAX_GLOB = 256
#: Longest that text may wait for a confirmation. Unit: seconds.
MAX_CONFIRM_SECONDS = 60.0


def read(document: Document, where: str, parse: Callable[[str], int], text: str) -> int:
    """Parse one setting. Raises ConfigError with its place."""
    try:
        return parse(text)
    except ValueError as error:
        raise document.error(where, str(error)) from None


def check_action(document: Document, where: str, action: Action) -> None:
    """Refuse `pass`: a rule that does nothing is no rule."""
    if action is Action.PASS:
        document.fail(where, "a rule that does nothing is no rule; 'note' only records")


def build_hold_back(document: Document, source: HoldBackSource) -> HoldBack:
    """
    `hold_back`, checked.

    Raises:
        ConfigError: Levels out of order, a window without its mode, or the other way round.
    """
    limit = read(document, "hold_back.limit", parse_tokens, source.limit)
    window = read(document, "hold_back.window", parse_tokens, source.window)
    if not 0.0 < source.hold_at <= 1.0:
        document.fail("hold_back.hold_at", f"{source.hold_at:g} is outside (0, 1]; 0.5 is usual")
    if not source.hold_at <= source.act_at <= 1.0:
        document.fail("hold_back.act_at", f"{source.act_at:g} must lie between hold_at ({source.hold_at:g}) and 1")
    if source.mode is HoldMode.WINDOW and window == 0:
        document.fail("hold_back.window", "mode 'window' needs a window, for instance '48 tokens'")
    if source.mode is not HoldMode.WINDOW and window != 0:
        document.fail("hold_back.window", f"mode {source.mode.value!r} uses no window; write mode: window")
    if limit < max(1, window):
        document.fail("hold_back.limit", f"must be at least 1 token and no less than the window ({window})")
    return HoldBack(mode=source.mode, hold_at=source.hold_at, act_at=source.act_at, limit=limit, window=window)


def build_retry(document: Document, source: RetrySource, actions: Iterable[Action]) -> Retry:
    """
    `retry`, checked.

    Args:
        document: Where it stands.
        source: As written.
        actions: Of the policy's rules.

    Raises:
        ConfigError: Too many attempts, retries that would change nothing, or no number of tokens.
    """
    _check_attempts(document, "retry.max_attempts", source.max_attempts)
    if Action.RETRY in actions and source.max_attempts > 1 and not source.change:
        document.fail("retry.change", f"a retry that changes nothing repeats the fault; {_NAME_ONE}")
    _check_twice(document, "retry.change", source.change)
    shown = read(document, "retry.max_bad_shown", parse_tokens, source.max_bad_shown)
    return Retry(max_attempts=source.max_attempts, change=source.change, max_bad_shown=shown)


def build_confirm(document: Document, source: ConfirmSource) -> Confirm | None:
    """
    `confirm`, checked.

    Returns:
        None where no kind is confirmed.

    Raises:
        ConfigError: A kind is listed twice, or a limit is none.
    """
    if len(set(source.kinds)) != len(source.kinds):
        document.fail("confirm.kinds", "a kind is listed twice")
    if not 0.0 < source.timeout <= MAX_CONFIRM_SECONDS:
        message = f"{source.timeout:g} is outside (0, {MAX_CONFIRM_SECONDS:g}] seconds; 5 is usual"
        document.fail("confirm.timeout", message)
    limits = {}
    for name in ("max_prefill", "prefill_per_second"):
        limits[name] = read(document, f"confirm.{name}", parse_tokens, getattr(source, name))
        if limits[name] < 1:
            document.fail(f"confirm.{name}", "must be at least 1 token; leave confirm out to confirm nothing")
    return Confirm(kinds=source.kinds, timeout=source.timeout, **limits) if source.kinds else None


def build_kinds(
    document: Document, source: dict[Kind, KindSource], kinds: Iterable[Kind]
) -> tuple[dict[Kind, int], dict[Kind, tuple[Change, ...]]]:
    """
    `kinds`, checked.

    Args:
        document: Where it stands.
        source: As written.
        kinds: Of the policy's rules.

    Returns:
        Attempts in all, and what a retry changes, for the kinds that have their own.

    Raises:
        ConfigError: No rule is of that kind, or a setting of it is wrong.
    """
    known = set(kinds)
    attempts: dict[Kind, int] = {}
    changes: dict[Kind, tuple[Change, ...]] = {}
    for kind, settings in source.items():
        where = f"kinds.{kind.value}"
        if kind not in known:
            document.fail(where, f"no rule is of this kind; there are {', '.join(sorted(known))}")
        if settings == KindSource():
            document.fail(where, "give action, max_attempts or change, or leave it out")
        if not isinstance(settings.action, UnsetType):
            check_action(document, f"{where}.action", settings.action)
        if not isinstance(settings.max_attempts, UnsetType):
            _check_attempts(document, f"{where}.max_attempts", settings.max_attempts)
            attempts[kind] = settings.max_attempts
        if not isinstance(settings.change, UnsetType):
            _check_twice(document, f"{where}.change", settings.change)
            if not settings.change:
                document.fail(f"{where}.change", f"a retry that changes nothing repeats the fault; {_NAME_ONE}")
            changes[kind] = settings.change
    return attempts, changes


def _check_twice(document: Document, where: str, changes: tuple[Change, ...]) -> None:
    if len(set(changes)) != len(changes):
        document.fail(where, "a change is listed twice")


def _check_attempts(document: Document, where: str, attempts: int) -> None:
    if not 1 <= attempts <= MAX_ATTEMPTS:
        document.fail(where, f"{attempts} is outside 1 to {MAX_ATTEMPTS}")


def build_match(document: Document, source: MatchSource) -> Match:
    """
    `match`, checked.

    Raises:
        ConfigError: A glob is empty or too long, a route is no path, a header is named twice, or a size
            can never be met.
    """
    routes = _globs(document, "match.route", source.route)
    for route in routes:
        if not route.startswith(("/", "*", "?")):
            document.fail("match.route", f"{route!r} is no path; write it like '/v1/chat/completions'")
    header: dict[str, str] = {}
    for name, glob in ({} if isinstance(source.header, UnsetType) else source.header).items():
        where = f"match.header.{name}"
        _check_glob(document, where, glob)
        if not name.strip() or name.lower() in header:
            document.fail(where, "is named twice; upper and lower case are the same" if name.strip() else "has no name")
        header[name.lower()] = glob
    return Match(
        model=_globs(document, "match.model", source.model),
        route=routes,
        header=tuple(header.items()),
        prompt_tokens=_span(document, "match.prompt_tokens", source.prompt_tokens),
        prompt_characters=_span(document, "match.prompt_characters", source.prompt_characters),
    )


def _globs(document: Document, where: str, source: str | tuple[str, ...] | UnsetType) -> tuple[str, ...]:
    if isinstance(source, UnsetType):
        return ()
    globs = (source,) if isinstance(source, str) else source
    if not globs:
        document.fail(where, "an empty list fits nothing; leave it out to fit everything")
    for glob in globs:
        _check_glob(document, where, glob)
    return globs


def _check_glob(document: Document, where: str, glob: str) -> None:
    if not glob:
        document.fail(where, "an empty glob fits nothing; '*' fits everything")
    if len(glob) > MAX_GLOB:
        document.fail(where, f"a glob has at most {MAX_GLOB} characters")


def _span(document: Document, where: str, source: SpanSource | UnsetType) -> Span | None:
    if isinstance(source, UnsetType):
        return None
    above, below = source.above, source.below
    if above is None and below is None:
        document.fail(where, "give above, below or both")
    if below is not None and not below > 0:
        document.fail(f"{where}.below", f"can never hold: a prompt is never below {below:g}")
    if above is not None and below is not None and not below - above > 1:
        document.fail(f"{where}.below", f"can never hold: no size is above {above:g} and below {below:g}")
    return Span(above=above, below=below)
