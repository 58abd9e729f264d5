"""
What is recorded as the fourth set of traces: made after the third had been read for what was missed.

More lists, records and floods than there, since two changes came of those; and requests whose right answers look alike.
"""

from __future__ import annotations

from collections.abc import Iterator

from guard.lab.inject import FaultPlan
from guard.lab.trace_labels import Half
from guard.lab.trace_plans import FIRST_ROW, NUM_TOKENS, Plan, in_fair_order

#: Prompts likely to end in a loop, by name.
LOOPING = {
    "uses": "List fifty uses of a brick.",
    "excuses": "Give me a list of forty excuses for being late, one on each line.",
    "quiz": "Write a list of thirty quiz questions about cheese.",
    "vows": "List all the promises that a mayor should make to a town.",
    "sights": "Create a list of sixty sights in Prague.",
    "habits": "List every habit of a good gardener.",
    "band-names": "Invent names for fifty bands.",
    "toasts": "Write thirty different birthday messages.",
    "headlines": "Write a list of forty newspaper headlines about snow.",
    "commandments": "Write all the commandments of a kitchen.",
    "reasons": "List one hundred reasons to learn to swim.",
    "museum-labels": "Write the labels of all objects in a museum of spoons.",
    "menu-soups": "Create the menu of a restaurant with fifty soups.",
    "train-times": "Write down every train that leaves a station in a day.",
    "recipes": "Give a list of thirty recipes with potatoes.",
    "stars": "Draw the night sky with characters.",
    "border": "Draw a long decorative border of flowers and leaves with emoji.",
    "hearts": "Send me many hearts and kisses.",
    "laugh": "Laugh for as long as you can.",
    "rain-sound": "Write down the sound of rain on a roof.",
    "drum": "Write down what a drum says during a parade.",
    "css-classes": "Write a style sheet for a newspaper.",
    "markdown": "Write a long Markdown document with many code blocks.",
    "enum": "Write an enum of all the countries in the world.",
    "routes": "Write all the routes of a web shop in Express.",
    "fixtures": "Write the fixtures of a football league.",
    "spider": "Explain how a spider builds its web, very thoroughly.",
    "honesty": "Is honesty always best? Discuss at great length.",
    "desert": "Tell me a very long story about a caravan in the desert.",
    "city": "Describe the perfect city, street by street.",
    "winter": "Write a long essay on winter.",
    "salt": "Explain in great detail where salt comes from.",
}

#: Requests whose answers are mostly right, by name.
ANSWERED: dict[str, tuple[str, str, str | None]] = {
    "zero-vector": ("Write a vector of sixty-four zeros in Python.", "code", "text"),
    "bitmap": ("Draw a square of 16 by 16 hash marks.", "symbols", "text"),
    "empty-table": ("Make an empty Markdown table with twenty numbered rows and three columns.", "table", "text"),
    "dummy-users": ("Generate dummy data: twenty users with id, name and e-mail.", "table", "text"),
    "chapters": ("Write a table of contents with chapter 1 to chapter 30 as placeholders.", "list", "text"),
    "ruler": ("Write a horizontal rule of eighty dashes.", "symbols", "text"),
    "lines-numbered": ("Write the line 'I must not be late.' fifteen times, numbered.", "repeat", "text"),
    "days": ("List the days of June as a checklist.", "list", "text"),
    "seats": ("List the seats of a small theatre: rows A to E, ten seats each.", "list", "text"),
    "candle": ("Why does a candle go out under a glass?", "prose", None),
    "umbrella": ("Tell a short story about a forgotten umbrella.", "prose", None),
    "invoice": ("Write a reminder for an unpaid invoice.", "prose", None),
    "tea": ("How do I make good tea? Answer in steps.", "steps", None),
    "reverse": ("Write a Python function that reverses a string, with a test.", "code", "text"),
    "weekdays": ("List the days of the week in French.", "list", None),
    "shopping": ("Write a shopping list for a pancake breakfast.", "list", None),
}  # fmt: skip

#: Fault, onset token, rows hit from FIRST_ROW on (None: all), task.
CORRUPTIONS = (
    ("noise", 60, None, "desert"), ("noise", 60, 24, "spider"), ("noise", 100, None, "winter"),
    ("noise", 20, 14, "candle"), ("zero_half", 60, None, "salt"), ("zero_half", 90, None, "umbrella"),
)  # fmt: skip


def later_plans() -> list[Plan]:
    """All of the fourth set, in an order that makes what was recorded until an interruption a fair sample."""
    return in_fair_order([*_asked(), *_corrupted()])


def _asked() -> Iterator[Plan]:
    for index, (name, prompt) in enumerate(LOOPING.items()):
        temperature = (0.0, 0.3, 0.0, 0.7)[index % 4]
        yield _plan(f"later-loop-{name}", prompt, "loop", temperature, None)
    for index, (name, (prompt, sort, negative)) in enumerate(ANSWERED.items()):
        yield _plan(f"later-{name}", prompt, sort, (0.7, 0.2, 1.0)[index % 3], negative)


def _corrupted() -> Iterator[Plan]:
    for index, (fault, onset, rows, task) in enumerate(CORRUPTIONS):
        prompt = LOOPING[task] if task in LOOPING else ANSWERED[task][0]
        yield Plan(
            f"later-{fault}-{rows or 'all'}-at{onset}-{task}",
            prompt,
            fault,
            (0.7, 0.0)[index % 2],
            3,
            NUM_TOKENS,
            fault=FaultPlan(fault, onset_token=onset, seed=200 + index, first_row=FIRST_ROW, num_rows=rows),
            half=Half.LATER,
        )


def _plan(name: str, prompt: str, subkind: str, temperature: float, hard_negative: str | None) -> Plan:
    return Plan(
        f"{name}-t{temperature:g}-k3", prompt, subkind, temperature, 3, hard_negative=hard_negative, half=Half.LATER
    )
