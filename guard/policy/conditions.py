"""Checking and building the conditions of a rule."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping

from guard.policy.schema import All, Any, Condition, Leaf, Not
from guard.policy.source import ConditionSource
from guard.policy.units import LARGEST, parse_tokens, parse_window
from guard.types import SignalRef, SignalSpec, Window
from guard.yamldoc import Document


class ConditionBuilder:
    """
    Turns conditions as written into checked ones.

    Args:
        document: File they stand in, for complaints.
        catalogue: Signals that exist, by name.
    """

    def __init__(self, document: Document, catalogue: Mapping[str, SignalSpec]) -> None:
        self._document = document
        self._catalogue = catalogue

    def build(self, source: ConditionSource, where: str) -> Condition:
        """
        One condition with all its parts.

        Raises:
            ConfigError: It is malformed, or can never hold.
        """
        forms = {
            "signal": source.signal, "all": source.all, "any": source.any, "not": source.negated,
        }  # fmt: skip
        given = [name for name, value in forms.items() if value is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            self._document.fail(where, f"a condition has exactly one of signal, all, any, not; found {found}")
        if source.signal is not None:
            return self._leaf(source, source.signal, where)
        extra = ("window", "above", "below", "start", "to", "after")
        stray = next((name for name in extra if getattr(source, name) is not None), None)
        if stray is not None:
            name = "from" if stray == "start" else stray
            self._document.fail(f"{where}.{name}", f"belongs to a signal, not beside {given[0]!r}")
        if source.negated is not None:
            return Not(part=self.build(source.negated, f"{where}.not"))
        return self._group(source, given[0], where)

    def _group(self, source: ConditionSource, name: str, where: str) -> Condition:
        sources = source.all if source.all is not None else source.any
        if not sources:
            self._document.fail(f"{where}.{name}", "needs at least one condition")
        parts = tuple(self.build(part, f"{where}.{name}[{i}]") for i, part in enumerate(sources))
        for index, part in enumerate(parts):
            if part in parts[:index]:
                self._document.fail(f"{where}.{name}[{index}]", "the same condition stands above")
        if name == "any":
            return Any(parts=parts)
        self._refuse_contradiction(parts, f"{where}.all")
        return All(parts=parts)

    def _refuse_contradiction(self, parts: tuple[Condition, ...], where: str) -> None:
        """Two leaves on one signal of which at least one always scores 0 make the group unreachable."""
        leaves = [(i, part) for i, part in enumerate(parts) if isinstance(part, Leaf)]
        rising = [(i, leaf) for i, leaf in leaves if self._rising(leaf)]
        falling = [(i, leaf) for i, leaf in leaves if not self._rising(leaf)]
        for index, up in rising:
            for other, down in falling:
                if up.signal == down.signal and up.zero >= down.zero:
                    self._document.fail(
                        f"{where}[{max(index, other)}]",
                        f"can never hold: {up.signal} above {up.zero:g} and at once below {down.zero:g}",
                    )

    @staticmethod
    def _rising(leaf: Leaf) -> bool:
        return leaf.one > leaf.zero

    def _leaf(self, source: ConditionSource, name: str, where: str) -> Leaf:
        spec = self._catalogue.get(name)
        if spec is None:
            close = difflib.get_close_matches(name, list(self._catalogue), n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"one of {', '.join(sorted(self._catalogue))}"
            self._document.fail(f"{where}.signal", f"unknown signal {name!r}; {hint}")
        zero, one, step = self._thresholds(source, spec, where)
        after = 0
        if source.after is not None:
            try:
                after = parse_tokens(source.after)
            except ValueError as error:
                self._document.fail(f"{where}.after", str(error))
        ref = SignalRef(name=name, window=self._window(source, spec, where))
        return Leaf(signal=ref, zero=zero, one=one, step=step, after=after)

    def _window(self, source: ConditionSource, spec: SignalSpec, where: str) -> Window | None:
        if source.window is None:
            if spec.needs_window:
                hint = f"write 'window: 64 {spec.window_units[0]}'"
                self._document.fail(where, f"{spec.name} is read over a window; {hint}")
            return None
        try:
            window = parse_window(source.window)
        except ValueError as error:
            self._document.fail(f"{where}.window", str(error))
        if window.unit not in spec.window_units:
            if not spec.window_units:
                self._document.fail(f"{where}.window", f"{spec.name} takes no window; leave it out")
            allowed = " or ".join(spec.window_units)
            hint = f"write '{window.size} {spec.window_units[0]}'"
            self._document.fail(f"{where}.window", f"{spec.name} takes {allowed}, not {window.unit}; {hint}")
        if not 1 <= window.size <= LARGEST[window.unit]:
            most = f"at most {LARGEST[window.unit]} {window.unit}"
            self._document.fail(f"{where}.window", f"a window holds at least 1 and {most}; for all, leave it out")
        return window

    def _thresholds(self, source: ConditionSource, spec: SignalSpec, where: str) -> tuple[float, float, bool]:
        """What scores 0, what scores 1, and whether it is a step between the two."""
        given = [n for n in ("above", "below", "start", "to") if getattr(source, n) is not None]
        for name in given:
            self._in_range(getattr(source, name), spec, f"{where}.{'from' if name == 'start' else name}")
        if given == ["above"] and source.above is not None:
            if source.above >= spec.high:
                self._document.fail(
                    f"{where}.above", f"can never hold: {spec.name} is at most {spec.high:g}; write less"
                )
            return source.above, math.inf, True
        if given == ["below"] and source.below is not None:
            if source.below <= spec.low:
                self._document.fail(
                    f"{where}.below", f"can never hold: {spec.name} is at least {spec.low:g}; write more"
                )
            return source.below, -math.inf, True
        if source.start is None or source.to is None or len(given) != 2:
            self._document.fail(where, "a signal needs one of: above, below, or from together with to")
        if source.start == source.to:
            self._document.fail(f"{where}.to", "from and to are equal; write above or below")
        return source.start, source.to, False

    def _in_range(self, value: float, spec: SignalSpec, where: str) -> None:
        if not (math.isfinite(value) and spec.low <= value <= spec.high):
            high = "without limit" if math.isinf(spec.high) else f"to {spec.high:g}"
            self._document.fail(where, f"{value:g} is outside the range of {spec.name}: {spec.low:g} {high}")
