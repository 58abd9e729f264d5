"""
Healthy answers whose lines are much the same by right: no rule on loops stops them.

They are read as if the draft had guessed every token, which is the worst that acceptance can say of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

import pytest

from guard.core.monitor import Monitor
from guard.policy.judge import Judge
from guard.shipped import find_policy
from guard.types import Action, Channel, Sample, StepAcceptance

#: Tokens about as a large vocabulary has them.
_TOKEN = re.compile(r" ?[A-Za-z]{1,8}| ?[0-9]{1,3}|\n *| {2,}|[^\sA-Za-z0-9]{1,2}|\s|.")
#: Tokens of a verify step, of which the last is the target's own.
_STEP = 4


def hanoi(disks: int, source: str, goal: str, spare: str) -> Iterator[tuple[int, str, str]]:
    """The moves of the towers of Hanoi."""
    if disks:
        yield from hanoi(disks - 1, source, spare, goal)
        yield disks, source, goal
        yield from hanoi(disks - 1, spare, goal, source)


def lines(frame: str, rows: object) -> str:
    """One line for each row."""
    return "".join(frame.format(*row) for row in rows)  # type: ignore[attr-defined]


DAYS = [(day,) for day in "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()]  # noqa: SIM905
MOVES = list(hanoi(4, "A", "C", "B"))
LIMBS = [(limb,) for limb in "toes feet ankles calves knees thighs hips belly chest shoulders arms hands".split()]  # noqa: SIM905
CASES = [(*case, case[0] & case[1] | case[2] & case[3]) for case in product((1, 0), repeat=4)]
PERSONS = ("I", "you", "he", "we", "they")
TENSES = (("Present", "walk"), ("Past", "walked"), ("Future", "will walk"), ("Perfect", "have walked"))

ANSWERS = {
    "opening hours": ("When is the museum open?", lines("- **{}**: 9:00 AM - 5:00 PM\n", DAYS)),
    "towers": ("How do I solve the Tower of Hanoi?", lines("Move disk {} from rod {} to rod {}.\n", MOVES)),
    "towers, counted": (
        "Solve the Tower of Hanoi with four disks.",
        lines("{}. Move disk {} from rod {} to rod {}.\n", [(n, *move) for n, move in enumerate(MOVES, 1)]),
    ),
    "five towers": (
        "Show me all moves of the Tower of Hanoi.",
        lines("Move disk {} from rod {} to rod {}.\n", hanoi(5, "A", "C", "B")),
    ),
    "tenses": (
        "How is the verb to walk conjugated?",
        "".join(f"{name}: {', '.join(f'{who} {form}' for who in PERSONS)}.\n" for name, form in TENSES),
    ),
    "factorial": (
        "Explain how factorial works.",
        lines("factorial({}) calls factorial({}) and waits for its result.\n", [(n, n - 1) for n in range(12, 0, -1)])
        + lines("factorial({}) returns its result to factorial({}).\n", [(n, n + 1) for n in range(12)]),
    ),
    "truth": ("Evaluate (A and B) or (C and D) for all cases.", lines("A={}, B={}, C={}, D={}: result {}\n", CASES)),
    "table of truth": (
        "What is a truth table of (A and B) or (C and D)?",
        lines("| {} | {} | {} | {} | {} |\n", CASES),
    ),
    "sums": (
        "How is 1 to 20 added up?",
        lines("Add {}: the sum is now {}.\n", [(n, n * (n + 1) // 2) for n in range(1, 21)]),
    ),
    "sevens": ("What is seven times everything?", lines("7 times {} is {}.\n", [(n, 7 * n) for n in range(1, 31)])),
    "kings": (
        "Who ruled England?",
        lines("- King {} {} ruled England.\n", product(("Henry", "Edward", "Richard"), ("I", "II", "III", "IV"))),
    ),
    "trains": (
        "Which trains go to York?",
        lines("- {:02d}:{:02d}, arrives {:02d}:{:02d}\n", [(h, m, h + 2, m) for h in range(6, 22) for m in (5, 35)]),
    ),
    "trains, in sentences": (
        "Which trains go to York today?",
        lines("The train at {}:15 goes to York and arrives at {}:15.\n", [(h, h + 2) for h in range(6, 22)]),
    ),
    "planets": (
        "Describe the solar system.",
        lines("**{}**\n- Type: planet\n- Orbits: the Sun\n- Moons: {}\n\n", [
            ("Mercury", 0), ("Venus", 0), ("Earth", 1), ("Mars", 2), ("Jupiter", 95), ("Saturn", 146),
        ]),
    ),
    "waiting": (
        "How do HTTP retries back off?",
        lines("Attempt {}: wait {} seconds, then try again.\n", [(n, 2**n) for n in range(1, 16)]),
    ),
    "pins": (
        "How do I set up the pins?",
        lines("Connect pin {0} of the board to pin {0} of the display.\n", [(n,) for n in range(1, 17)]),
    ),
    "iterations": (
        "What does the loop print?",
        lines("Iteration {}: i = {}, total = {}\n", [(n, n, n * (n - 1) // 2) for n in range(1, 25)]),
    ),
    "rounds": (
        "What is a workout for today?",
        lines("Round {}: 20 squats, 10 push-ups, 30 seconds of rest.\n", [(n,) for n in range(1, 13)]),
    ),
    "rows": (
        "How do I knit a scarf?",
        lines("Row {}: {} all stitches to the end of the row, then turn.\n",
              [(n, ("knit", "purl")[n % 2]) for n in range(1, 25)]),
    ),
    "ribs": (
        "How do I knit a scarf in rib?",
        lines("Row {}: *K2, P2; repeat from * to end.\n", [(n,) for n in range(1, 25)]),
    ),
    "body": (
        "Guide me through a body scan.",
        lines("Now bring your attention to your {0}. Notice how your {0} feels. Let your {0} relax.\n\n", LIMBS),
    ),
}  # fmt: skip


def samples(text: str) -> Iterator[Sample]:
    """A text in steps of which nothing was rejected."""
    tokens = _TOKEN.findall(text)
    for start in range(0, len(tokens), _STEP):
        piece = tokens[start : start + _STEP]
        step = StepAcceptance(len(piece) - 1, len(piece) - 1, len(piece), True)
        yield Sample(0, ((Channel.CONTENT, "".join(piece)),), len(piece), (step,))


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_alike_line_by_line_are_no_loops(name: str) -> None:
    prompt, text = ANSWERS[name]
    monitor = Monitor(Judge(find_policy("default")), None, prompt)
    seen = [monitor.observe((sample,)) for sample in samples(text)]
    assert not [verdict.reason for verdict in seen if verdict.action not in {Action.PASS, Action.HOLD}]


def test_the_same_line_for_ever_is_one() -> None:
    text = lines("The train at {}:15 goes to York and arrives at 12:15.\n", [(10,)] * 24)
    monitor = Monitor(Judge(find_policy("default")), None, "Which trains go to York today?")
    assert Action.RETRY in [monitor.observe((sample,)).action for sample in samples(text)]
