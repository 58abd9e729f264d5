"""guard.lab.progress: a bar on a terminal, lines elsewhere."""

import io

from guard.lab.progress import BarProgress, LineProgress, Progress, best_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_name_the_step_and_its_size() -> None:
    out = io.StringIO()
    with LineProgress(out) as progress:
        progress.start("fetching", 98_362_432)
        progress.advance(5)
        progress.start("starting")
    assert out.getvalue() == "fetching (98 MB) ...\nstarting ...\n"


def test_a_terminal_gets_a_bar_and_a_pipe_gets_lines() -> None:
    assert isinstance(best_progress(Terminal()), BarProgress)
    assert isinstance(best_progress(io.StringIO()), LineProgress)


def test_a_bar_takes_steps_of_known_and_unknown_size() -> None:
    with BarProgress() as bar:
        bar.advance(1)  # before any step: nothing to move
        bar.start("one", 10)
        bar.advance(10)
        bar.start("two")


def test_the_base_says_nothing() -> None:
    with Progress() as silent:
        silent.start("anything")
        silent.advance(1)
