"""From recorded healthy traffic to a profile of its acceptance, and to thresholds that would leave it alone."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from guard.core.record import UNKNOWN_DRAFT
from guard.detect.bank import DetectorBank
from guard.detect.baseline import Baseline
from guard.detect.step_window import PRIOR
from guard.detect.told import bank_for
from guard.errors import ConfigError
from guard.lab.cases import Case, CaseKind, read_cases, samples
from guard.lab.files import write_whole
from guard.lab.profile import Profile, Row, Step, make_row
from guard.types import SignalRef, Unit, Window

#: Windows over which thresholds are suggested. Unit: tokens.
WINDOWS = (16, 32, 64, 128)
#: False alarms asked for, as a share of the windows.
ALARM_SHARE = 1e-4
#: Share of the readings' range above what healthy windows reach, below which a threshold makes no sense.
_LEAST_ROOM = 0.05
_HEAD = b"# Written by `guard calibrate`; do not edit.\n"


class Threshold(NamedTuple):
    """
    What healthy traffic did over one window.

    Args:
        window: Length. Unit: tokens.
        windows: Readings taken: one a verify step once the window is full.
        level: The reading that ALARM_SHARE of them reached, or the highest one.
        median: The middle reading.
        streams: Streams with a reading.
        alarmed: Streams that reached `level`.
        resolved: Whether there were enough readings to speak of such a share.
    """

    window: int
    windows: int
    level: float
    median: float
    streams: int
    alarmed: int
    resolved: bool

    @property
    def room(self) -> float:
        """Share of the reading's range that healthy windows leave free."""
        return 1.0 - self.level / deepest_fall(self.window)


def deepest_fall(window: int) -> float:
    """What `acceptance_fall` reads over a window in which nothing is kept. Unit of the window: tokens."""
    return 1.0 - PRIOR / (window + PRIOR)


def steps_of(case: Case) -> tuple[Step, ...]:
    """The verify steps of a case that had a draft; an unknown depth is taken to be the deployment's."""
    return tuple(
        Step(chunk.accepted, case.num_speculative_tokens if chunk.drafted == UNKNOWN_DRAFT else chunk.drafted)
        for chunk in case.chunks
        if chunk.accepted is not None and chunk.drafted
    )


def calibrate(cases: Sequence[Case], *, draft: str, engine: str, conditions: str) -> Profile:
    """
    Sum up healthy streams, one row for each draft depth and temperature.

    Args:
        cases: Healthy streams.
        draft: Name for the profile.
        engine: Engine and version.
        conditions: Where the streams come from, for people.

    Raises:
        ConfigError: No stream has a verify step with a draft.
    """
    groups: dict[tuple[int, float], list[tuple[Step, ...]]] = {}
    used: list[Case] = []
    for case in cases:
        steps = steps_of(case)
        if steps:
            groups.setdefault((case.num_speculative_tokens, case.temperature), []).append(steps)
            used.append(case)
    if not used:
        raise ConfigError("no stream tells of a verify step with a draft; there is no acceptance to calibrate")
    rows: list[Row] = [
        # Traces have no times: the speed stays unknown.
        make_row(streams, depth, temperature, 0.0)
        for (depth, temperature), streams in sorted(groups.items())
    ]
    return Profile(
        draft=draft,
        engine=engine,
        conditions=conditions,
        num_prompts=len(used),
        tokens_per_prompt=max(case.tokens for case in used),
        plain=(),
        rows=tuple(rows),
    )


def baselines_of(profile: Profile) -> dict[int, Baseline]:
    """The baseline of each depth: its temperature with the least acceptance, as when the profile is used."""
    found: dict[int, Baseline] = {}
    for row in profile.rows:
        depth = row.num_speculative_tokens
        if depth not in found or row.acceptance_probability < found[depth].probability:
            found[depth] = Baseline(row.acceptance_probability, float(row.positions_tested), depth)
    return found


def thresholds(cases: Iterable[Case], baselines: dict[int, Baseline]) -> list[Threshold]:
    """
    How far acceptance falls in healthy streams, read by the detector itself.

    Args:
        cases: Healthy streams.
        baselines: Baseline of each draft depth.
    """
    refs = [SignalRef("acceptance_fall", Window(size, Unit.TOKENS)) for size in WINDOWS]
    readings: list[list[float]] = [[] for _ in refs]
    peaks: list[list[float]] = [[] for _ in refs]
    for case in cases:
        bank = DetectorBank(refs, baselines.get(case.num_speculative_tokens))
        mine: list[list[float]] = [[] for _ in refs]
        for sample in samples(case):
            bank.observe(sample)
            if any(step.drafted for step in sample.steps):
                for place, ref in enumerate(refs):
                    value = bank.read(ref)
                    if not math.isnan(value):
                        mine[place].append(value)
        for place, values in enumerate(mine):
            readings[place] += values
            peaks[place] += [max(values)] if values else []
    return [
        _threshold(size, values, tops) for size, values, tops in zip(WINDOWS, readings, peaks, strict=True) if values
    ]


def _threshold(window: int, values: list[float], peaks: list[float]) -> Threshold:
    ordered = sorted(values)
    allowed = math.floor(ALARM_SHARE * len(ordered))
    level = ordered[-max(allowed, 1)]
    return Threshold(
        window=window,
        windows=len(ordered),
        level=level,
        median=ordered[len(ordered) // 2],
        streams=len(peaks),
        alarmed=sum(peak >= level for peak in peaks),
        resolved=allowed >= 1,
    )


class Likelihood(NamedTuple):
    """
    How likely healthy streams held their tokens.

    Args:
        streams: Streams long enough for the window, whose log-probabilities are known.
        window: Length. Unit: tokens.
        lowest: Lowest mean over a window in any of them. Unit: nats.
        median: The middle one of all windows. Unit: nats.
        fall: Deepest fall below a stream's own earlier part; nan where none is long enough. Unit: nats.
    """

    streams: int
    window: int
    lowest: float
    median: float
    fall: float


def likelihood(cases: Iterable[Case], window: int = 64) -> Likelihood | None:
    """
    What the signals of log-probabilities read in healthy streams; None where no stream tells enough.

    Args:
        cases: Healthy streams.
        window: Length. Unit: tokens.
    """
    mean, fall = (SignalRef(name, Window(window, Unit.TOKENS)) for name in ("logprob_mean", "logprob_fall"))
    means: list[float] = []
    falls: list[float] = []
    streams = 0
    for case in cases:
        bank = bank_for((mean, fall), told=True)
        before = len(means)
        for sample in samples(case):
            if sample.logprobs:
                bank.observe(sample)
                means += [value for value in (bank.read(mean),) if not math.isnan(value)]
                falls += [value for value in (bank.read(fall),) if not math.isnan(value)]
        streams += len(means) > before
    if not means:
        return None
    means.sort()
    return Likelihood(streams, window, means[0], means[len(means) // 2], max(falls, default=math.nan))


def likelihood_in_words(found: Likelihood) -> str:
    """The same for a person."""
    fall = "" if math.isnan(found.fall) else f"; the deepest fall (logprob_fall) was {found.fall:.2f}"
    return (
        f"Mean log-probability over {found.window} tokens (logprob_mean) in {found.streams} streams that tell it:\n"
        f"  median {found.median:.2f}, lowest {found.lowest:.2f} nats{fall}"
    )


def in_words(profile: Profile, found: Sequence[Threshold]) -> str:
    """
    The outcome for a person.

    Args:
        profile: From `calibrate`.
        found: From `thresholds`.
    """
    lines = []
    for row in profile.rows:
        low, _, middle, _, high = row.prompt_quantiles
        positions = ", ".join(f"{share:.0%}" for share in row.position_acceptance)
        lines += [
            f"{row.num_speculative_tokens} drafted tokens at temperature {row.temperature:g}:",
            f"  acceptance length {row.mean_acceptance_length:.2f}; of single streams {low:.2f} to {high:.2f},"
            f" median {middle:.2f}",
            f"  lowest 16 verify steps in a row {row.lowest_window:.2f}",
            f"  kept by position: {positions} ({row.positions_tested} positions judged)",
        ]
    lines += ["", "How far acceptance fell below its reference in these healthy streams (acceptance_fall):"]
    for one in found:
        if one.resolved:
            lines.append(
                f"  over {one.window} tokens: a fall of {one.level:.2f} would have alarmed on 1 in"
                f" {round(1 / ALARM_SHARE):,} of these {one.windows:,} windows,"
                f" in {one.alarmed} of {one.streams} streams; the median is {one.median:.2f}"
            )
        else:
            lines.append(
                f"  over {one.window} tokens: the deepest fall was {one.level:.2f}, reached in {one.alarmed} of"
                f" {one.streams} streams; the median is {one.median:.2f}. {one.windows:,} windows are too few to"
                f" speak of 1 in {round(1 / ALARM_SHARE):,}"
            )
    lines += _advice(found)
    return "\n".join(lines)


def _advice(found: Sequence[Threshold]) -> list[str]:
    if not found:
        return ["  no stream is long enough for a window and the history it is compared with"]
    # Where one window was seen often enough to speak of, one that was not is no advice.
    best = max([one for one in found if one.resolved] or found, key=lambda one: one.room)
    if best.room < _LEAST_ROOM:
        return ["", "Healthy windows fall as far here as broken ones can: acceptance_fall is no evidence."]
    start = math.ceil(best.level * 100) / 100
    full = best.level + best.room * deepest_fall(best.window)
    end = math.floor((start + full) * 50) / 100
    lines = ["", "To leave such traffic alone, let a rule begin above what healthy windows reach, for example"]
    lines.append(f"  {{signal: acceptance_fall, window: {best.window} tokens, from: {start:.2f}, to: {end:.2f}}}")
    lines.append("and have it agree with a text signal before it acts. Windows overlap, so their counts are not")
    lines.append("independent trials: trust the number of streams more than the number of windows.")
    return lines


def calibrate_command(args: argparse.Namespace) -> int:
    """
    `guard calibrate`.

    Args:
        args: Parsed arguments: traces, out, draft, engine.

    Returns:
        0.

    Raises:
        ConfigError: A file is wrong, or holds no healthy stream.
    """
    cases = [case for path in args.traces for case in read_cases(Path(path))]
    healthy = [case for case in cases if case.kind is CaseKind.HEALTHY]
    if len(healthy) < len(cases):
        print(f"guard: {len(cases) - len(healthy)} cases are not healthy and were left out", file=sys.stderr)
    if not healthy:
        raise ConfigError("no healthy stream in " + ", ".join(map(str, args.traces)))
    engines = sorted({case.engine for case in healthy if case.engine})
    out = Path(args.out)
    profile = calibrate(
        healthy,
        draft=args.draft or (out.absolute().parent.name if out.stem == "profile" else out.stem),
        engine=args.engine or ", ".join(engines) or "unknown",
        conditions=f"{len(healthy)} recorded healthy streams; no speeds",
    )
    write_whole(out, _HEAD + msgspec.yaml.encode(profile))
    print(in_words(profile, thresholds(healthy, baselines_of(profile))))
    told = likelihood(healthy)
    if told is not None:
        print(f"\n{likelihood_in_words(told)}")
    print(f"\nwritten to {out}")
    return 0
