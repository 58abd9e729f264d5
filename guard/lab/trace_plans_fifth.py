"""
What is recorded as the fifth set of traces: made after the fourth had been read for what was missed.

Half of what may loop runs on for 300 tokens, since a loop that begins at the end of a recording can be found by
nobody. Sorts of text that no set before has much of: talk, letters, sums, other languages, verse, nested markup. What
is mostly answered well is what looks like a loop by right: tables, lists, refrains, code and records of one shape,
translations.
"""

from __future__ import annotations

from collections.abc import Iterator

from guard.lab.trace_labels import Half
from guard.lab.trace_plans import LATE_NUM_TOKENS, NUM_TOKENS, Plan, Task, asked_plan, corrupted_plans, in_fair_order

#: Prompts likely to end in a loop, by name.
LOOPING = {
    "chat": "Write a very long chat between a landlord and a tenant about a broken heater.",
    "knock": "Tell me as many knock-knock jokes as you can.",
    "lawyer": "Write the terms and conditions of a zoo.",
    "horoscope": "Write this week's horoscope for all twelve signs.",
    "weather-report": "Write the weather report of every day in March.",
    "sermon": "Write a sermon about patience.",
    "pledge": "Write an oath that all firefighters must swear.",
    "tongue": "Write tongue twisters about sheep, ships and shops.",
    "clouds": "How many kinds of clouds are there? Explain each of them.",
    "why-sky": "Why? Keep asking yourself why the sky is blue and answer yourself.",
    "dream": "Describe a dream in which you climb stairs that never end.",
    "detective": "Write a long crime story in which a detective questions the butler.",
    "tour": "Give a guided tour through a castle, room by room.",
    "recruit": "Interview yourself for a job as a gardener: questions and answers.",
    "math-proof": "Prove that the sum of two even numbers is even, in great detail.",
    "sums": "Work out 17 times 23 step by step and check your result in as many ways as you can.",
    "fractions": "Write out the decimal digits of one third, one seventh and one ninth.",
    "fibonacci": "Explain how each Fibonacci number comes about, number after number.",
    "chess": "Write down the moves of a long game of chess with comments.",
    "notes": "Write the notes of a tune for the flute.",
    "choir": "Write a song for a choir about the harvest, with ten stanzas.",
    "french": "Raconte une longue histoire sur un boulanger et son chat.",
    "spanish": "Escribe una carta muy larga a un amigo que vive en la costa.",
    "german": "Erkl\u00e4re ausf\u00fchrlich, wie ein K\u00fchlschrank funktioniert.",
    "polish": "Napisz d\u0142ugie opowiadanie o starym zegarze.",
    "latin": "Write a long text in Latin about Rome.",
    "svg": "Write an SVG picture of a forest.",
    "latex": "Write a LaTeX document with twenty equations.",
    "divs": "Write a web page with deeply nested boxes.",
    "json-config": "Write a big JSON configuration for a coffee machine.",
    "makefile": "Write a Makefile with targets for twenty programs.",
    "unit-tests": "Write unit tests for a calculator in JavaScript.",
    "imports": "Write all import lines that a data scientist needs.",
    "regexes": "Write regular expressions for all postal codes of the world.",
    "email-thread": "Write an e-mail thread between five colleagues about lunch.",
    "complaint": "Write a furious letter to a railway company.",
    "fitness": "Write a training plan for thirty days.",
    "compliments": "Say something nice about me, and then more and more.",
    "numbers-words": "Tell a fact about each number from one to fifty.",
    "pangrams": "Write sentences that begin with the word Because.",
    "glossary": "Explain the most important terms of beekeeping.",
    "philosopher": "What is time? Answer like a philosopher, in many paragraphs.",
}

#: Requests whose answers are mostly right, by name: what is asked, the sort of text, why it is easily taken for bad.
ANSWERED: dict[str, tuple[str, str, str | None]] = {
    "seven-table": ("Write the multiplication table of 7 as a table with two columns.", "table", "text"),
    "squares": ("List the squares of the numbers from 1 to 12, one on each line.", "list", "text"),
    "conjugate": ("Conjugate the English verb 'to walk' in the present and the past tense for all persons.", "table",
                  "text"),
    "crud": ("Write four Express routes: create, read, update and delete a book.", "code", "text"),
    "dataclass": ("Write a Python dataclass for a car with six fields, and a function that prints each of them.",
                  "code", "text"),
    "json-team": ("Write a JSON array of six players with name, number and position.", "json", "text"),
    "csv-stock": ("Write a CSV file of twelve tools with price and stock.", "table", "text"),
    "refrain": ("Write a short song about the sea in which every verse ends with 'Roll on, roll on.'", "poem", "text"),
    "row-boat": ("What are the words of 'Row, row, row your boat'?", "poem", "text"),
    "green-bottles": ("Write three verses of the song Ten Green Bottles.", "poem", "text"),
    "acrostic": ("Write an acrostic poem for the word WINTER.", "poem", None),
    "to-french": ("Translate into French: The train leaves at nine. The bus leaves at ten. The ship leaves at noon.",
                  "translation", "text"),
    "to-spanish": ("Translate into Spanish: I have a dog. You have a cat. She has a bird. We have a garden.",
                   "translation", "text"),
    "yes-no": ("Answer each with yes or no: Is water wet? Is fire cold? Is snow white? Is coal white? Is grass green?",
               "list", "text"),
    "opening-hours": ("Write the opening hours of a shop for each day of the week.", "list", "text"),
    "todo": ("Write a packing list for a weekend at the sea with check boxes.", "list", "text"),
    "compare-table": ("Compare tea and coffee in a Markdown table with five rows.", "table", "text"),
    "sql-rows": ("Write SQL that inserts five rows into a table of animals with name and legs.", "code", "text"),
    "html-list": ("Write an HTML list with eight kinds of fruit.", "code", "text"),
    "echo-lines": ("Write 'Hello, world!' twelve times, one on each line.", "repeat", "text"),
    "copy-list": ("Repeat this list exactly: red pen, blue pen, green pen, red book, blue book, green book, red cup, "
                  "blue cup, green cup.", "copy", "high_accept"),
    "rainbow": ("Why does a rainbow have seven colours? Answer in one paragraph.", "prose", None),
    "cat-story": ("Tell a short story about a cat that is afraid of snow.", "prose", None),
    "glue": ("How do I repair a broken cup? Answer in steps.", "steps", None),
    "thanks-note": ("Write a short note to thank a neighbour for watering the plants.", "prose", None),
    "triangle": ("The sides of a triangle are 3, 4 and 5. What is its area? Show your work.", "maths", None),
}  # fmt: skip

#: Fault, onset token, rows hit from FIRST_ROW on (None: all), task.
CORRUPTIONS = (
    ("noise", 50, None, "sermon"), ("noise", 80, 20, "lawyer"), ("noise", 120, None, "philosopher"),
    ("noise", 30, 12, "complaint"), ("noise", 70, None, "detective"), ("noise", 100, 40, "glossary"),
)  # fmt: skip


def fifth_plans() -> list[Plan]:
    """All of the fifth set, in an order that makes what was recorded until an interruption a fair sample."""
    return in_fair_order([*_asked(), *corrupted_plans(Half.FIFTH, CORRUPTIONS, LOOPING, (0.7, 0.0, 1.0), 300)])


def _asked() -> Iterator[Plan]:
    for index, (name, prompt) in enumerate(LOOPING.items()):
        temperature = (0.0, 0.3, 0.0, 0.6, 0.0)[index % 5]
        yield asked_plan(
            Half.FIFTH, f"loop-{name}", Task(prompt, "loop"), temperature, (NUM_TOKENS, LATE_NUM_TOKENS)[index % 2]
        )
    for index, (name, (prompt, sort, negative)) in enumerate(ANSWERED.items()):
        yield asked_plan(Half.FIFTH, name, Task(prompt, sort, negative), (0.6, 0.2, 0.9)[index % 3])
