"""
What is recorded as the eighth set of traces: a check of rules that were made on all the sets before.

A third of each kind of trouble over prompts of its own: caches spoiled from hardly at all to wholly, requests that a
small model answers with a loop, and answers that are mostly right beside them. It is labelled before any policy runs
on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from guard.lab.trace_labels import Half
from guard.lab.trace_plans import Plan, Task, asked_plan, corrupted_plans, in_fair_order

#: Tokens of a trace that may loop. Unit: tokens.
LONG_NUM_TOKENS = 480
#: Prompts over which the cache is spoiled, by name.
SPOILED = {
    "ferry": "Write a short story about a ferry in the fog.",
    "vaccines": "How do vaccines work? Answer in five paragraphs.",
    "attic": "Describe what two children find in an attic.",
    "bees-city": "Should people keep bees in cities? Argue for it.",
    "piano": "Write an advertisement for a used piano.",
    "glacier": "How do glaciers shape a valley?",
    "neighbour": "Write a letter of complaint about a loud neighbour.",
    "bread": "Explain how to bake rye bread, step by step.",
    "satellite": "How does a satellite stay in its orbit?",
    "postman": "Tell the life of a village postman.",
    "coffee": "Compare tea and coffee in the morning.",
    "marathon": "Give advice to somebody who runs a first marathon.",
    "museum-night": "Write a news report about a night at the museum.",
    "sailmaker": "Describe the workshop of a sailmaker.",
    "debts": "Explain interest on debts to a pupil.",
    "owl": "What do owls do at night?",
    "python-csv": "Write a Python script that adds up a column of a CSV file.",
    "html-form": "Write an HTML form with name, mail address and message.",
    "trees-table": "Make a Markdown table of seven trees with height and age.",
    "packing": "Make a packing list for two weeks in the mountains.",
    "autumn-poem": "Write a poem of five verses about autumn.",
    "italian-market": "Descrivi un mercato di pesce al mattino.",
    "spanish-letter": "Escribe una carta a un viejo amigo.",
    "averages": "Explain mean, median and mode with numbers.",
}
#: Requests whose answers are mostly right, by name: what is asked, the sort of text, why it is easily taken for bad.
ANSWERED: dict[str, tuple[str, str, str | None]] = {
    "cron": ("Explain the five fields of a cron line with three examples.", "code", "text"),
    "scale": ("Write the notes of the C major scale up and down.", "symbols", "text"),
    "ini-file": ("Write an INI file for a mail server.", "code", "text"),
    "nine-times": ("Write out the times table of nine.", "maths", "acceptance"),
    "rhyme": ("Write a counting rhyme for children.", "poem", "acceptance"),
    "moon": ("Why do we always see the same side of the moon?", "prose", None),
}  # fmt: skip
#: Prompts likely to end in a loop, by name.
LOOPING = {
    "months": "Describe the weather of every month of ten years.",
    "village-list": "Name two hundred villages of France.",
    "mantra": "Write a mantra for patience.",
    "primes": "List the prime numbers and say of each why it is one.",
    "corridor": "Describe a corridor with a thousand doors.",
    "excuses": "Give a hundred excuses for being late.",
    "roll-call": "Write the roll call of a very large school class.",
    "waves": "Describe the waves at a beach, one after the other.",
    "tests-go": "Write Go unit tests for every case of a calculator.",
    "inventory": "Write the inventory of a hardware shop.",
    "anthem": "Write an anthem with a chorus for a small island.",
    "sql-rows": "Write SQL statements that insert one hundred users.",
}

#: Faults over the prompts in turn: fault, onset token, rows hit (None: all).
_FAULTS = (
    ("noise", 0, None), ("noise", 0, 20), ("noise", 10, 12), ("noise", 25, None), ("noise", 25, 18), ("noise", 45, 28),
    ("noise", 45, None), ("noise", 65, 14), ("noise", 65, None), ("noise", 85, 24), ("zero_half", 50, None),
    ("noise", 100, None), ("noise", 15, 36), ("splice", 30, None), ("noise", 55, 16), ("shuffle", 70, None),
)  # fmt: skip
CORRUPTIONS = tuple((*_FAULTS[index % len(_FAULTS)], name) for index, name in enumerate(SPOILED))


def eighth_plans() -> list[Plan]:
    """All of the eighth set, in an order that makes what was recorded until an interruption a fair sample."""
    return in_fair_order([*_asked(), *corrupted_plans(Half.EIGHTH, CORRUPTIONS, SPOILED, (0.0, 1.0, 0.7), 700)])


def _asked() -> Iterator[Plan]:
    for index, (name, prompt) in enumerate(LOOPING.items()):
        yield asked_plan(Half.EIGHTH, f"loop-{name}", Task(prompt, "loop"), (0.0, 0.3)[index % 2], LONG_NUM_TOKENS)
    for index, (name, (prompt, sort, negative)) in enumerate(ANSWERED.items()):
        yield asked_plan(Half.EIGHTH, name, Task(prompt, sort, negative), (0.4, 0.8)[index % 2])
