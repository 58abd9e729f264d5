"""How the demo looks in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from guard.lab.story import Answer, FaultOutcome

_BARS = "▁▃▅▇█"
_COLOURS = ("red", "yellow", "green", "green", "green")
#: Steps in one line of a sparkline.
_STEPS_PER_LINE = 80


class Sparkline:
    """
    Prints one bar for each verify step as it happens: the higher, the more of the draft was kept.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._attempt = 0
        self._steps = 0

    def step(self, attempt: int, accepted: int, drafted: int) -> None:
        """One verify step; a step without a draft shows nothing."""
        if drafted <= 0:
            return
        if attempt != self._attempt:
            self.end()
            self._attempt = attempt
            self._console.print(f"  attempt {attempt}  ", end="")
        elif self._steps % _STEPS_PER_LINE == 0:
            self._console.print("\n             ", end="")
        level = round(accepted / drafted * (len(_BARS) - 1))
        self._console.print(Text(_BARS[level], style=_COLOURS[level]), end="")
        self._steps += 1

    def end(self) -> None:
        """Finish the line, if one is open."""
        if self._attempt:
            self._console.print()
        self._attempt = self._steps = 0


class Show:
    """
    The account of the demo.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.sparkline = Sparkline(console)

    def scene(self, number: int, title: str, about: str) -> None:
        """Begin a scene."""
        self.console.print()
        self.console.rule(f"[bold]{number}. {title}", align="left")
        self.console.print(Text(about, style="dim"))

    def healthy(self, answer: Answer) -> None:
        """The reference."""
        self.sparkline.end()
        length = acceptance_length(answer.record.attempts[0].accepted, answer.record.attempts[0].drafted)
        self.console.print(
            f"  verdict [green]pass[/], mean acceptance length {length:.2f}, "
            f"{answer.record.tokens_shown} tokens in {answer.seconds:.1f} s"
        )
        self._text("what the client saw", answer.text, "green")

    def fault(self, outcome: FaultOutcome, answer: Answer) -> None:
        """What became of one fault."""
        self.sparkline.end()
        first = answer.record.attempts[0]
        length = acceptance_length(first.accepted, first.drafted)
        if outcome.verdict == "pass":
            self.console.print(f"  verdict [yellow]pass[/]: not found, mean acceptance length {length:.2f}")
        else:
            self.console.print(
                f"  verdict [red]{outcome.verdict}[/] ({outcome.kind}) "
                f"{outcome.detection_delay_tokens} tokens after the onset: {outcome.reason}"
            )
        self.console.print(
            f"  {outcome.attempts} attempt(s), {answer.record.tokens_shown} tokens shown, "
            f"{outcome.tokens_burned} burned, {outcome.seconds:.1f} s in all"
        )
        self._text("what the client saw", answer.text, "green" if outcome.client_text_clean else "yellow")
        self._verdict(outcome, answer)

    def _verdict(self, outcome: FaultOutcome, answer: Answer) -> None:
        if outcome.equals_healthy_answer:
            self.console.print("  [bold green]✓[/] the healthy answer, byte for byte")
        elif outcome.client_text_clean:
            shown = answer.record.attempts[0].tokens_shown
            self.console.print(
                f"  [bold green]✓[/] {shown} healthy tokens, then continued on a clean cache; nothing after the "
                f"onset at token {outcome.onset_token} was shown"
            )
        elif outcome.known_miss:
            self.console.print(
                "  [bold yellow]![/] a known miss: the cache of another conversation reads as fluent text, and "
                "acceptance stays normal; only re-scoring can tell"
            )
        else:
            self.console.print(f"  [bold red]✗[/] not rescued {f'({answer.error})' if answer.error else ''}")

    def _text(self, title: str, text: str, style: str) -> None:
        self.console.print(Panel(Text(_shortened(text)), title=title, title_align="left", border_style=style))


def acceptance_length(accepted: list[int], drafted: list[int]) -> float:
    """
    Mean tokens emitted per verify step that had a draft, the bonus token included; 1 without any.

    Args:
        accepted: Accepted draft tokens of each step. Unit: tokens.
        drafted: Drafted tokens of each step. Unit: tokens.
    """
    kept = [a for a, d in zip(accepted, drafted, strict=True) if d > 0]
    return 1 + sum(kept) / len(kept) if kept else 1.0


def _shortened(text: str, size: int = 360) -> str:
    text = text.strip()
    if len(text) <= size:
        return text
    half = size // 2
    return f"{text[:half].rstrip()} […] {text[-half:].lstrip()}"
