"""
What is recorded as the third set of traces: other prompts, other sorts of loop, temperatures in between.

Made after all rules there were, so that figures on it tell whether those rules were only fitted to the first two sets.
The prompts that a small model loops over stand apart from those it mostly answers well; what a run came to, a reader
says.
"""

from __future__ import annotations

from collections.abc import Iterator

from guard.lab.inject import FaultPlan
from guard.lab.trace_labels import Half
from guard.lab.trace_plans import FIRST_ROW, LATE, LATE_NUM_TOKENS, NUM_TOKENS, Plan, in_fair_order

#: Draft depths. Unit: tokens.
DEPTHS = (3, 2, 5, 4)

#: Prompts likely to end in a loop, by name.
LOOPING = {
    "tips": "Give one hundred tips for saving water at home.",
    "faq": "Write a list of forty frequently asked questions about bicycles, each with its answer.",
    "rules": "Write the house rules of a library with fifty rules.",
    "timeline": "Write a timeline of a small town from 1900 to 2000, one line for each year.",
    "months": "Describe a garden in every month of the year, one paragraph for each month.",
    "menu": "Write the menu of a restaurant with eighty dishes, each with a price and a description.",
    "proverbs": "Invent sixty proverbs about rain.",
    "riddles": "Write thirty riddles with their answers.",
    "slogans": "Write fifty slogans for a shoe shop.",
    "wishes": "Write one hundred good wishes for a new year.",
    "dictionary": "Write a dictionary of words about the sea from A to Z, each with a long meaning.",
    "synonyms": "List as many synonyms of the word big as you can.",
    "colours": "Name two hundred colours and say what each reminds you of.",
    "lullaby": "Sing a very long lullaby to a small bear.",
    "prayer": "Write a long prayer of a sailor in a storm.",
    "argument": "Two neighbours argue about a tree and neither gives in. Write what they say, for many pages.",
    "phone": "Write a telephone call in which nobody understands the other.",
    "march": "Describe an army that marches through a valley, soldier after soldier.",
    "train": "Describe every station that a train passes on a journey of two days.",
    "library-shelf": "Describe each book on a shelf of three hundred books.",
    "echo": "Write a story in which an echo answers every sentence.",
    "getters": "Write a Java class with thirty private fields and a getter and a setter for each.",
    "switch": "Write a C function with a switch of sixty cases that turns a number into a word.",
    "asserts": "Write sixty assert statements that test a function called add.",
    "inserts": "Write one hundred SQL insert statements for a table of fruit.",
    "css": "Write a long CSS file for a shop with sixty classes.",
    "log": "Write a server log of one hundred lines in which a disk slowly fills up.",
    "minutes": "Write the minutes of a very long meeting about parking.",
    "history-tea": "Explain the history of tea in great detail.",
    "ocean": "Why is the ocean important? Give a very long answer.",
    "friendship": "What is friendship? Think about it at length.",
    "advice": "I cannot sleep. What should I do? Tell me everything you know.",
    "mountain": "Write an essay of a thousand words about a mountain.",
    "robot": "Tell a long story about a robot who learns to cook.",
    "italian": "Scrivi un lungo racconto su un pescatore e una barca.",
    "portuguese": "Escreva um texto longo sobre a cidade de Lisboa.",
    "dutch": "Schrijf een lang verhaal over een molen.",
    "primes": "List the first one hundred prime numbers and say of each why it is prime.",
    "multiplication": "Write the multiplication tables from 1 to 20 in words.",
    "roman": "Write the Roman numerals from 1 to 200.",
}

#: Tasks that mostly turn out well, by name: what is asked, the sort of text, why it is easily taken for a bad one.
ANSWERED: dict[str, tuple[str, str, str | None]] = {
    "vinegar": ("Explain why vinegar removes lime from a kettle.", "prose", None),
    "fox": ("Tell a short story about a fox who finds a lost glove.", "prose", None),
    "apology": ("Write a polite apology to a customer whose parcel came late.", "prose", None),
    "bread": ("How do I bake bread without a machine?", "steps", None),
    "tyre": ("How do I change a bicycle tyre? Answer in steps.", "steps", None),
    "moon": ("Why does the moon change its shape? Explain it to a ten-year-old.", "prose", None),
    "advert": ("Write an advertisement for a second-hand piano.", "prose", None),
    "job": ("Write a job description for a night nurse.", "list", None),
    "pros": ("What speaks for and against working from home?", "list", None),
    "toast": ("Write a short toast for a wedding.", "prose", None),
    "sorting": ("Write a Python function that sorts a list by bubble sort, and explain it.", "code", "text"),
    "rust": ("Write a Rust struct for a point with a method that gives the distance to another.", "code", "text"),
    "regex": ("Explain the regular expression ^[a-z]+@[a-z]+\\.com$ part by part.", "code", "text"),
    "dockerfile": ("Write a Dockerfile for a small Node application.", "code", "text"),
    "yaml": ("Write a YAML file that describes three servers with name, port and tags.", "json", "text"),
    "json-weather": ("Give the weather of five cities as a JSON array with city, temperature and wind.", "json",
                     "text"),
    "metals": ("Make a Markdown table of six metals with symbol, density and melting point.", "table", "text"),
    "prices": ("Make a table of ten vegetables with their price for each kilogram.", "table", "text"),
    "capitals": ("List the capitals of ten European countries.", "list", None),
    "haiku": ("Write four haiku about autumn.", "poem", None),
    "limerick": ("Write a limerick about a cat from Peru.", "poem", None),
    "percent": ("What is 15 percent of 240? Show your work.", "maths", None),
    "area": ("A field is 120 m long and 80 m wide. What are its area and its perimeter?", "maths", None),
    "norwegian": ("Skriv en kort fortelling om en fjord.", "language", "text"),
    "to-german": ("Translate into German: The library closes at six, but the reading room stays open until nine.",
                  "translation", None),
    "emoji": ("Write a cheerful invitation to a picnic with many emoji.", "symbols", "text"),
    "units": ("List ten physical units with their symbols.", "list", "text"),
    "sentence-ten": ("Write the sentence 'The tea is ready.' ten times.", "repeat", "text"),
    "alphabet": ("Write the alphabet, one letter on each line.", "repeat", "text"),
    "copy-notice": ("Copy this notice word for word: The lift is out of order until Friday. Please use the stairs at "
                    "the back of the hall. Deliveries go to the side door.", "copy", "high_accept"),
}  # fmt: skip

#: Tasks of the above over which the cache is corrupted: long enough, and prose.
FAULTED = ("history-tea", "robot", "ocean", "mountain", "friendship", "advice", "minutes", "moon", "bread", "pros")
#: Fault, onset token, rows hit from FIRST_ROW on (None: all).
CORRUPTIONS = (
    ("noise", 40, None), ("noise", 40, 20), ("noise", 110, None), ("noise", 110, 30), ("noise", 155, None),
    ("noise", 0, 10), ("zero_half", 40, None), ("zero_half", 110, None), ("zero_half", 155, 60), ("splice", 40, None),
    ("splice", 110, None), ("shuffle", 40, None),
)  # fmt: skip
#: Token at which the draft's own cache is overwritten.
DRAFT_ONSETS = (10, 50, 90, 130)


def fresh_plans() -> list[Plan]:
    """All of the third set, in an order that makes what was recorded until an interruption a fair sample."""
    made = [*_looping(), *_answered(), *_corrupted(), *_draft_only()]
    return in_fair_order(made)


def _looping() -> Iterator[Plan]:
    for index, (name, prompt) in enumerate(LOOPING.items()):
        temperature = (0.0, 0.0, 0.4, 0.0, 0.6)[index % 5]
        yield _plan(f"fresh-loop-{name}", prompt, "loop", temperature, DEPTHS[index % 4])


def _answered() -> Iterator[Plan]:
    for index, (name, (prompt, sort, negative)) in enumerate(ANSWERED.items()):
        temperature = (0.7, 0.2, 1.0, 0.5)[index % 4]
        yield _plan(f"fresh-{name}", prompt, sort, temperature, DEPTHS[index // 4 % 4], negative)


def _prompt(name: str) -> str:
    return LOOPING[name] if name in LOOPING else ANSWERED[name][0]


def _corrupted() -> Iterator[Plan]:
    for index, (fault, onset, rows) in enumerate(CORRUPTIONS):
        task = FAULTED[index % len(FAULTED)]
        yield Plan(
            f"fresh-{fault}-{rows or 'all'}-at{onset}-{task}",
            _prompt(task),
            fault,
            (0.7, 0.0, 1.0)[index % 3],
            DEPTHS[index % 4],
            LATE_NUM_TOKENS if onset >= LATE else NUM_TOKENS,
            fault=FaultPlan(fault, onset_token=onset, seed=100 + index, first_row=FIRST_ROW, num_rows=rows),
            half=Half.FRESH,
        )


def _draft_only() -> Iterator[Plan]:
    for index, onset in enumerate(DRAFT_ONSETS):
        task = FAULTED[(3 * index + 1) % len(FAULTED)]
        yield Plan(
            f"fresh-draft-noise-at{onset}-{task}",
            _prompt(task),
            "draft_only",
            0.7,
            DEPTHS[index % 4],
            NUM_TOKENS,
            draft_onset=onset,
            hard_negative="low_accept",
            half=Half.FRESH,
        )


def _plan(
    name: str, prompt: str, subkind: str, temperature: float, depth: int, hard_negative: str | None = None
) -> Plan:
    return Plan(
        f"{name}-t{temperature:g}-k{depth}",
        prompt,
        subkind,
        temperature,
        depth,
        hard_negative=hard_negative,
        half=Half.FRESH,
    )
