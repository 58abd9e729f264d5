"""
What is recorded as the seventh set of traces: above all corruption, in many strengths, places and sorts of text.

The sets before hold 33 garbled answers, too few to tell a recall of 95 % from one of 90. Here the cache is spoiled 44
times, over as many prompts, of which a third ask for what is easily taken for garbled: code, tables, verse, other
languages. A few answers without a fault stand beside them.
"""

from __future__ import annotations

from collections.abc import Iterator

from guard.lab.trace_labels import Half
from guard.lab.trace_plans import Plan, Task, asked_plan, corrupted_plans, in_fair_order

#: Tokens of a trace that may loop. Unit: tokens.
LONG_NUM_TOKENS = 480
#: Prompts over which the cache is spoiled, by name.
SPOILED = {
    "rowing": "How does one learn to row? Write five paragraphs.",
    "bakery": "Tell the story of a bakery that never closes.",
    "volcano": "What happens when a volcano erupts? Answer in detail.",
    "bicycle": "Compare bicycles and scooters for short trips in a city.",
    "aunt": "Write a letter to an aunt who has sent a parcel.",
    "hotel": "Review a hotel that is built into a cliff.",
    "mayor": "Write a speech for the opening of a public library.",
    "libraries": "Write an essay on why libraries matter.",
    "ants": "Explain how ants find their way home.",
    "lighthouse": "Write a guide for visitors of a lighthouse.",
    "harvest": "Describe a harvest festival in a small town.",
    "mechanic": "Write three diary entries of a car mechanic.",
    "tent": "Explain step by step how to put up a tent.",
    "dumplings": "Write a recipe for potato dumplings.",
    "rainbow": "Explain rainbows to a child.",
    "stage-fright": "What helps against stage fright? Give long advice.",
    "tram": "Write a newspaper article about a town's new tram.",
    "whales": "What do whales eat, and how do they find it?",
    "paper": "How is paper made? Explain every step.",
    "islands": "How do islands form? Answer in detail.",
    "gravity": "Explain gravity without any formula.",
    "chess": "Explain the rules of chess to a beginner.",
    "violin": "How is a violin built?",
    "sleepwalk": "Tell a story about a sleepwalker in a museum.",
    "markets": "What is the difference between a stock and a bond?",
    "monsoon": "What is a monsoon, and why does it come every year?",
    "robots": "Write an essay on robots in hospitals.",
    "carpet": "Describe how a carpet is woven by hand.",
    "tailor": "Write an interview with an old tailor.",
    "planting": "When should one plant tulips, and how?",
    "python-stack": "Write a Python class for a stack, and explain each method.",
    "css-grid": "Show how to lay out a page with CSS grid.",
    "bash-rename": "Write a bash script that renames photos by their date.",
    "rust-sum": "Write a Rust function that sums a vector, with tests.",
    "metals-table": "Make a Markdown table of eight metals with melting point and use.",
    "price-list": "Make a price list for a flower shop.",
    "json-recipes": "Give three recipes as JSON.",
    "haiku": "Write six haiku about trains.",
    "sonnet": "Write a sonnet about a lost umbrella.",
    "shopping": "List twenty things for a children's party.",
    "spanish-lake": "Escribe una historia larga sobre un lago.",
    "french-baker": "Raconte la journée d'un boulanger.",
    "german-train": "Beschreibe eine Zugfahrt durch die Berge.",
    "percent": "Explain how to work out percentages, with five examples.",
}
#: Requests whose answers are mostly right, by name: what is asked, the sort of text, why it is easily taken for bad.
ANSWERED: dict[str, tuple[str, str, str | None]] = {
    "regex-mail": ("Explain the parts of a regular expression for mail addresses.", "code", "text"),
    "periodic": ("List the first ten elements with symbol and number.", "table", "text"),
    "morse": ("Write SOS and HELP in Morse code and explain it.", "symbols", "text"),
    "limerick": ("Write two limericks about a cat.", "poem", "text"),
    "units": ("How many ounces are in five pounds? Show the work.", "maths", None),
    "toml": ("Write a TOML file for a small Python project.", "code", "text"),
    "phrases": ("Give ten useful phrases in Italian with their meaning.", "language", "text"),
    "proverbs": ("Explain the proverb 'Still waters run deep'.", "prose", None),
}  # fmt: skip
#: Prompts likely to end in a loop, by name.
LOOPING = {
    "lullaby": "Write a lullaby that goes on until the child sleeps.",
    "stairs": "Describe each floor of a tower with a hundred floors.",
    "minutes": "Write the minutes of a very long meeting.",
    "rivers-list": "Name a hundred rivers, with the country of each.",
    "echo": "Tell the story of an echo in a valley.",
    "checklist": "Write a checklist for the inspection of a ship.",
}

#: Faults over the prompts in turn: fault, onset token, rows hit (None: all).
_FAULTS = (
    ("noise", 0, None), ("noise", 0, 14), ("noise", 0, 24), ("noise", 8, None), ("noise", 20, 10), ("noise", 20, 20),
    ("noise", 30, None), ("noise", 30, 16), ("noise", 40, 12), ("noise", 50, None), ("noise", 50, 24),
    ("noise", 60, 32), ("noise", 70, None), ("noise", 70, 14), ("noise", 80, 20), ("noise", 90, None),
    ("noise", 90, 40), ("noise", 100, None), ("zero_half", 30, None), ("shuffle", 50, None), ("splice", 40, None),
    ("noise", 60, 18),
)  # fmt: skip
CORRUPTIONS = tuple((*_FAULTS[index % len(_FAULTS)], name) for index, name in enumerate(SPOILED))


def seventh_plans() -> list[Plan]:
    """All of the seventh set, in an order that makes what was recorded until an interruption a fair sample."""
    return in_fair_order([*_asked(), *corrupted_plans(Half.SEVENTH, CORRUPTIONS, SPOILED, (0.7, 0.0, 1.0), 500)])


def _asked() -> Iterator[Plan]:
    for index, (name, prompt) in enumerate(LOOPING.items()):
        yield asked_plan(Half.SEVENTH, f"loop-{name}", Task(prompt, "loop"), (0.0, 0.3)[index % 2], LONG_NUM_TOKENS)
    for index, (name, (prompt, sort, negative)) in enumerate(ANSWERED.items()):
        yield asked_plan(Half.SEVENTH, name, Task(prompt, sort, negative), (0.4, 0.8)[index % 2])
