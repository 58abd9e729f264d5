"""
What is recorded as the sixth set of traces: made after the fifth had been read for what was missed.

Small, and longer: what may loop goes on for 480 tokens, as answers do. What is mostly answered well is what goes round
by right: verse, dialogue, steps that come again, test plans, records.
"""

from __future__ import annotations

from collections.abc import Iterator

from guard.lab.trace_labels import Half
from guard.lab.trace_plans import Plan, Task, asked_plan, corrupted_plans, in_fair_order

#: Tokens of a trace that may loop. Unit: tokens.
LONG_NUM_TOKENS = 480
#: Prompts likely to end in a loop, by name.
LOOPING = {
    "harbour": "Tell a long story about a harbour pilot in the fog.",
    "tools-table": "Make a table of fifteen garden tools with weight and price.",
    "bird-list": "Give me a list of twenty birds with one sentence about each.",
    "rights": "Write the rights and duties of the members of a rowing club.",
    "sleep": "Why do people sleep? Explain everything that is known about it.",
    "interview-cook": "Write an interview with a ship's cook.",
    "yaml-hosts": "Write a YAML inventory of many servers.",
    "sorting": "Explain how a library sorts its books, in great detail.",
    "guide-tea": "Write a very detailed guide on how to brew tea.",
    "sales-log": "Write the sales log of a bakery.",
    "bridge-speech": "Write a long speech for the opening of a swimming pool.",
    "sonata": "Describe each movement of a symphony about a river.",
    "italian": "Scrivi una lunga storia su un pescatore e sua figlia.",
    "enum": "Write a C header with an enum of all the colours you know.",
    "advice": "Give advice to somebody who moves to a big city.",
    "glacier": "How does a glacier move? Answer as a professor would.",
}

#: Requests whose answers are mostly right, by name: what is asked, the sort of text, why it is easily taken for bad.
ANSWERED: dict[str, tuple[str, str, str | None]] = {
    "old-macdonald": ("What are the words of 'Old MacDonald had a farm'?", "poem", "text"),
    "knock-three": ("Tell me three knock-knock jokes.", "dialogue", "text"),
    "fold-dough": ("How do I fold a sourdough? Answer in steps.", "steps", "text"),
    "login-tests": ("How would you test a login form by hand? Give five test cases.", "steps", "text"),
    "tenancy": ("What must a tenant not do under a usual lease? Write five clauses.", "prose", "text"),
    "capitals-quiz": ("Ask me five questions about capitals, each with three answers to choose from.", "list", "text"),
    "long-addition": ("Add 478 and 356 by hand and explain each step.", "maths", None),
    "getters": ("Write a Java class for a customer with three fields and their getters and setters.", "code", "text"),
    "tides": ("When is high water this week? Invent a table of seven days.", "table", "text"),
    "breathing": ("Guide me through a breathing exercise of five rounds.", "prose", "text"),
}  # fmt: skip

#: Fault, onset token, rows hit from FIRST_ROW on (None: all), task.
CORRUPTIONS = (
    ("noise", 40, None, "harbour"), ("noise", 90, 24, "sleep"), ("noise", 60, 12, "advice"),
    ("noise", 110, None, "glacier"),
)  # fmt: skip


def sixth_plans() -> list[Plan]:
    """All of the sixth set, in an order that makes what was recorded until an interruption a fair sample."""
    return in_fair_order([*_asked(), *corrupted_plans(Half.SIXTH, CORRUPTIONS, LOOPING, (0.7, 0.0), 400)])


def _asked() -> Iterator[Plan]:
    for index, (name, prompt) in enumerate(LOOPING.items()):
        yield asked_plan(
            Half.SIXTH, f"loop-{name}", Task(prompt, "loop"), (0.0, 0.4, 0.0, 0.2)[index % 4], LONG_NUM_TOKENS
        )
    for index, (name, (prompt, sort, negative)) in enumerate(ANSWERED.items()):
        yield asked_plan(Half.SIXTH, name, Task(prompt, sort, negative), (0.3, 0.8)[index % 2])
