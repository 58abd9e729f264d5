"""The HTML report of a backtest: one file that needs no network, for deciding on a threshold."""

from __future__ import annotations

import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import accumulate
from pathlib import Path
from typing import Final, Self

from guard.errors import ConfigError
from guard.lab.backtest import Figures
from guard.lab.cases import BAD_KINDS, CaseKind
from guard.lab.files import write_pieces
from guard.lab.report_page import page
from guard.lab.report_plots import Curve, case_plot, chart, found_within, levels, reached, sparkline
from guard.lab.tries import Outcome, Tried
from guard.policy.schema import Policy

#: Characters of text shown before the first mark and after each.
_BEFORE, _AFTER = 240, 320
#: Characters of the prompt shown.
_ASKED = 240
#: End of the delay axis. Unit: tokens.
_LONGEST_DELAY = 1024.0
#: Categories whose characters are shown as numbers: they would be invisible or turn the text around.
_UNSEEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_RANK = {outcome: rank for rank, outcome in enumerate(Outcome)}
#: What drawn cases may take of memory before they wait on disk. Unit: bytes.
_IN_MEMORY: Final = 8 << 20


class DrawnCases:
    """
    What was drawn of each case, up to some ten kilobytes, until the report is put together: in a temporary file.

    A context manager, for the file.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed in __exit__
        self._ends = [0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def keep(self, drawn: str) -> None:
        """
        Of the next case.

        Raises:
            ConfigError: There is no room for it.
        """
        data = drawn.encode()
        try:
            self._file.write(data)
        except OSError as error:
            raise ConfigError(f"cannot be written: {error.strerror}", path=tempfile.gettempdir()) from error
        self._ends.append(self._ends[-1] + len(data))

    def of(self, number: int) -> str:
        """What was drawn of a case, counted from 0. Nothing is to be kept after the first call."""
        self._file.seek(self._ends[number])
        return self._file.read(self._ends[number + 1] - self._ends[number]).decode()


def write_report(
    path: Path, policy: Policy, found: Figures, tried: Sequence[Tried], drawn: DrawnCases, notes: Sequence[str] = ()
) -> None:
    """
    Write the report.

    Args:
        path: Where to; replaced as a whole, its folder made when absent.
        policy: What was tried.
        found: The sums.
        tried: The cases.
        drawn: By `draw` of each of them.
        notes: What else must be known to read it: of which files, against what; one paragraph each.

    Raises:
        ConfigError: The file cannot be written.
    """
    write_pieces(path, (piece.encode() for piece in report(policy, found, tried, drawn, notes)))


def report(
    policy: Policy, found: Figures, tried: Sequence[Tried], drawn: DrawnCases, notes: Sequence[str] = ()
) -> Iterator[str]:
    """The report as one HTML document, in pieces; see write_report."""
    return page(f"Backtest of {policy.name}", _body(policy, found, tried, drawn, notes))


def _body(
    policy: Policy, found: Figures, tried: Sequence[Tried], drawn: DrawnCases, notes: Sequence[str]
) -> Iterator[str]:
    yield from (
        f"<h1>Backtest of {escape(policy.name)}</h1>",
        f'<p class="soft">{escape(policy.description)} {found.cases} cases.</p>',
        *(f'<p class="soft lines">{escape(note)}</p>' for note in notes),
        '<div class="side">',
        _kinds_table(found),
        _healthy_table(found),
        "</div>",
        *_rescore(found),
        "<h2>Where a threshold could stand</h2>",
        '<div class="charts">',
        _threshold_chart(policy, tried),
        _delay_chart(tried),
        "</div>",
        "<h2>Cases</h2>",
        _tools(tried),
        _HEAD,
        '<div id="cases">',
    )
    ordered = sorted(enumerate(tried), key=lambda one: (_RANK[one[1].outcome], -one[1].result.peak))
    yield from (drawn.of(number) for number, _ in ordered)
    yield "</div>"


def _row(cells: Iterable[object], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"


def _table(name: str, rows: Iterable[str]) -> str:
    """A table that scrolls for itself where the window is narrow, by its keys too."""
    return f'<div class="scroll" role="region" aria-label="{name}" tabindex="0"><table>{"".join(rows)}</table></div>'


def _kinds_table(found: Figures) -> str:
    rows = [
        _row(
            (
                "kind",
                "cases",
                "detected",
                "recall",
                "median delay, tokens",
                "90th percentile",
                "bad tokens shown, median",
            ),
            "th",
        )
    ]
    for kind, part in found.kinds.items():
        figures = (part.delay_tokens_median, part.delay_tokens_p90, part.bad_tokens_shown_median)
        told = ["–" if figure is None else f"{figure:g}" for figure in figures]
        rows.append(_row((kind, part.cases, part.detected, f"{part.recall:.1%}", *told)))
    return _table("Bad cases by kind", rows)


def _healthy_table(found: Figures) -> str:
    healthy = found.healthy
    rows = [_row(("healthy", "cases", "stopped", "share"), "th")]
    parts = [("all", healthy.cases, healthy.false_positives)]
    for sort, part in healthy.by_hard_negative.items():
        parts.append(("ordinary" if sort == "null" else sort, part.cases, part.false_positives))
    rows += [_row((name, cases, bad, f"{bad / cases:.1%}" if cases else "–")) for name, cases, bad in parts]
    return _table("Healthy cases", rows)


def _rescore(found: Figures) -> list[str]:
    part = found.rescore_only
    if not part.cases:
        return []
    return [
        f"<p>{part.cases} streams are wrong but fluent, which only re-scoring can tell; they count neither as"
        f" missed nor as false positives. Stopped all the same: {part.acted}.</p>"
    ]


def _threshold_chart(policy: Policy, tried: Sequence[Tried]) -> str:
    curves = []
    for style, kind in zip(("c1", "c2", "c3"), BAD_KINDS, strict=True):
        group = [one for one in tried if one.case.kind is kind]
        if group:
            curves.append(Curve(style, kind.value, reached(group)))
    healthy = [one for one in tried if one.case.kind is CaseKind.HEALTHY]
    for style, name, hard in (("c4", "healthy", False), ("c5", "healthy, hard", True)):
        group = [one for one in healthy if (one.case.hard_negative is not None) is hard]
        if group:
            curves.append(Curve(style, name, reached(group)))
    ticks = [(tick / 4, f"{tick / 4:g}") for tick in range(5)]
    drawn = chart("Share of cases whose suspicion reached a threshold", curves, ticks, levels(policy.hold_back))
    return (
        f"<figure>{drawn}<figcaption>Share of cases whose suspicion reached a threshold (horizontal axis); bad cases"
        " from where the fault began. A good threshold has the bad kinds high and the healthy ones at zero. A case ends"
        " where the policy acts, so that nothing is known beyond that level.</figcaption></figure>"
    )


def _delay_chart(tried: Sequence[Tried]) -> str:
    curves = []
    for style, kind in zip(("c1", "c2", "c3"), BAD_KINDS, strict=True):
        group = [one for one in tried if one.case.kind is kind]
        if group:
            curves.append(Curve(style, kind.value, found_within(group, _LONGEST_DELAY)))
    ticks = [(power / 10, str(2**power)) for power in range(0, 11, 2)]
    drawn = chart("Share of bad cases found within a delay", curves, ticks)
    return (
        f"<figure>{drawn}<figcaption>Share of all bad cases found within so many tokens of the fault (logarithmic)."
        " A line that ends low misses cases; one that rises late shows much garbage first.</figcaption></figure>"
    )


_HEAD = (
    '<div class="head"><span>outcome</span><span>case</span><span>label</span><span>rule</span>'
    '<span class="num">delay</span><span class="num">peak</span><span>suspicion</span></div>'
)


def _tools(tried: Sequence[Tried]) -> str:
    counts = Counter(one.outcome for one in tried)
    show = [("", f"all {len(tried)}"), *((o.value, f"{o.value} {counts[o]}") for o in Outcome if counts[o])]
    sorts = ("outcome", "kind", "peak", "delay", "held", "name")
    buttons = [_button("show", value, name, pressed=value == "") for value, name in show]
    buttons.append('<span class="soft">sorted by</span>')
    buttons += [_button("sort", key, key, pressed=key == "outcome") for key in sorts]
    return f'<div class="tools">{"".join(buttons)}</div>'


def _button(group: str, value: str, name: str, *, pressed: bool) -> str:
    flag = "true" if pressed else "false"
    return f'<button type="button" data-group="{group}" data-{group}="{value}" aria-pressed="{flag}">{name}</button>'


def draw(policy: Policy, tried: Tried) -> str:
    """
    A case in the report.

    Args:
        policy: What was tried.
        tried: The case, whole and run with its trace.
    """
    case, result = tried
    outcome, delay = tried.outcome, tried.delay
    label = f"{case.kind.value}{f', {case.hard_negative}' if case.hard_negative else ''}"
    facts = [f"{case.tokens} tokens, {case.num_speculative_tokens} drafted a step"]
    if case.subkind:
        facts.insert(0, case.subkind)
    if result.held_chunks:
        facts.append(f"{result.held_chunks} of {result.chunk} chunks waited")
    said = f"<p><b>{escape(result.rule)}</b> ({result.kind}): {escape(result.reason)}</p>" if result.rule else ""
    asked = f"<p>asked: <q>{_visible(case.prompt, 0, _ASKED)}</q></p>" if case.prompt else ""
    style = outcome.value.replace(" ", "-")
    return (
        f'<details class="{style}" data-outcome="{outcome.value}" data-rank="{_RANK[outcome]}"'
        f' data-kind="{case.kind.value}" data-peak="{result.peak:g}" data-delay="{"" if delay is None else delay}"'
        f' data-held="{result.held_chunks}" data-name="{escape(case.id)}"><summary><span class="tag">{outcome.value}'
        f'</span><span>{escape(case.id)}</span><span class="wide">{escape(label)}</span>'
        f'<span class="wide">{escape(result.rule)}</span><span class="wide num">{"" if delay is None else delay}</span>'
        f'<span class="wide num">{result.peak:.2f}</span>{sparkline(tried)}</summary><div class="inside">'
        f'<p class="soft">{escape("; ".join(facts))}</p>{asked}{said}{case_plot(tried, policy.hold_back)}'
        f"<pre>{_excerpt(tried)}</pre></div></details>"
    )


def _excerpt(tried: Tried) -> str:
    """The text around what happened, with marks in it; of a clean case, around its highest suspicion."""
    case, result = tried
    ends = list(accumulate(chunk.tokens for chunk in case.chunks))
    marks: list[tuple[int, str, str]] = []
    if case.first_bad_token is not None:
        marks.append((_place(tried, ends, case.first_bad_token), "fault", "fault begins"))
    if result.onset is not None:
        marks.append((_place(tried, ends, result.onset), "onset", "onset estimated"))
        marks.append((_place(tried, ends, result.token), "verdict", result.action.value))
    text = "".join(chunk.text for chunk in case.chunks)
    if not marks:
        peak = max(range(len(result.suspicion)), key=result.suspicion.__getitem__, default=0)
        at = sum(len(chunk.text) for chunk in case.chunks[: peak + 1])
        return _visible(text, max(0, at - _BEFORE - _AFTER), min(len(text), at + _AFTER))
    marks.sort()
    out = []
    place = max(0, marks[0][0] - _BEFORE)
    for index, (at, style, name) in enumerate(marks):
        stop = min(at, len(text))
        if stop - place > 2 * _AFTER:
            out += [_visible(text, place, place + _AFTER), f" <i>… {stop - place - 2 * _AFTER} characters …</i> "]
            place = stop - _AFTER
        out += [_visible(text, place, stop), f'<b class="{style}">{name}</b>']
        place = stop
        if index == len(marks) - 1:
            out.append(_visible(text, place, min(len(text), place + _AFTER)))
    return "".join(out)


def _place(tried: Tried, ends: Sequence[int], token: int) -> int:
    """Character at which a token stands, as far as chunks tell."""
    return sum(len(chunk.text) for chunk, end in zip(tried.case.chunks, ends, strict=True) if end <= token)


def _visible(text: str, start: int, stop: int) -> str:
    """Part of a text as HTML in which nothing is invisible."""
    return "".join(_shown(character) for character in text[start:stop])


def _shown(character: str) -> str:
    if character == "\n":
        return "<i>↵</i>\n"
    if character != "\t" and unicodedata.category(character) in _UNSEEN:
        return f"<i>\\u{ord(character):04x}</i>"
    return escape(character)
